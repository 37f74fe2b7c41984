"""Folders of the owner's that agents see."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "mounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("agent_group_id", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("read_only", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.Column("notice", sa.Text(), server_default="", nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mounts")),
        sa.UniqueConstraint("agent_group_id", "name", name=op.f("uq_mounts_agent_group_id_name")),
        sa.UniqueConstraint("agent_group_id", "source", name=op.f("uq_mounts_agent_group_id_source")),
        sa.ForeignKeyConstraint(["agent_group_id"], ["agent_groups.id"], name=op.f("fk_mounts_agent_group_id")),
    )
