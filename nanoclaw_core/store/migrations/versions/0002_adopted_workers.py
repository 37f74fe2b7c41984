"""How often a worker was taken over by a host that had not started it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    with op.batch_alter_table("workers", recreate="auto") as workers:
        workers.add_column(sa.Column("adoptions", sa.Integer(), nullable=False, server_default="0"))
