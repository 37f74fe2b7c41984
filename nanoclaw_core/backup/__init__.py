"""The whole home in one file: made while the host runs, verified, and restored."""
