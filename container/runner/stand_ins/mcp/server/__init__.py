"""Names for annotations."""


class Server: ...
