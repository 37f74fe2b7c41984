"""What came in: every message of a wired chat, durable before the platform is told that it arrived."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Final

import anyio
import msgspec
from anyio import to_thread
from sqlalchemy import Connection, Executable, Select, bindparam, exists, select, update

from nanoclaw_core.errors import MessageTooLong
from nanoclaw_core.models import Address, InboundKind, InboundMessage, clean_text
from nanoclaw_core.ports import Clock
from nanoclaw_core.store.database import Database
from nanoclaw_core.store.tables import cursors, events, insert_for, insert_into, messaging_groups, strangers, wirings

#: The longest text that is accepted, in bytes of UTF-8.
MAX_MESSAGE_BYTES: Final = 16 * 1024 * 1024
_LONG: Final = 64 * 1024  # characters; preparing a longer text could be felt on the event loop

#: Made once: to build a statement takes longer than to run it. The names are those of `_chat_key`.
_WIRED: Final = select(
    exists().where(
        wirings.c.messaging_group_id == messaging_groups.c.id,
        *(messaging_groups.c[name] == bindparam(name) for name in ("channel", "account", "chat")),
    )
)
_ROUTED: Final = (
    update(events).where(events.c.seq == bindparam("number")).values(routed_at=bindparam("moment"), outcome=bindparam("word"))
)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """A message that waits to be routed, in the order of `seq`."""

    seq: int
    message: InboundMessage
    received_at: float


class Journal:
    """Accepts messages from channels and hands them to the router: each once, in order, whatever crashes in between."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db = db
        self._clock = clock
        self._accepted = 0
        self._news = anyio.Event()
        self._news.set()  # an earlier life may have left something

    async def accept(self, message: InboundMessage, cursor: str | None = None) -> bool:
        """Store a message, and the platform's cursor with it, in one transaction; False for one that is known already.

        A message of a chat that nobody wired leaves nothing but a count, one of the bot's own account nothing at all.

        Raises:
            MessageTooLong: nothing was stored.
        """
        now = self._clock.time()
        if message.sender.is_own:
            await self._db.write(partial(store_cursor, address=message.address, cursor=cursor))
            return False
        clean = await to_thread.run_sync(cleaned, message) if len(message.text) > _LONG else cleaned(message)
        new = await self._db.write(partial(_accept, message=clean, cursor=cursor, now=now))
        self._accepted += 1
        self._news.set()
        return new

    async def wait(self) -> None:
        """Return as soon as something may wait to be routed, which is at once until `unrouted` found nothing."""
        await self._news.wait()

    def look_again(self) -> None:
        """Let `wait` return: what `unrouted` was told to leave out can be routed now."""
        self._accepted += 1
        self._news.set()

    async def unrouted(self, limit: int = 100, without: Collection[int] = ()) -> list[JournalEntry]:
        """The oldest messages that `routed` was not called for, but for the numbers in `without`."""
        accepted = self._accepted
        entries = await self._db.read(partial(_unrouted, limit=limit, without=without))
        if not entries and accepted == self._accepted and self._news.is_set():
            self._news = anyio.Event()
        return entries

    async def heard(self, address: Address, since: float) -> list[JournalEntry]:
        """The routed messages of a chat and thread that some agent heard, received after `since`, in order."""
        entries = await self._db.read(partial(_heard, address=address, since=since))
        return [entry for entry in entries if entry.message.address.thread == address.thread]

    async def routed(self, outcomes: Mapping[int, str]) -> None:
        """Note what became of messages, each by its `seq` in one word; they are not handed out again."""
        now = self._clock.time()
        rows = [{"number": seq, "moment": now, "word": outcome} for seq, outcome in outcomes.items()]
        await self._db.write(lambda conn: conn.execute(_ROUTED, rows))

    async def cursor(self, channel: str, account: str) -> str | None:
        """The last cursor that came with a message of this account."""
        where = (cursors.c.channel == channel, cursors.c.account == account)
        return await self._db.read(lambda conn: conn.execute(select(cursors.c.cursor).where(*where)).scalar())


def cleaned(message: InboundMessage) -> InboundMessage:
    """The message with every text and id in it made storable.

    Raises:
        MessageTooLong: the text is longer than `MAX_MESSAGE_BYTES`.
    """
    length = len(message.text)
    if length * 4 > MAX_MESSAGE_BYTES:  # no character takes more than four bytes
        length = len(message.text.encode("utf-8", "surrogatepass"))
    if length > MAX_MESSAGE_BYTES:
        raise MessageTooLong(length, MAX_MESSAGE_BYTES)
    if message.kind is InboundKind.ANSWER:  # the first one counts, whoever pressed the button
        message = replace(message, message_id=f"answer:{message.about}")
    # By way of JSON, so that whatever could not be read again is refused now.
    return msgspec.json.decode(msgspec.json.encode(_clean(msgspec.to_builtins(message))), type=InboundMessage)


def _clean(value: Any) -> Any:  # JSON-like values, as msgspec makes them
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    return clean_text(value) if isinstance(value, str) else value


def _accept(conn: Connection, message: InboundMessage, cursor: str | None, now: float) -> bool:
    store_cursor(conn, message.address, cursor)
    if not is_wired(conn, message.address):
        _count_stranger(conn, message.address, now)
        return True
    values = {
        **_chat_key(message.address),
        "message_id": message.message_id,
        "payload": msgspec.json.encode(message).decode(),
        "received_at": now,
    }
    return conn.execute(_insert_event(conn.dialect.name), values).one_or_none() is not None


@cache
def _insert_event(dialect: str) -> Executable:
    return insert_for(dialect, events).on_conflict_do_nothing().returning(events.c.seq)


def _chat_key(address: Address) -> dict[str, str]:
    return {"channel": address.channel, "account": address.account, "chat": address.chat}


def store_cursor(conn: Connection, address: Address, cursor: str | None) -> None:
    """Note how far the platform's stream has been read, where `cursor` says so."""
    if cursor is not None:
        insert = insert_into(conn, cursors).values(channel=address.channel, account=address.account, cursor=cursor)
        key = [cursors.c.channel, cursors.c.account]
        conn.execute(insert.on_conflict_do_update(index_elements=key, set_={"cursor": cursor}))


def is_wired(conn: Connection, address: Address) -> bool:
    """Whether any agent hears this chat."""
    return bool(conn.execute(_WIRED, _chat_key(address)).scalar())


def _count_stranger(conn: Connection, address: Address, now: float) -> None:
    values = {**_chat_key(address), "count": 1, "first_seen": now, "last_seen": now}
    insert = insert_into(conn, strangers).values(values)
    again = {"count": strangers.c.count + 1, "last_seen": now}
    conn.execute(insert.on_conflict_do_update(index_elements=list(_chat_key(address)), set_=again))


def _unrouted(conn: Connection, limit: int, without: Collection[int]) -> list[JournalEntry]:
    query = select(events).where(events.c.routed_at.is_(None), events.c.seq.not_in(without))
    return _entries(conn, query.order_by(events.c.seq).limit(limit))


def _heard(conn: Connection, address: Address, since: float) -> list[JournalEntry]:
    chat = (events.c[name] == value for name, value in _chat_key(address).items())
    query = select(events).where(*chat, events.c.outcome == "heard", events.c.received_at > since)
    return _entries(conn, query.order_by(events.c.seq))


def _entries(conn: Connection, query: Select[Any]) -> list[JournalEntry]:  # Any: its columns
    return [
        JournalEntry(
            seq=row.seq,
            message=msgspec.json.decode(row.payload, type=InboundMessage),
            received_at=row.received_at,
        )
        for row in conn.execute(query)
    ]
