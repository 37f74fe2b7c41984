"""What the central database remembers of accepted messages: read by `nanoclaw messages` and `nanoclaw why`, never written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, select, text

from nanoclaw_core.models import Address, InboundKind, InboundMessage, Session, Wiring
from nanoclaw_core.store import agents, chats, sessions
from nanoclaw_core.store.tables import agent_groups, events, messaging_groups
from nanoclaw_core.store.tables import sessions as session_table
from nanoclaw_core.store.tables import workers as worker_table

__all__ = ["Accepted", "Connection", "Listener", "WorkerLife"]

_PAGE: Final = 1000
_LISTENERS: Final = (
    select(session_table, agent_groups.c.name.label("agent"))
    .join(agent_groups, agent_groups.c.id == session_table.c.agent_group_id)
    .join(messaging_groups, messaging_groups.c.id == session_table.c.messaging_group_id)
    .order_by(session_table.c.created_at, session_table.c.id)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """A message as the journal has it. `word` is what became of its routing; `message` is None where it cannot be read."""

    number: int
    channel: str
    account: str
    chat: str
    chat_name: str
    message_id: str
    received_at: float
    routed_at: float | None
    word: str | None
    message: InboundMessage | None

    @property
    def key(self) -> tuple[str, str, str]:
        """Its chat as (channel, account, chat)."""
        return self.channel, self.account, self.chat

    @property
    def address(self) -> Address:
        thread = self.message.address.thread if self.message else None
        return Address(channel=self.channel, account=self.account, chat=self.chat, thread=thread)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """A session, and the name of its agent."""

    session: Session
    agent: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerLife:
    """One worker of a session, from its claim to its end."""

    id: str
    session_id: str
    agent: str
    image: str
    container_id: str | None
    claimed_at: float
    started_at: float | None
    ended_at: float | None
    reason: str | None
    adoptions: int


def numbers(conn: Connection) -> tuple[int, int]:
    """The number of the oldest message that is kept, and of the newest that ever was; (0, 0) when none ever came."""
    oldest, newest = conn.execute(select(func.min(events.c.seq), func.max(events.c.seq))).one()
    if conn.dialect.name == "sqlite":
        given = conn.execute(text("SELECT seq FROM sqlite_sequence WHERE name = 'events'")).scalar() or 0
        newest = max(newest or 0, given)
    return oldest or 0, newest or 0


def accepted(conn: Connection, number: int) -> Accepted | None:
    """The message with this number, if it is kept."""
    row = conn.execute(select(events).where(events.c.seq == number)).one_or_none()
    return None if row is None else _accepted(conn, row)


def accepted_as(conn: Connection, address: Address, message_id: str) -> Accepted | None:
    """The message that the platform calls `message_id`, if it is kept."""
    place = (events.c.channel == address.channel, events.c.account == address.account, events.c.chat == address.chat)
    row = conn.execute(select(events).where(*place, events.c.message_id == message_id)).one_or_none()
    return None if row is None else _accepted(conn, row)


def newest_first(conn: Connection, is_wanted: Callable[[tuple[str, str, str]], bool]) -> Iterator[Accepted]:
    """The messages of the chats that are wanted, by (channel, account, chat). The texts of the others are not read."""
    before = numbers(conn)[1] + 1
    columns = (events.c.seq, events.c.channel, events.c.account, events.c.chat)
    while page := conn.execute(select(*columns).where(events.c.seq < before).order_by(events.c.seq.desc()).limit(_PAGE)).all():
        for seq, *chat in page:
            if is_wanted((chat[0], chat[1], chat[2])) and (found := accepted(conn, seq)):
                yield found
        before = page[-1].seq


def unrouted(conn: Connection, before: float) -> list[Accepted]:
    """The messages that came before that moment and were not routed yet, oldest first."""
    query = select(events).where(events.c.routed_at.is_(None), events.c.received_at < before).order_by(events.c.seq)
    return [_accepted(conn, row) for row in conn.execute(query).all()]


def has_heard(conn: Connection, listener: Listener) -> bool:
    """Whether an agent has ever heard a message of this session's chat."""
    chat = chats.messaging_group(conn, listener.session.messaging_group_id)
    place = (events.c.channel == chat.channel, events.c.account == chat.account, events.c.chat == chat.chat)
    return conn.execute(select(events.c.seq).where(*place, events.c.outcome == "heard").limit(1)).first() is not None


def listeners(conn: Connection, accepted: Accepted) -> list[Listener]:
    """The sessions that a message may go to: those of its chat and thread.

    An answer goes to the session that asked, wherever that is, a reaction to one in whatever thread of the chat.
    """
    address, said = accepted.address, accepted.message
    if said is not None and said.kind is InboundKind.ANSWER:
        query = _LISTENERS.where(session_table.c.id == (said.about or "").partition(":")[0])
    else:
        table = messaging_groups.c
        query = _LISTENERS.where(table.channel == address.channel, table.account == address.account, table.chat == address.chat)
        if said is None or said.kind is not InboundKind.REACTION:
            query = query.where(func.coalesce(session_table.c.thread, "") == (address.thread or ""))
    return [_listener(row) for row in conn.execute(query)]


def at_work(conn: Connection) -> list[Listener]:
    """The sessions that may have something that is not done."""
    return [_listener(row) for row in conn.execute(_LISTENERS.where(session_table.c.attention > session_table.c.settled))]


def chats_of(conn: Connection, agent: str) -> set[tuple[str, str, str]]:
    """The chats in which an agent has a session, each as (channel, account, chat)."""
    table = messaging_groups.c
    query = _LISTENERS.with_only_columns(table.channel, table.account, table.chat).where(agent_groups.c.name == agent)
    return {(row.channel, row.account, row.chat) for row in conn.execute(query)}


def chats_like(conn: Connection, words: str) -> set[tuple[str, str, str]]:
    """The chats whose name, id or channel has `words` in it, whatever the case, each as (channel, account, chat)."""
    wanted = words.casefold()
    return {
        (row.channel, row.account, row.chat)
        for row in conn.execute(select(messaging_groups))
        if any(wanted in text.casefold() for text in (row.name, row.chat, row.channel))
    }


def ears(conn: Connection, address: Address) -> list[tuple[str, Wiring]]:
    """The agents that are wired to a chat now, by name, with their rules."""
    group = chats.find_messaging_group(conn, address.channel, address.account, address.chat)
    wirings = [] if group is None else chats.wirings_of(conn, group.id)
    return [(agents.agent_group(conn, wiring.agent_group_id).name, wiring) for wiring in wirings]


def lives(conn: Connection, session_id: str | None = None) -> list[WorkerLife]:
    """The workers of a session, or of all of them, in the order in which they were claimed."""
    query = (
        select(worker_table, agent_groups.c.name.label("agent"))
        .join(session_table, session_table.c.id == worker_table.c.session_id)
        .join(agent_groups, agent_groups.c.id == session_table.c.agent_group_id)
        .order_by(worker_table.c.claimed_at, worker_table.c.id)
    )
    if session_id is not None:
        query = query.where(worker_table.c.session_id == session_id)
    names = WorkerLife.__dataclass_fields__
    return [WorkerLife(**{name: row[name] for name in names}) for row in conn.execute(query).mappings()]


def _accepted(conn: Connection, row: Row[Any]) -> Accepted:
    chat = chats.find_messaging_group(conn, row.channel, row.account, row.chat)
    try:
        message = msgspec.json.decode(row.payload, type=InboundMessage)
    except msgspec.MsgspecError:
        message = None
    return Accepted(
        number=row.seq,
        channel=row.channel,
        account=row.account,
        chat=row.chat,
        chat_name=chat.name if chat else "",
        message_id=row.message_id,
        received_at=row.received_at,
        routed_at=row.routed_at,
        word=row.outcome,
        message=message,
    )


def _listener(row: Row[Any]) -> Listener:
    return Listener(session=sessions.record(row), agent=row.agent)
