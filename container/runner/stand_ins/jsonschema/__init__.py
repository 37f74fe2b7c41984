"""A stand-in: what claude-agent-sdk imports and, without in-process MCP servers, never calls."""


class ValidationError(Exception):
    """Named by the SDK in an `except`."""


def validate(instance: object, schema: object) -> None:
    """Refuse to pretend."""
    raise NotImplementedError("the runner has no JSON Schema validation")
