"""A home in which the test itself plays router, workers and delivery, one step at a time."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

from anyio import to_thread

from nanoclaw_core.backup.making import Backup, Wanted
from nanoclaw_core.backup.records import Manifest
from nanoclaw_core.backup.restoring import restore
from nanoclaw_core.backup.workspaces import Workspaces
from nanoclaw_core.first_start import ensure_first_agent
from nanoclaw_core.journal import Journal
from nanoclaw_core.mailbox import Mailboxes, NewOutbound, OutstandingPush
from nanoclaw_core.models import Address, InboundMessage, OutboundRow, Push, Sender, Session, TurnEnd
from nanoclaw_core.routing.router import Router
from nanoclaw_core.store import sessions
from nanoclaw_core.store.database import Database, open_database
from nanoclaw_core.store.installation import installation_id
from nanoclaw_core.testing import FakeClock, FakeRuntime
from tests.house import _template, arrivals
from tests.spine.spine import wire

CHATS = ("chat-0", "chat-1", "chat-2")
_numbers = count()


@dataclass(kw_only=True)
class Shop:
    """`told` is what people have read: the ids of the messages that each answer answers."""

    home: Path
    database: Database
    journal: Journal
    mailboxes: Mailboxes
    router: Router
    told: list[str] = field(default_factory=list)
    _ids: count[int] = field(default_factory=partial(count, 1))

    async def say(self, chat: str, message_id: str = "") -> str:
        message_id = message_id or f"m{next(_numbers)}"
        message = InboundMessage(
            address=Address(channel="fake", chat=chat),
            message_id=message_id,
            sender=Sender(handle="ada", name="Ada"),
            text="hello",
            sent_at=1.0,
        )
        await self.journal.accept(message)
        return message_id

    async def route(self) -> None:
        while entries := await self.journal.unrouted():
            await self.router.route(entries)

    async def sessions(self) -> list[Session]:
        return await self.database.read(sessions.sessions)

    async def marked(self) -> list[Session]:
        return [session for session, _ in await self.database.read(sessions.attention)]

    async def push(self, session: Session) -> None:
        """Hand what waits to a worker, each row by itself."""
        mailbox = await self.mailboxes.open(session)
        for row in await mailbox.waiting():
            await mailbox.record_push(Push(uuid=f"push-{row.id}", text=row.text), [row.id], "w1")

    async def end(self, session: Session) -> None:
        """End the turns of everything that was pushed."""
        mailbox = await self.mailboxes.open(session)
        for each in await mailbox.outstanding():
            end = TurnEnd(id=f"{self.home.name}-{next(self._ids)}", covered=(each.push.uuid,), text="", conversation="c1")
            await mailbox.end_turn(end, [_answer_to(each)], "answered")

    async def deliver(self, session: Session) -> None:
        mailbox = await self.mailboxes.open(session)
        for row in await mailbox.due():
            if row.text:
                await mailbox.sending(row.seq, 0)
                self.told.append(row.text)
                await mailbox.sent(row.seq, 0, f"sent-{row.seq}")
            await mailbox.delivered(row.seq)
        seen = await self.database.read(partial(sessions.marks, session_id=session.id))
        if seen is not None and await mailbox.is_idle():
            await self.database.write(partial(sessions.settle, session_id=session.id, seen=seen))

    async def run(self) -> None:
        """What a host does until nothing is left that it knows of."""
        await self.route()
        for session in await self.marked():
            for step in (self.push, self.end, self.deliver):
                await step(session)

    async def is_idle(self) -> bool:
        boxes = [await self.mailboxes.open(session) for session in await self.sessions()]
        return not await self.journal.unrouted() and all([await box.is_idle() for box in boxes])

    async def back_up(self, file: Path, runtime: FakeRuntime | None = None, **options: Any) -> Manifest:  # Any: see `Backup`
        return await back_up(self.home, file, runtime, **options)


def _answer_to(each: OutstandingPush) -> NewOutbound:
    return NewOutbound(to=each.address, text=each.rows[0].message_id)


@asynccontextmanager
async def open_shop(home: Path, chats: Sequence[str] = CHATS) -> AsyncIterator[Shop]:
    clock = FakeClock()
    _furnish(home)
    async with open_database(home / "nanoclaw.db", backups=None) as database:
        await database.write(installation_id)
        await database.write(partial(ensure_first_agent, name="Andy", now=1.0))
        for chat in chats:
            await database.write(partial(wire, chat=chat))
        mailboxes, journal = Mailboxes(home, now=clock.time), Journal(database, clock)
        router = Router(
            database=database,
            journal=journal,
            mailboxes=mailboxes,
            home=home,
            clock=clock,
            wake=lambda _: None,
            stop=lambda _: None,
            refuse=_unheard,
            tell_usage=_unheard,
            answered=_unanswered,
            arrivals=arrivals(home, clock, journal),
            tell=lambda _: None,
        )
        try:
            yield Shop(home=home, database=database, journal=journal, mailboxes=mailboxes, router=router)
        finally:
            await mailboxes.close()


def _furnish(home: Path) -> None:
    if not (home / "nanoclaw.db").exists():
        home.mkdir(exist_ok=True)
        shutil.copy(_template(), home / "nanoclaw.db")


async def _unanswered(_session: str, _question: OutboundRow, label: str) -> None:
    raise AssertionError(label)


async def _unheard(_to: Address, _message_id: str, text: object) -> None:
    raise AssertionError(text)


async def back_up(home: Path, file: Path, runtime: FakeRuntime | None = None, **options: Any) -> Manifest:  # Any: see `Backup`
    workspaces = None if runtime is None else Workspaces(runtime=runtime, image="image")
    wanted = Wanted(workspaces=workspaces, **{name: options.pop(name) for name in ("secrets", "logs") if name in options})
    with file.open("wb") as out:
        return await Backup(home=home, clock=FakeClock(), wanted=wanted, **options).write(out)


async def restored(file: Path, home: Path, *, replace: bool = False) -> Path | None:
    """Restore, and say where the old home is."""
    _, aside = await to_thread.run_sync(partial(restore, file, home, FakeClock(), replace=replace))
    return aside
