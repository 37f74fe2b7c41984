"""Names for annotations."""


class CallToolResult: ...


class ListToolsResult: ...


class RequestId: ...


class Tool: ...


class ToolAnnotations:
    """The SDK derives from it as from a pydantic model."""

    def __init_subclass__(cls, extra: str = "ignore") -> None:
        """Take pydantic's keyword."""
