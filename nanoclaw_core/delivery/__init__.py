"""From an agent's outbound rows to the people on the platforms."""
