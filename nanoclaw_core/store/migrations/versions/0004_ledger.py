"""What the model's calls cost: each call, the totals of each day, and the budgets of agent groups."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "model_calls",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("at", sa.Float(precision=53), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("agent_group_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        *_tokens(),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("cost", sa.BigInteger(), nullable=True),
        sa.Column("priced_as_of", sa.Text(), nullable=True),
        sa.CheckConstraint("status IN ('complete', 'incomplete')", name=op.f("ck_model_calls_status")),
        sa.PrimaryKeyConstraint("seq", name="pk_model_calls"),
    )
    op.create_index("ix_model_calls_at", "model_calls", ["at"])
    op.create_table(
        "model_days",
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("agent_group_id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("calls", sa.BigInteger(), nullable=False),
        sa.Column("incomplete", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        *_tokens(),
        sa.Column("cost", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("day", "agent_group_id", "session_id", "task", "model", name="pk_model_days"),
    )
    op.create_table(
        "budgets",
        sa.Column("agent_group_id", sa.Text(), nullable=False),
        sa.Column("per_day", sa.BigInteger(), nullable=True),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("warn_percent", sa.Integer(), nullable=False),
        sa.Column("per_minute", sa.Integer(), nullable=True),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.Column("warned_on", sa.Text(), nullable=True),
        sa.CheckConstraint("unit IN ('usd', 'tokens')", name=op.f("ck_budgets_unit")),
        sa.PrimaryKeyConstraint("agent_group_id", name="pk_budgets"),
    )


def _tokens() -> list[sa.Column[int]]:
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    return [sa.Column(name, sa.BigInteger(), nullable=False) for name in names]
