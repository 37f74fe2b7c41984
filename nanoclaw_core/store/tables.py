"""The tables of the central database, with every invariant that a database can hold.

Times are seconds since the epoch as floats. Everything here exists in SQLite and in PostgreSQL alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
    text,
)

if TYPE_CHECKING:
    from sqlalchemy.dialects.sqlite import Insert

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)


def _when(condition: str) -> dict[str, Any]:  # keywords of `Index`, which takes each dialect's own
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


installation = Table(
    "installation",
    metadata,
    Column("key", Text, primary_key=True),
    Column("value", Text, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
)

agent_groups = Table(
    "agent_groups",
    metadata,
    Column("id", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("folder", Text, nullable=False),
    Column("is_main", Boolean, nullable=False),
    Column("model", Text),
    Column("created_at", Float(53), nullable=False),
)
Index("uq_agent_groups_name", func.lower(agent_groups.c.name), unique=True)
Index("uq_agent_groups_folder", func.lower(agent_groups.c.folder), unique=True)  # some file systems ignore case
Index("uq_agent_groups_main", agent_groups.c.is_main, unique=True, **_when("is_main"))

roles = Table(
    "roles",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("user_id", Text, ForeignKey("users.id"), nullable=False),
    Column("role", Text, nullable=False),
    Column("agent_group_id", Text, ForeignKey("agent_groups.id")),  # null: everywhere
    Column("granted_at", Float(53), nullable=False),
)
Index("uq_roles", roles.c.user_id, roles.c.role, func.coalesce(roles.c.agent_group_id, text("''")), unique=True)

messaging_groups = Table(
    "messaging_groups",
    metadata,
    Column("id", Text, primary_key=True),
    Column("channel", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("chat", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("is_group", Boolean, nullable=False),
    Column("created_at", Float(53), nullable=False),
    UniqueConstraint("channel", "account", "chat"),
)

wirings = Table(
    "wirings",
    metadata,
    Column("id", Text, primary_key=True),
    Column("messaging_group_id", Text, ForeignKey("messaging_groups.id"), nullable=False),
    Column("agent_group_id", Text, ForeignKey("agent_groups.id"), nullable=False),
    Column("engage_mode", Text, nullable=False),
    Column("pattern", Text, nullable=False),
    Column("created_at", Float(53), nullable=False),
    UniqueConstraint("messaging_group_id", "agent_group_id"),
    CheckConstraint("engage_mode IN ('pattern', 'mention')", name="engage_mode"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("agent_group_id", Text, ForeignKey("agent_groups.id"), nullable=False),
    Column("messaging_group_id", Text, ForeignKey("messaging_groups.id"), nullable=False),
    Column("thread", Text),
    Column("folder", Text, nullable=False),
    Column("attention", BigInteger, nullable=False, server_default="0"),
    Column("settled", BigInteger, nullable=False, server_default="0"),
    Column("created_at", Float(53), nullable=False),
)
Index(
    "uq_sessions",
    sessions.c.agent_group_id,
    sessions.c.messaging_group_id,
    func.coalesce(sessions.c.thread, text("''")),
    unique=True,
)
Index("ix_sessions_attention", sessions.c.id, **_when("attention > settled"))

workers = Table(
    "workers",
    metadata,
    Column("id", Text, primary_key=True),
    Column("session_id", Text, ForeignKey("sessions.id"), nullable=False),
    Column("secret_hash", Text, nullable=False),
    Column("image", Text, nullable=False),
    Column("container_id", Text),
    Column("claimed_at", Float(53), nullable=False),
    Column("started_at", Float(53)),
    Column("ended_at", Float(53)),
    Column("reason", Text),
    Column("adoptions", Integer, nullable=False, server_default="0"),
)
Index("uq_workers_live", workers.c.session_id, unique=True, **_when("ended_at IS NULL"))

events = Table(
    "events",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("channel", Text, nullable=False),
    Column("account", Text, nullable=False),
    Column("chat", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("payload", Text, nullable=False),
    Column("received_at", Float(53), nullable=False),
    Column("routed_at", Float(53)),
    Column("outcome", Text),
    UniqueConstraint("channel", "account", "chat", "message_id"),
    sqlite_autoincrement=True,  # a sequence number is never given twice, whatever was deleted
)
Index("ix_events_unrouted", events.c.seq, **_when("routed_at IS NULL"))

cursors = Table(
    "cursors",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("cursor", Text, nullable=False),
)

strangers = Table(
    "strangers",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("account", Text, primary_key=True),
    Column("chat", Text, primary_key=True),
    Column("count", BigInteger, nullable=False),
    Column("first_seen", Float(53), nullable=False),
    Column("last_seen", Float(53), nullable=False),
)

pairings = Table(
    "pairings",
    metadata,
    Column("channel", Text, primary_key=True),
    Column("code_hash", Text, nullable=False),
    Column("made_at", Float(53), nullable=False),
    Column("expires_at", Float(53), nullable=False),
    Column("guesses", Integer, nullable=False, server_default="0"),
    Column("ending", Text),
    Column("used_by", Text),
    CheckConstraint("ending IN ('paired', 'guessed', 'seen')", name="ending"),
)

mounts = Table(
    "mounts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("agent_group_id", Text, ForeignKey("agent_groups.id"), nullable=False),
    Column("source", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("read_only", Boolean, nullable=False),
    Column("created_at", Float(53), nullable=False),
    Column("notice", Text, nullable=False, server_default=""),
    UniqueConstraint("agent_group_id", "name"),
    UniqueConstraint("agent_group_id", "source"),
)

# The books name agents and sessions by id, without foreign keys: they outlive what they are about.
_TOKENS = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")

model_calls = Table(
    "model_calls",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", Float(53), nullable=False),
    Column("day", Text, nullable=False),
    Column("agent_group_id", Text, nullable=False),
    Column("session_id", Text, nullable=False),
    Column("task", Text),
    Column("model", Text, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in _TOKENS),
    Column("status", Text, nullable=False),
    Column("cost", BigInteger),  # in billionths of a US dollar; null: unknown
    Column("priced_as_of", Text),
    CheckConstraint("status IN ('complete', 'incomplete')", name="status"),
)
Index("ix_model_calls_at", model_calls.c.at)

model_days = Table(
    "model_days",
    metadata,
    Column("day", Text, primary_key=True),
    Column("agent_group_id", Text, primary_key=True),
    Column("session_id", Text, primary_key=True),
    Column("task", Text, primary_key=True),
    Column("model", Text, primary_key=True),
    Column("calls", BigInteger, nullable=False),
    Column("incomplete", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    *(Column(name, BigInteger, nullable=False) for name in _TOKENS),
    Column("cost", BigInteger, nullable=False),
)

budgets = Table(
    "budgets",
    metadata,
    Column("agent_group_id", Text, primary_key=True),
    Column("per_day", BigInteger),
    Column("unit", Text, nullable=False),
    Column("warn_percent", Integer, nullable=False),
    Column("per_minute", Integer),
    Column("day", Text, nullable=False),
    Column("spent", BigInteger, nullable=False),
    Column("warned_on", Text),
    CheckConstraint("unit IN ('usd', 'tokens')", name="unit"),
)


def insert_into(conn: Connection, table: Table) -> Insert:
    """An INSERT that knows ON CONFLICT, in the dialect of `conn`."""
    return insert_for(conn.dialect.name, table)


def insert_for(dialect: str, table: Table) -> Insert:
    """The same by the dialect's name, for statements that are made once.

    Both dialects' classes take the same calls; SQLite's stands for either.
    """
    from sqlalchemy.dialects import postgresql, sqlite

    if dialect == "postgresql":
        return postgresql.insert(table)  # type: ignore[return-value]  # the same methods, without a common class
    return sqlite.insert(table)


def new_id() -> str:
    """A fresh id, fit for file and container names."""
    return uuid4().hex[:16]
