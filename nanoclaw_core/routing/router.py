"""Takes what the journal holds to the sessions that hear it. Doing so twice has the effect of doing it once."""

from __future__ import annotations

import os
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import structlog
from anyio import to_thread
from anyio.abc import TaskStatus

from nanoclaw_core.errors import InvalidPattern
from nanoclaw_core.journal import Journal, JournalEntry
from nanoclaw_core.mailbox import Mailboxes, NewRow
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
_LOST = "⚠️ I could not take your message; send it again once that is mended: {reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """One task that routes in the order of acceptance; `wake` tells the workers, `tell` the plugins, `say` the chat."""

    database: Database
    journal: Journal
    mailboxes: Mailboxes
    home: Path
    clock: Clock
    wake: Wake
    say: Callable[[Address, str], Awaitable[None]]
    tell: Callable[[Event], None]

    async def run(self, task_status: TaskStatus[None]) -> None:
        task_status.started()
        while True:
            await self.journal.wait()
            for entry in await self.journal.unrouted():
                await self.route(entry)

    async def route(self, entry: JournalEntry) -> None:
        """Hand a message to every session that hears it. What cannot be handed over is said in the chat and holds up nobody."""
        hearing: list[Session] = []
        failure = await survive("routing", self._find(entry, hearing))
        for session in hearing:
            failure = await survive("routing", self._hand_over(entry, session)) or failure
        outcome = "failed" if failure else "heard" if hearing else "ignored"
        await self.journal.routed(entry.seq, outcome)
        address = entry.message.address
        data = {"channel": address.channel, "message": entry.seq, "outcome": outcome, "sessions": len(hearing)}
        self.tell(Event(name="message.routed", at=self.clock.time(), data=data))
        if failure:
            await self.say(address, _LOST.format(reason=failure))

    async def _find(self, entry: JournalEntry, hearing: list[Session]) -> None:
        """Add the sessions that hear the message; patterns are searched in a thread, where a slow one holds up nobody."""
        message = entry.message
        wirings = await self.database.read(partial(_wirings, address=message.address))
        engaged = await to_thread.run_sync(_engaged, wirings, message)
        hearing += await self.database.write(partial(self._hearing, message=message, engaged=engaged))

    async def _hand_over(self, entry: JournalEntry, session: Session) -> None:
        mailbox = await self.mailboxes.open(session)
        await mailbox.add_rows([await self._row(session, entry)])
        self.wake(session.id)

    def _hearing(self, connection: Connection, message: InboundMessage, engaged: Sequence[Wiring]) -> list[Session]:
        """The sessions behind `engaged`, each marked as having work before its mailbox is touched."""
        now = self.clock.time()
        people.upsert_user(connection, message.sender.user_id(message.address.channel), message.sender.name, now)
        found = [
            sessions.ensure_session(
                connection,
                agent_group_id=wiring.agent_group_id,
                messaging_group_id=wiring.messaging_group_id,
                thread=message.address.thread,
                now=now,
            )
            for wiring in engaged
        ]
        for session in found:
            sessions.mark_attention(connection, session.id)
        return found

    async def _row(self, session: Session, entry: JournalEntry) -> NewRow:
        message = entry.message
        row_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"nanoclaw:row:{session.id}:{entry.seq}"))
        text, attachment = message.text, None
        if len(text) > INLINE_LIMIT:
            attachment = f"{row_id}/message.txt"
            inbox = self.home / session.folder / "inbox"
            await to_thread.run_sync(keep_text, inbox / attachment, text)
            text = f"{text[:_EXCERPT]}\n[… {len(text) - _EXCERPT:,} more characters]"
        return NewRow(
            id=row_id,
            address=message.address,
            message_id=message.message_id,
            sender_id=message.sender.user_id(message.address.channel),
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


def _wirings(connection: Connection, address: Address) -> list[Wiring]:
    group = chats.find_messaging_group(connection, address.channel, address.account, address.chat)
    return [] if group is None else chats.wirings_of(connection, group.id)


def _engaged(wirings: Sequence[Wiring], message: InboundMessage) -> list[Wiring]:
    return [wiring for wiring in wirings if _engages(wiring, message)]


def _engages(wiring: Wiring, message: InboundMessage) -> bool:
    try:
        return engages(wiring, message)
    except InvalidPattern as error:
        log.error("wiring.invalid", wiring=wiring.id, chat=wiring.messaging_group_id, reason=str(error))
        return False
