"""Takes what the journal holds to the sessions that hear it. Doing so twice has the effect of doing it once."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio import to_thread
from anyio.abc import TaskStatus

from nanoclaw_core.commands import is_stop
from nanoclaw_core.errors import InvalidPattern
from nanoclaw_core.journal import Journal, JournalEntry
from nanoclaw_core.mailbox import MailboxBroken, Mailboxes, NewRow, row_id
from nanoclaw_core.models import Address, Event, InboundMessage, Session, Wiring
from nanoclaw_core.ports import Clock, Wake
from nanoclaw_core.routing.engage import engages
from nanoclaw_core.store import chats, people, sessions
from nanoclaw_core.store.database import Connection, Database
from nanoclaw_core.supervise import survive

log = structlog.get_logger()

#: A longer text goes into the session's inbox as a file; the prompt holds its beginning and the file's path (characters).
INLINE_LIMIT = 48_000
_EXCERPT = 4_000
_MAILBOXES_AT_ONCE = 8
_LOST = "⚠️ I could not take your message; send it again once that is mended: {reason}"


@dataclass(slots=True, kw_only=True)
class _Heard:
    """A message on its way, the sessions that hear it, and why one of them cannot be given it."""

    entry: JournalEntry
    sessions: list[Session] = field(default_factory=list)
    failure: str | None = None

    @property
    def outcome(self) -> str:
        return "failed" if self.failure else "heard" if self.sessions else "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """One task that routes in the order of acceptance.

    `wake` tells the workers that there is something to do, and `stop` that somebody wrote `/stop`; `tell` tells the plugins,
    `refuse` the chat, by the id of its message.
    """

    database: Database
    journal: Journal
    mailboxes: Mailboxes
    home: Path
    clock: Clock
    wake: Wake
    stop: Wake
    refuse: Callable[[Address, str, str], Awaitable[None]]
    tell: Callable[[Event], None]
    _introduced: dict[tuple[str, ...], tuple[str, bool]] = field(default_factory=dict)

    async def run(self, task_status: TaskStatus[None]) -> None:
        task_status.started()
        while True:
            await self.journal.wait()
            if entries := await self.journal.unrouted():
                await self.route(entries)

    async def route(self, entries: Sequence[JournalEntry]) -> None:
        """Hand each message to every session that hears it. What cannot be handed over is said in the chat and holds up nobody.

        However many there are, they share their transactions: in a burst, commits are what takes the time.
        """
        heard = [_Heard(entry=entry) for entry in entries]
        if failure := await survive("routing", self._find(heard)):
            if len(entries) > 1:  # one of them breaks the others
                for entry in entries:
                    await self.route([entry])
                return
            heard[0].failure = failure
        await self._hand_over(heard)
        await self.journal.routed({each.entry.seq: each.outcome for each in heard})
        for each in heard:
            await self._report(each)

    async def _find(self, heard: Sequence[_Heard]) -> None:
        """Find the sessions that hear each message; patterns are searched in a thread, where a slow one holds up nobody."""
        messages = [each.entry.message for each in heard]
        wirings = await self.database.read(partial(_wirings, addresses={message.address for message in messages}))
        engaged = await to_thread.run_sync(_engaged, wirings, messages)
        for each, found in zip(heard, await self.database.write(partial(self._hearing, engaged=engaged)), strict=True):
            each.sessions = found

    def _hearing(self, connection: Connection, engaged: Sequence[tuple[InboundMessage, list[Wiring]]]) -> list[list[Session]]:
        """The sessions behind `engaged`, each marked as having work before its mailbox is touched."""
        now = self.clock.time()
        for user_id, name in dict.fromkeys(_writer(message) for message, _ in engaged):
            people.upsert_user(connection, user_id, name, now)
        for message, _ in engaged:
            self._introduce(connection, message)
        known: dict[tuple[str, str | None], Session] = {}
        for message, wirings in engaged:
            for wiring in wirings:
                thread = message.address.thread
                if (wiring.id, thread) not in known:
                    known[wiring.id, thread] = _session(connection, wiring, thread, now)
        for session in known.values():
            sessions.mark_attention(connection, session.id)
        return [[known[wiring.id, message.address.thread] for wiring in wirings] for message, wirings in engaged]

    def _introduce(self, connection: Connection, message: InboundMessage) -> None:
        """Know the chat by the name that it has now, and as what the platform says it is: a person may have wired a bare id."""
        at, news = message.address, (message.chat_name, message.is_group)
        key = (at.channel, at.account, at.chat)
        if self._introduced.get(key) == news:
            return
        ensure = partial(chats.ensure_messaging_group, connection, channel=at.channel, account=at.account, chat=at.chat)
        ensure(name=message.chat_name, is_group=message.is_group, now=self.clock.time())
        self._introduced[key] = news

    async def _hand_over(self, heard: Sequence[_Heard]) -> None:
        """Fill the mailboxes side by side, each in the order of acceptance."""
        by_session: dict[Session, list[_Heard]] = {}
        for each in heard:
            for session in each.sessions:
                by_session.setdefault(session, []).append(each)
        limit = anyio.CapacityLimiter(_MAILBOXES_AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for session, waiting in by_session.items():
                tasks.start_soon(self._fill, session, waiting, limit)

    async def _fill(self, session: Session, heard: Sequence[_Heard], limit: anyio.CapacityLimiter) -> None:
        async with limit:
            failure = await survive("routing", self._add(session, [each.entry for each in heard]))
        for each in heard:
            each.failure = failure or each.failure

    async def _add(self, session: Session, entries: Sequence[JournalEntry]) -> None:
        rows = [await row_of(self.home, session, entry) for entry in entries]
        try:
            await (await self.mailboxes.open(session)).add_rows(rows)
        except MailboxBroken:
            await (await self.mailboxes.open(session)).add_rows(rows)  # into the new one
        tell = self.stop if any(is_stop(entry.message.text) for entry in entries) else self.wake
        tell(session.id)

    async def _report(self, heard: _Heard) -> None:
        address = heard.entry.message.address
        data = {
            "channel": address.channel,
            "message": heard.entry.seq,
            "outcome": heard.outcome,
            "sessions": len(heard.sessions),
        }
        self.tell(Event(name="message.routed", at=self.clock.time(), data=data))
        if heard.failure:
            await self.refuse(address, heard.entry.message.message_id, _LOST.format(reason=heard.failure))


async def row_of(home: Path, session: Session, entry: JournalEntry) -> NewRow:
    """The message as a row for the session; what is long lies in the session's inbox when this returns."""
    message = entry.message
    row, text, attachment = row_id(session.id, entry.seq), message.text, None
    if len(text) > INLINE_LIMIT:
        attachment = f"{row}/message.txt"
        await to_thread.run_sync(keep_text, home / session.folder / "inbox" / attachment, text)
        text = f"{text[:_EXCERPT]}\n[… {len(text) - _EXCERPT:,} more characters]"
    return NewRow(
        id=row,
        address=message.address,
        message_id=message.message_id,
        sender_id=_writer(message)[0],
        sender_name=message.sender.name,
        text=text,
        sent_at=message.sent_at,
        reply_to=message.reply_to,
        attachment=attachment,
    )


def keep_text(path: Path, text: str) -> None:
    """Write `text` where the container can read it: the folder above is mounted read-only and nobody else writes there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in (path.parent, path.parent.parent):
        folder.chmod(0o755)
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)
        file.flush()
        os.fsync(file.fileno())


def _wirings(connection: Connection, addresses: Set[Address]) -> dict[Address, list[Wiring]]:
    found = {}
    for address in addresses:
        group = chats.find_messaging_group(connection, address.channel, address.account, address.chat)
        found[address] = [] if group is None else chats.wirings_of(connection, group.id)
    return found


def _engaged(
    wirings: Mapping[Address, Sequence[Wiring]], messages: Sequence[InboundMessage]
) -> list[tuple[InboundMessage, list[Wiring]]]:
    return [(each, [wiring for wiring in wirings[each.address] if is_engaged(wiring, each)]) for each in messages]


def _writer(message: InboundMessage) -> tuple[str, str]:
    return message.sender.user_id(message.address.channel), message.sender.name


def _session(connection: Connection, wiring: Wiring, thread: str | None, now: float) -> Session:
    ends = {"agent_group_id": wiring.agent_group_id, "messaging_group_id": wiring.messaging_group_id}
    return sessions.ensure_session(connection, **ends, thread=thread, now=now)


def is_engaged(wiring: Wiring, message: InboundMessage) -> bool:
    """Whether the wiring's agent hears the message; an invalid pattern hears nothing."""
    try:
        return engages(wiring, message)
    except InvalidPattern as error:
        log.error("wiring.invalid", wiring=wiring.id, chat=wiring.messaging_group_id, reason=str(error))
        return False
