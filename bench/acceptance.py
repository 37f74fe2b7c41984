"""How many messages a host takes in, and how fast: from `receive` to the session's mailbox."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import anyio
from sqlalchemy import select

from bench import bare
from bench.figures import Figures
from nanoclaw_core.journal import Journal
from nanoclaw_core.mailbox import Mailboxes
from nanoclaw_core.models import Address, EngageMode, Event, InboundMessage, OutboundRow, Sender
from nanoclaw_core.routing.router import Router
from nanoclaw_core.store import agents, chats
from nanoclaw_core.store.database import Connection, Database, open_database
from nanoclaw_core.store.tables import events
from nanoclaw_core.supervise import SystemClock
from tests.house import arrivals

CHATS: Final = 50
RATES: Final = (50, 500)  # messages a second: one from each chat, and ten times as many


@dataclass(kw_only=True)
class Intake:
    """Journal, router and mailboxes as in a host, with nobody behind them; notes by its number when a message was routed."""

    database: Database
    journal: Journal
    routed: dict[int, float] = field(default_factory=dict)
    _ids: count[int] = field(default_factory=count)
    _waiting: dict[str, anyio.Event] = field(default_factory=dict)

    def tell(self, event: Event) -> None:
        if event.name == "message.routed":
            self.routed[event.data["message"]] = time.perf_counter()

    async def accept(self, chat: int) -> tuple[str, float, float]:
        """Hand in one message; return its id, when that was, and the seconds until it was durable."""
        message = InboundMessage(
            address=Address(channel="bench", chat=str(chat)),
            message_id=str(next(self._ids)),
            sender=Sender(handle="somebody", name="Somebody"),
            text="A message of ordinary length, as people write them to each other.",
            sent_at=time.time(),
        )
        began = time.perf_counter()
        await self.journal.accept(message)
        return message.message_id, began, time.perf_counter() - began

    async def numbers(self) -> dict[str, int]:
        """The number of each message, by its id."""
        query = select(events.c.message_id, events.c.seq)
        return await self.database.read(lambda connection: {row.message_id: row.seq for row in connection.execute(query)})


@asynccontextmanager
async def intake(home: Path) -> AsyncIterator[Intake]:
    clock = SystemClock()
    async with open_database(home / "nanoclaw.db", backups=None) as database:
        mailboxes = Mailboxes(home)
        found = Intake(database=database, journal=Journal(database, clock))
        router = _router(database, found, mailboxes, home)
        async with anyio.create_task_group() as tasks:
            await tasks.start(_serve, router)
            yield found
            tasks.cancel_scope.cancel()
        await mailboxes.close()


def _router(database: Database, found: Intake, mailboxes: Mailboxes, home: Path) -> Router:
    async def refuse(_to: Address, _message_id: str, text: object) -> None:
        raise RuntimeError(text)

    async def answered(_session: str, _question: OutboundRow, label: str) -> None:
        raise RuntimeError(label)

    return Router(
        database=database,
        journal=found.journal,
        mailboxes=mailboxes,
        home=home,
        clock=SystemClock(),
        wake=lambda _session: None,
        stop=lambda _session: None,
        refuse=refuse,
        tell_usage=refuse,
        answered=answered,
        arrivals=arrivals(home, SystemClock(), found.journal),
        tell=found.tell,
    )


async def _serve(router: Router, *, task_status: anyio.abc.TaskStatus[None]) -> None:
    await router.run(task_status)


def wire(connection: Connection, first: int, last: int) -> None:
    """One agent that hears the chats `first` to `last`."""
    agent = agents.main_agent_group(connection) or agents.create_agent_group(
        connection, name="Andy", folder="main", now=1.0, is_main=True
    )
    for chat in range(first, last):
        group = chats.ensure_messaging_group(
            connection, channel="bench", account="", chat=str(chat), name=str(chat), is_group=False, now=1.0
        )
        chats.wire(
            connection,
            messaging_group_id=group.id,
            agent_group_id=agent.id,
            engage_mode=EngageMode.PATTERN,
            pattern=".",
            now=1.0,
        )


async def measure(figures: Figures, seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="ncb") as folder:
        home = Path(folder)
        async with open_database(home / "nanoclaw.db", backups=None) as database:
            await database.write(partial(wire, first=0, last=CHATS))
        async with intake(home) as found:
            for rate in RATES:
                await _steady(figures, found, seconds, rate)
            await _flat_out(figures, found, seconds / 4)


async def _steady(figures: Figures, found: Intake, seconds: float, rate: int) -> None:
    """`rate` messages a second, whatever becomes of them."""
    began: dict[str, float] = {}
    durable: list[float] = []
    found.routed.clear()

    async def one(chat: int) -> None:
        name, start, took = await found.accept(chat)
        began[name] = start
        durable.append(took)

    zero = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for number in range(int(seconds * rate)):
            await anyio.sleep(max(0.0, zero + number / rate - time.perf_counter()))
            tasks.start_soon(one, number % CHATS)
    await _all_routed(found, len(began))
    whole = waits(began, await found.numbers(), found.routed)
    name = f"acceptance, {rate} messages/s from {CHATS} chats for {seconds:.0f} s"
    figures.add(f"{name}: durable in the journal", "s", durable, aim=0.010, floor=bare.COMMIT)
    figures.add(f"{name}: in the mailbox", "s", whole, aim=0.010, floor=bare.COMMIT)


def waits(began: Mapping[str, float], numbers: Mapping[str, int], routed: Mapping[int, float]) -> list[float]:
    """Seconds from the beginning of each message, by its id, until it was routed, by its number.

    Messages that share a commit may be numbered in another order than they came in.
    """
    return [routed[numbers[name]] - start for name, start in began.items()]


async def _flat_out(figures: Figures, found: Intake, seconds: float) -> None:
    """Every chat sends its next message when the one before is durable."""
    found.routed.clear()
    sent = 0
    zero = time.perf_counter()

    async def talk(chat: int) -> None:
        nonlocal sent
        while time.perf_counter() < zero + seconds:
            await found.accept(chat)
            sent += 1

    async with anyio.create_task_group() as tasks:
        for chat in range(CHATS):
            tasks.start_soon(talk, chat)
    await _all_routed(found, sent)
    rate = sent / (max(found.routed.values()) - zero)
    name = f"acceptance, {CHATS} chats flat out, journal to mailbox"
    figures.add(name, "messages/s", [rate], aim=500, is_rate=True, floor=bare.COMMITS)


async def _all_routed(found: Intake, number: int) -> None:
    while len(found.routed) < number:
        await anyio.sleep(0.01)
