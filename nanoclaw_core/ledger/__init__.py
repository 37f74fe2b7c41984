"""Money: what the calls of the model take and cost, and what agent groups may spend."""
