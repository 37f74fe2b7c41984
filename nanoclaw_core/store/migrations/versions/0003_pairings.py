"""Codes by which a chat of a channel becomes an owner's: one for each channel, hashed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "pairings",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("code_hash", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Float(precision=53), nullable=False),
        sa.Column("expires_at", sa.Float(precision=53), nullable=False),
        sa.Column("guesses", sa.Integer(), server_default="0", nullable=False),
        sa.Column("ending", sa.Text(), nullable=True),
        sa.Column("used_by", sa.Text(), nullable=True),
        sa.CheckConstraint("ending IN ('paired', 'guessed', 'seen')", name=op.f("ck_pairings_ending")),
        sa.PrimaryKeyConstraint("channel", name="pk_pairings"),
    )
