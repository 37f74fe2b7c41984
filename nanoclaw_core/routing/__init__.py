"""From an accepted message to the sessions that hear it, and from an agent's words to the people they are for."""
