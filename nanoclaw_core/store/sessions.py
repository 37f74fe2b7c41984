"""Sessions: the conversations of agent groups, and which of them have work."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, func, select, update

from nanoclaw_core.models import Session
from nanoclaw_core.store.tables import agent_groups, insert_into, new_id
from nanoclaw_core.store.tables import sessions as table

#: Made once, because every message needs them: to build a statement takes longer than to run it.
_KNOWN: Final = select(table).where(
    table.c.agent_group_id == bindparam("agent"),
    table.c.messaging_group_id == bindparam("chat"),
    func.coalesce(table.c.thread, "") == bindparam("place"),
)
_MARK: Final = update(table).where(table.c.id == bindparam("session")).values(attention=table.c.attention + 1)


def ensure_session(
    conn: Connection, *, agent_group_id: str, messaging_group_id: str, thread: str | None, now: float
) -> Session:
    """The session of an agent group in a chat, or in one thread of it; made when it is needed first."""
    key = {"agent": agent_group_id, "chat": messaging_group_id, "place": thread or ""}
    known = conn.execute(_KNOWN, key).one_or_none()
    if known is None:
        session_id = new_id()
        folder = conn.execute(select(agent_groups.c.folder).where(agent_groups.c.id == agent_group_id)).scalar_one()
        values = {
            "id": session_id,
            "agent_group_id": agent_group_id,
            "messaging_group_id": messaging_group_id,
            "thread": thread,
            "folder": f"sessions/{folder}/{session_id}",
            "created_at": now,
        }
        conn.execute(insert_into(conn, table).values(values).on_conflict_do_nothing())
        known = conn.execute(_KNOWN, key).one()  # another writer may have been first
    return record(known)


def session(conn: Connection, session_id: str) -> Session:
    """The session with this id.

    Raises:
        NoResultFound: there is none.
    """
    return record(conn.execute(select(table).where(table.c.id == session_id)).one())


def find_session(conn: Connection, session_id: str) -> Session | None:
    """The session with this id, if there is one."""
    row = conn.execute(select(table).where(table.c.id == session_id)).one_or_none()
    return None if row is None else record(row)


def sessions(conn: Connection) -> list[Session]:
    """All sessions, oldest first."""
    return [record(row) for row in conn.execute(select(table).order_by(table.c.created_at, table.c.id))]


def of_chat(conn: Connection, messaging_group_id: str, limit: int) -> list[Session]:
    """The sessions of a chat and its threads, newest first, at most `limit` of them."""
    query = select(table).where(table.c.messaging_group_id == messaging_group_id)
    return [record(row) for row in conn.execute(query.order_by(table.c.created_at.desc(), table.c.id).limit(limit))]


def count(conn: Connection) -> int:
    """How many sessions there are."""
    return conn.execute(select(func.count()).select_from(table)).scalar_one()


def next_sessions(conn: Connection, after: str, limit: int) -> list[Session]:
    """The sessions that follow the id `after` in the order of ids, at most `limit` of them."""
    return [record(row) for row in conn.execute(select(table).where(table.c.id > after).order_by(table.c.id).limit(limit))]


def mark_attention(conn: Connection, session_id: str) -> None:
    """Note that something in the session's mailbox waits, before it is put there."""
    conn.execute(_MARK, {"session": session_id})


def attention(conn: Connection) -> list[tuple[Session, int]]:
    """The sessions that may have work, each with how far its marks have been seen: hand that to `settle`.

    So a start looks into the mailboxes of these alone, however many sessions there are.
    """
    query = select(table).where(table.c.attention > table.c.settled).order_by(table.c.id)
    return [(record(row), row.attention) for row in conn.execute(query)]


def marks(conn: Connection, session_id: str) -> int | None:
    """How far the session's marks have been seen, to be handed to `settle`; None when it has no work."""
    query = select(table.c.attention).where(table.c.id == session_id, table.c.attention > table.c.settled)
    return conn.execute(query).scalar()


def settle(conn: Connection, session_id: str, seen: int) -> None:
    """Note that the session was found idle after mark `seen`; marks that came later stay."""
    conn.execute(update(table).where(table.c.id == session_id, table.c.settled < seen).values(settled=seen))


def record(row: Row[Any]) -> Session:
    """A row of the table, perhaps with more columns, as a record."""
    return Session(
        id=row.id,
        agent_group_id=row.agent_group_id,
        messaging_group_id=row.messaging_group_id,
        thread=row.thread,
        folder=row.folder,
    )
