"""Names for annotations."""


class SessionMessage: ...
