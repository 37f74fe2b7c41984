"""The pytest plugin that comes with nanoclaw-core: fixtures prefixed `nanoclaw_`, imported when used."""
