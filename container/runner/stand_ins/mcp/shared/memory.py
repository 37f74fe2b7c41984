"""Streams of in-process servers, of which the runner has none."""


def create_client_server_memory_streams() -> None:
    """Refuse to pretend."""
    raise NotImplementedError("the runner has no in-process MCP servers")
