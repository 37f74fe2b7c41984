"""A stand-in: what claude-agent-sdk imports of the MCP SDK and, without in-process MCP servers, never calls."""
