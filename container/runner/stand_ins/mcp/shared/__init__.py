"""What both sides of MCP share."""
