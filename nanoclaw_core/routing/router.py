"""Takes what the journal holds to the sessions that hear it. Doing so twice has the effect of doing it once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio import to_thread
from anyio.abc import TaskStatus

from nanoclaw_core.commands import asks_for_usage, calls_off
from nanoclaw_core.errors import InvalidPattern
from nanoclaw_core.journal import Journal, JournalEntry
from nanoclaw_core.mailbox import MailboxBroken, Mailboxes, NewRow
from nanoclaw_core.models import Address, Event, InboundKind, InboundMessage, OutboundRow, Session, Wiring
from nanoclaw_core.ports import Clock, Wake
from nanoclaw_core.routing.arrivals import Arrivals
from nanoclaw_core.routing.echoes import Echo, Echoes
from nanoclaw_core.routing.engage import engages
from nanoclaw_core.routing.rows import row_of, writer
from nanoclaw_core.store import chats, people
from nanoclaw_core.store import sessions as store_sessions
from nanoclaw_core.store.database import Connection, Database
from nanoclaw_core.supervise import survive

log = structlog.get_logger()

_BATCH = 100
_MAILBOXES_AT_ONCE = 8
_SAID = (InboundKind.MESSAGE, InboundKind.EDIT)
_LOST = "⚠️ I could not take your message; send it again once that is mended: {reason}"


@dataclass(slots=True, kw_only=True)
class _Heard:
    """A message on its way, as each session hears it, and why one of them cannot be given it."""

    entry: JournalEntry
    echoes: list[Echo] = field(default_factory=list)
    failure: str | None = None
    usage_of: tuple[str, ...] = ()  # the agent groups whose usage somebody asks for, instead of writing to them

    @property
    def outcome(self) -> str:
        if self.usage_of:
            return "answered"
        return "failed" if self.failure else "heard" if self.echoes else "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """One task that routes in the order of acceptance.

    `wake` tells the workers that there is something to do, and `stop` that somebody wrote `/stop`; `tell` tells the plugins.
    `refuse` tells the chat, by the id of its message; `tell_usage` answers one, with what the agent groups of these ids spent.
    `answered` gets a question that was answered, its session's id and the answer.
    """

    database: Database
    journal: Journal
    mailboxes: Mailboxes
    home: Path
    clock: Clock
    wake: Wake
    stop: Wake
    refuse: Callable[[Address, str, str], Awaitable[None]]
    tell_usage: Callable[[Address, str, Sequence[str]], Awaitable[None]]
    answered: Callable[[str, OutboundRow, str], Awaitable[None]]
    arrivals: Arrivals
    tell: Callable[[Event], None]
    _introduced: dict[tuple[str, ...], tuple[str, bool]] = field(default_factory=dict)

    async def run(self, task_status: TaskStatus[None]) -> None:
        async with self.arrivals:
            task_status.started()
            while True:
                await self.journal.wait()
                releases = self.arrivals.releases
                if entries := await self.journal.unrouted(_BATCH, without=self.arrivals.held):
                    await self.route(entries, releases)

    async def route(self, entries: Sequence[JournalEntry], releases: int | None = None) -> None:
        """Hand each message to every session that hears it. What cannot be handed over is said in the chat and holds up nobody.

        However many there are, they share their transactions: in a burst, commits are what takes the time. `releases` is how
        often something that was held had been let go when the entries were read: since then, others may come before them.
        """
        heard = [_Heard(entry=entry) for entry in entries]
        if failure := await survive("routing", self._find(heard)):
            if len(entries) > 1:  # one of them breaks the others
                for entry in entries:
                    await self.route([entry], releases)
                return
            heard[0].failure = failure
        if releases is not None and releases != self.arrivals.releases:
            return
        heard = [each for each in heard if not self.arrivals.hold(each.entry, is_heard=bool(each.echoes))]
        if not heard:
            return
        await self._hand_over(heard)
        await self.journal.routed({each.entry.seq: each.outcome for each in heard})
        for each in heard:
            await self.arrivals.forget(each.entry)
            await self._report(each)

    async def _find(self, heard: Sequence[_Heard]) -> None:
        """Find the sessions that hear each message; patterns are searched in a thread, where a slow one holds up nobody."""
        said = [each for each in heard if each.entry.message.kind in _SAID]
        messages = [each.entry.message for each in said]
        wirings = await self.database.read(partial(_wirings, addresses={message.address for message in messages}))
        engaged = await to_thread.run_sync(_engaged, wirings, messages)
        for number, (message, engaging) in enumerate(engaged):
            if asks_for_usage(message):
                said[number].usage_of = tuple(wiring.agent_group_id for wiring in engaging)
                engaged[number] = (message, [])
        for each, found in zip(said, await self.database.write(partial(self._hearing, engaged=engaged)), strict=True):
            each.echoes = [Echo(session=session, message=each.entry.message) for session in found]
        for each in heard:
            if each.entry.message.kind not in _SAID:
                each.echoes = await self._echoes.heard_by(each.entry.message)
                marks = [echo.session for echo in each.echoes]
                await self.database.write(partial(_mark, sessions=marks))

    @property
    def _echoes(self) -> Echoes:
        return Echoes(database=self.database, mailboxes=self.mailboxes)

    def _hearing(self, connection: Connection, engaged: Sequence[tuple[InboundMessage, list[Wiring]]]) -> list[list[Session]]:
        """The sessions behind `engaged`, each marked as having work before its mailbox is touched."""
        now = self.clock.time()
        for user_id, name in dict.fromkeys(writer(message) for message, _ in engaged):
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
            store_sessions.mark_attention(connection, session.id)
        return [[known[wiring.id, message.address.thread] for wiring in wirings] for message, wirings in engaged]

    def _introduce(self, connection: Connection, message: InboundMessage) -> None:
        """Know the chat by the name that it has now, and as what the platform says it is: a person may have wired a bare id."""
        at, news = message.address, (message.chat_name, message.is_group)
        key = (at.channel, at.account, at.chat)
        if message.kind is not InboundKind.MESSAGE or self._introduced.get(key) == news:
            return
        if chats.find_messaging_group(connection, *key) is not None:  # it may have another id since
            ensure = partial(chats.ensure_messaging_group, connection, channel=at.channel, account=at.account, chat=at.chat)
            ensure(name=message.chat_name, is_group=message.is_group, now=self.clock.time())
            self._introduced[key] = news

    async def _hand_over(self, heard: Sequence[_Heard]) -> None:
        """Fill the mailboxes side by side, each in the order of acceptance."""
        by_session: dict[Session, list[tuple[_Heard, Echo]]] = {}
        for each in heard:
            for echo in each.echoes:
                by_session.setdefault(echo.session, []).append((each, echo))
        limit = anyio.CapacityLimiter(_MAILBOXES_AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for session, waiting in by_session.items():
                tasks.start_soon(self._fill, session, waiting, limit)

    async def _fill(self, session: Session, heard: Sequence[tuple[_Heard, Echo]], limit: anyio.CapacityLimiter) -> None:
        async with limit:
            entries = [replace(each.entry, message=echo.message) for each, echo in heard]
            failure = await survive("routing", self._add(session, entries))
        for each, echo in heard:
            each.failure = failure or each.failure
            if echo.question is not None and not failure:
                await self.answered(session.id, echo.question, echo.message.text)

    async def _add(self, session: Session, entries: Sequence[JournalEntry]) -> None:
        rows: list[NewRow] = []
        for entry in entries:
            if entry.message.kind is InboundKind.EDIT:  # perhaps of a message that is among these
                await self._put(session, rows)
                rows, entry = [], replace(entry, message=await self._echoes.as_edit(entry.message, session))
            rows.append(await row_of(self.home, session, entry, self.arrivals.of(entry)))
        await self._put(session, rows)
        tell = self.stop if any(calls_off(entry.message) for entry in entries) else self.wake
        tell(session.id)

    async def _put(self, session: Session, rows: Sequence[NewRow]) -> None:
        try:
            await (await self.mailboxes.open(session)).add_rows(rows)
        except MailboxBroken:
            await (await self.mailboxes.open(session)).add_rows(rows)  # into the new one

    async def _report(self, heard: _Heard) -> None:
        address = heard.entry.message.address
        data = {
            "channel": address.channel,
            "message": heard.entry.seq,
            "outcome": heard.outcome,
            "sessions": len(heard.echoes),
        }
        self.tell(Event(name="message.routed", at=self.clock.time(), data=data))
        if heard.failure:
            await self.refuse(address, heard.entry.message.message_id, _LOST.format(reason=heard.failure))
        if heard.usage_of:
            await survive("usage", self.tell_usage(address, heard.entry.message.message_id, heard.usage_of))


def _mark(connection: Connection, sessions: Sequence[Session]) -> None:
    for session in sessions:
        store_sessions.mark_attention(connection, session.id)


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


def _session(connection: Connection, wiring: Wiring, thread: str | None, now: float) -> Session:
    ends = {"agent_group_id": wiring.agent_group_id, "messaging_group_id": wiring.messaging_group_id}
    return store_sessions.ensure_session(connection, **ends, thread=thread, now=now)


def is_engaged(wiring: Wiring, message: InboundMessage) -> bool:
    """Whether the wiring's agent hears what was said; an invalid pattern hears nothing."""
    try:
        return message.kind in _SAID and engages(wiring, message)
    except InvalidPattern as error:
        log.error("wiring.invalid", wiring=wiring.id, chat=wiring.messaging_group_id, reason=str(error))
        return False
