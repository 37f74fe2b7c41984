"""Alembic runs this file: the migrations go through the connection that `store.migrate` opened."""

from __future__ import annotations

from alembic import context

from nanoclaw_core.store.tables import metadata

# SQLite cannot alter most things in place: batch mode copies the table. The transaction around it all is the caller's.
context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
