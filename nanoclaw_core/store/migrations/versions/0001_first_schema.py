"""The first schema.

There are no downgrades: the way back is the copy that was made before the upgrade.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "agent_groups",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("is_main", sa.Boolean(), nullable=False),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_agent_groups"),
    )
    op.create_index(
        "uq_agent_groups_main",
        "agent_groups",
        ["is_main"],
        unique=True,
        sqlite_where=sa.text("is_main"),
        postgresql_where=sa.text("is_main"),
    )
    op.create_table(
        "cursors",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("channel", "account", name="pk_cursors"),
    )
    op.create_table(
        "events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("chat", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("received_at", sa.Float(precision=53), nullable=False),
        sa.Column("routed_at", sa.Float(precision=53), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
        sa.UniqueConstraint("channel", "account", "chat", "message_id", name="uq_events_channel_account_chat_message_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_events_unrouted",
        "events",
        ["seq"],
        unique=False,
        sqlite_where=sa.text("routed_at IS NULL"),
        postgresql_where=sa.text("routed_at IS NULL"),
    )
    op.create_table(
        "installation",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_installation"),
    )
    op.create_table(
        "messaging_groups",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("chat", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("is_group", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_messaging_groups"),
        sa.UniqueConstraint("channel", "account", "chat", name="uq_messaging_groups_channel_account_chat"),
    )
    op.create_table(
        "strangers",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("chat", sa.Text(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_seen", sa.Float(precision=53), nullable=False),
        sa.Column("last_seen", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("channel", "account", "chat", name="pk_strangers"),
    )
    op.create_table(
        "users",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_users"),
    )
    op.create_table(
        "roles",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("user_id", sa.Text(), nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("agent_group_id", sa.Text(), nullable=True),
        sa.Column("granted_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name="fk_roles_user_id"),
        sa.ForeignKeyConstraint(["agent_group_id"], ["agent_groups.id"], name="fk_roles_agent_group_id"),
        sa.PrimaryKeyConstraint("id", name="pk_roles"),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("agent_group_id", sa.Text(), nullable=False),
        sa.Column("messaging_group_id", sa.Text(), nullable=False),
        sa.Column("thread", sa.Text(), nullable=True),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("attention", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("settled", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.ForeignKeyConstraint(["agent_group_id"], ["agent_groups.id"], name="fk_sessions_agent_group_id"),
        sa.ForeignKeyConstraint(["messaging_group_id"], ["messaging_groups.id"], name="fk_sessions_messaging_group_id"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
    )
    op.create_index(
        "ix_sessions_attention",
        "sessions",
        ["id"],
        unique=False,
        sqlite_where=sa.text("attention > settled"),
        postgresql_where=sa.text("attention > settled"),
    )
    op.create_table(
        "wirings",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("messaging_group_id", sa.Text(), nullable=False),
        sa.Column("agent_group_id", sa.Text(), nullable=False),
        sa.Column("engage_mode", sa.Text(), nullable=False),
        sa.Column("pattern", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(precision=53), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_wirings"),
        sa.UniqueConstraint("messaging_group_id", "agent_group_id", name="uq_wirings_messaging_group_id_agent_group_id"),
        sa.CheckConstraint("engage_mode IN ('pattern', 'mention')", name=op.f("ck_wirings_engage_mode")),
        sa.ForeignKeyConstraint(["messaging_group_id"], ["messaging_groups.id"], name="fk_wirings_messaging_group_id"),
        sa.ForeignKeyConstraint(["agent_group_id"], ["agent_groups.id"], name="fk_wirings_agent_group_id"),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("session_id", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.Text(), nullable=False),
        sa.Column("image", sa.Text(), nullable=False),
        sa.Column("container_id", sa.Text(), nullable=True),
        sa.Column("claimed_at", sa.Float(precision=53), nullable=False),
        sa.Column("started_at", sa.Float(precision=53), nullable=True),
        sa.Column("ended_at", sa.Float(precision=53), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["session_id"], ["sessions.id"], name="fk_workers_session_id"),
        sa.PrimaryKeyConstraint("id", name="pk_workers"),
    )
    op.create_index(
        "uq_workers_live",
        "workers",
        ["session_id"],
        unique=True,
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )
    op.create_index("uq_agent_groups_name", "agent_groups", [sa.text("lower(name)")], unique=True)
    op.create_index("uq_agent_groups_folder", "agent_groups", [sa.text("lower(folder)")], unique=True)
    op.create_index("uq_roles", "roles", ["user_id", "role", sa.text("coalesce(agent_group_id, '')")], unique=True)
    op.create_index(
        "uq_sessions", "sessions", ["agent_group_id", "messaging_group_id", sa.text("coalesce(thread, '')")], unique=True
    )
