"""Messaging groups, the chats that are known, and wirings, which agents hear them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, delete, exists, insert, select, update

from nanoclaw_core.errors import InvalidPattern
from nanoclaw_core.models import Address, EngageMode, MessagingGroup, Wiring
from nanoclaw_core.store.tables import agent_groups, insert_into, messaging_groups, new_id, strangers, wirings


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranger:
    """A chat that nobody wired: how many messages came from there, and when the last one. Nothing else is known of it."""

    channel: str
    account: str
    chat: str
    count: int
    last_seen: float


def ensure_messaging_group(
    conn: Connection, *, channel: str, account: str, chat: str, name: str, is_group: bool, now: float
) -> MessagingGroup:
    """Know this chat; a name that is not empty replaces the one that is known, and `is_group` is what the platform says now."""
    key = {"channel": channel, "account": account, "chat": chat}
    known = find_messaging_group(conn, channel, account, chat)
    if known is None:
        values = {"id": new_id(), **key, "name": name, "is_group": is_group, "created_at": now}
        return _chat(conn.execute(insert(messaging_groups).values(values).returning(messaging_groups)).one())
    news = {"name": name or known.name, "is_group": is_group}
    if news == {"name": known.name, "is_group": known.is_group}:
        return known
    change = update(messaging_groups).where(messaging_groups.c.id == known.id).values(news)
    return _chat(conn.execute(change.returning(messaging_groups)).one())


def messaging_group(conn: Connection, messaging_group_id: str) -> MessagingGroup:
    """The chat with this id.

    Raises:
        NoResultFound: there is none.
    """
    return _chat(conn.execute(select(messaging_groups).where(messaging_groups.c.id == messaging_group_id)).one())


def find_messaging_group(conn: Connection, channel: str, account: str, chat: str) -> MessagingGroup | None:
    """The chat that a platform calls `chat`, if it is known."""
    table = messaging_groups.c
    query = select(messaging_groups).where(table.channel == channel, table.account == account, table.chat == chat)
    row = conn.execute(query).one_or_none()
    return None if row is None else _chat(row)


def move(conn: Connection, *, address: Address, new: str, now: float) -> None:
    """The platform calls the chat at `address` by the id `new` now: it keeps its wirings, sessions and name. Twice is as once.

    Where the new id is known already, both stay, and the new one gets the wirings that it lacks.
    """
    known = find_messaging_group(conn, address.channel, address.account, address.chat)
    if known is None:
        return
    other = find_messaging_group(conn, address.channel, address.account, new)
    if other is None:
        conn.execute(update(messaging_groups).where(messaging_groups.c.id == known.id).values(chat=new))
        return
    for wiring in wirings_of(conn, known.id):
        values = {"agent_group_id": wiring.agent_group_id, "engage_mode": wiring.engage_mode.value, "pattern": wiring.pattern}
        insertion = insert_into(conn, wirings).values(id=new_id(), messaging_group_id=other.id, **values, created_at=now)
        conn.execute(insertion.on_conflict_do_nothing())


def wire(
    conn: Connection,
    *,
    messaging_group_id: str,
    agent_group_id: str,
    engage_mode: EngageMode,
    pattern: str,
    now: float,
) -> Wiring:
    """Let an agent hear a chat, or change how it engages there.

    Raises:
        InvalidPattern: with `EngageMode.PATTERN`, `pattern` is no regular expression.
    """
    if engage_mode is EngageMode.PATTERN:
        _require_regex(pattern)
    ends = {"messaging_group_id": messaging_group_id, "agent_group_id": agent_group_id}
    rule = {"engage_mode": engage_mode.value, "pattern": pattern}
    insertion = insert_into(conn, wirings).values(id=new_id(), **ends, **rule, created_at=now)
    upsert = insertion.on_conflict_do_update(index_elements=list(ends), set_=rule)
    return _wiring(conn.execute(upsert.returning(wirings)).one())


def wirings_of(conn: Connection, messaging_group_id: str) -> list[Wiring]:
    """The wirings of a chat, oldest first."""
    query = select(wirings).where(wirings.c.messaging_group_id == messaging_group_id)
    return [_wiring(row) for row in conn.execute(query.order_by(wirings.c.created_at, wirings.c.id))]


def destinations(conn: Connection, agent_group_id: str) -> list[MessagingGroup]:
    """The chats that an agent is wired to, and so may write to, in the order in which they were wired."""
    query = select(messaging_groups).join(wirings).where(wirings.c.agent_group_id == agent_group_id)
    return [_chat(row) for row in conn.execute(query.order_by(wirings.c.created_at, wirings.c.id))]


def wirings_listed(conn: Connection) -> list[tuple[Wiring, MessagingGroup, str]]:
    """Every wiring with its chat and its agent's name, oldest first."""
    query = select(wirings, agent_groups.c.name.label("agent")).join(agent_groups)
    rows = conn.execute(query.order_by(wirings.c.created_at, wirings.c.id)).all()
    return [(_wiring(row), messaging_group(conn, row.messaging_group_id), row.agent) for row in rows]


def unwire(conn: Connection, wiring_id: str) -> None:
    """Let an agent not hear a chat any more. The chat stays known, and what was said there stays said."""
    conn.execute(delete(wirings).where(wirings.c.id == wiring_id))


def chats_of(conn: Connection, channel: str) -> list[MessagingGroup]:
    """The chats of a channel that are known."""
    query = select(messaging_groups).where(messaging_groups.c.channel == channel)
    return [_chat(row) for row in conn.execute(query.order_by(messaging_groups.c.created_at, messaging_groups.c.id))]


def strangers_seen(conn: Connection) -> list[Stranger]:
    """The chats that wrote without being wired, those that wrote last first; what was wired since is left out."""
    same = (messaging_groups.c[name] == strangers.c[name] for name in ("channel", "account", "chat"))
    wired = exists().where(wirings.c.messaging_group_id == messaging_groups.c.id, *same)
    query = select(strangers).where(~wired).order_by(strangers.c.last_seen.desc())
    rows = conn.execute(query).mappings()
    return [Stranger(**{name: row[name] for name in Stranger.__slots__}) for row in rows]


def _require_regex(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise InvalidPattern(pattern, str(error)) from error


def _chat(row: Row[Any]) -> MessagingGroup:
    return MessagingGroup(
        id=row.id, channel=row.channel, account=row.account, chat=row.chat, name=row.name, is_group=row.is_group
    )


def _wiring(row: Row[Any]) -> Wiring:
    return Wiring(
        id=row.id,
        messaging_group_id=row.messaging_group_id,
        agent_group_id=row.agent_group_id,
        engage_mode=EngageMode(row.engage_mode),
        pattern=row.pattern,
    )
