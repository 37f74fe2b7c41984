"""How many messages a host takes in, and what one costs with much behind it: from `receive` to the session's mailbox."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import anyio

from bench.figures import Figures
from nanoclaw_core.journal import Journal
from nanoclaw_core.mailbox import Mailboxes
from nanoclaw_core.models import Address, EngageMode, Event, InboundMessage, Sender
from nanoclaw_core.routing.router import Router
from nanoclaw_core.store import agents, chats
from nanoclaw_core.store.database import Connection, Database, open_database
from nanoclaw_core.supervise import SystemClock

CHATS: Final = 50
RATE: Final = 500  # messages a second


@dataclass(kw_only=True)
class Intake:
    """Journal, router and mailboxes as in a host, with nobody behind them."""

    journal: Journal
    routed: dict[int, float] = field(default_factory=dict)
    _ids: count[int] = field(default_factory=count)
    _waiting: dict[str, anyio.Event] = field(default_factory=dict)

    def tell(self, event: Event) -> None:
        if event.name == "message.routed":
            self.routed[event.data["message"]] = time.perf_counter()

    async def accept(self, chat: int) -> tuple[float, float]:
        """Hand in one message; return when, and the seconds until it was durable."""
        message = InboundMessage(
            address=Address(channel="bench", chat=str(chat)),
            message_id=str(next(self._ids)),
            sender=Sender(handle="somebody", name="Somebody"),
            text="A message of ordinary length, as people write them to each other.",
            sent_at=time.time(),
        )
        began = time.perf_counter()
        await self.journal.accept(message)
        return began, time.perf_counter() - began


@asynccontextmanager
async def intake(home: Path) -> AsyncIterator[Intake]:
    clock = SystemClock()
    async with open_database(home / "nanoclaw.db", backups=None) as database:
        mailboxes = Mailboxes(home)
        found = Intake(journal=Journal(database, clock))
        router = _router(database, found, mailboxes, home)
        async with anyio.create_task_group() as tasks:
            await tasks.start(_serve, router)
            yield found
            tasks.cancel_scope.cancel()
        await mailboxes.close()


def _router(database: Database, found: Intake, mailboxes: Mailboxes, home: Path) -> Router:
    async def refuse(_to: Address, _message_id: str, text: str) -> None:
        raise RuntimeError(text)

    return Router(
        database=database,
        journal=found.journal,
        mailboxes=mailboxes,
        home=home,
        clock=SystemClock(),
        wake=lambda _session: None,
        stop=lambda _session: None,
        refuse=refuse,
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
            await _steady(figures, found, seconds)
            await _flat_out(figures, found, seconds / 4)


async def _steady(figures: Figures, found: Intake, seconds: float) -> None:
    """`RATE` messages a second, whatever becomes of them."""
    began: list[float] = []
    durable: list[float] = []
    found.routed.clear()

    async def one(chat: int) -> None:
        start, took = await found.accept(chat)
        began.append(start)
        durable.append(took)

    zero = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for number in range(int(seconds * RATE)):
            await anyio.sleep(max(0.0, zero + number / RATE - time.perf_counter()))
            tasks.start_soon(one, number % CHATS)
    await _all_routed(found, len(began))
    whole = [found.routed[seq] - start for seq, start in zip(sorted(found.routed), sorted(began), strict=True)]
    name = f"acceptance, {RATE} messages/s from {CHATS} chats for {seconds:.0f} s"
    figures.add(f"{name}: durable in the journal", "s", durable, aim=0.010)
    figures.add(f"{name}: in the mailbox", "s", whole, aim=0.010)


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
    figures.add(f"acceptance, {CHATS} chats flat out, journal to mailbox", "messages/s", [rate], aim=500, is_rate=True)


async def _all_routed(found: Intake, number: int) -> None:
    while len(found.routed) < number:
        await anyio.sleep(0.01)


async def measure_history(figures: Figures, sizes: tuple[int, ...], rounds: int) -> None:
    """One message at a time, with that many messages and sessions stored before it."""
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="ncb") as folder:
            home = Path(folder)
            await _fill(home, size)
            async with intake(home) as found:
                took = [await _one(found, number * 97 % size) for number in range(rounds)]
        figures.add(f"one message, {size:,} messages and sessions stored", "s", took, floor=_HISTORY.format(sizes[0]))


_HISTORY: Final = "one message, {:,} messages and sessions stored"


async def _one(found: Intake, chat: int) -> float:
    found.routed.clear()
    began, _ = await found.accept(chat)
    while not found.routed:
        await anyio.sleep(0)
    return next(iter(found.routed.values())) - began


async def _fill(home: Path, size: int) -> None:
    """That many chats with a session and a routed message each; mailbox files are made when they are first needed."""
    async with open_database(home / "nanoclaw.db", backups=None) as database:
        await database.write(partial(_insert, size=size))


def _insert(connection: Connection, size: int) -> None:
    wire(connection, 0, 1)
    run = connection.exec_driver_sql
    run(
        "INSERT INTO messaging_groups (id, channel, account, chat, name, is_group, created_at) "
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "SELECT 'g' || i, 'bench', '', i, i, 0, 1.0 FROM n",
        (size - 1,),
    )
    run(
        "INSERT INTO wirings (id, messaging_group_id, agent_group_id, engage_mode, pattern, created_at) "
        "SELECT 'w' || g.id, g.id, a.id, 'pattern', '.', 1.0 FROM messaging_groups g, agent_groups a WHERE g.id LIKE 'g%'"
    )
    run(
        "INSERT INTO sessions (id, agent_group_id, messaging_group_id, folder, created_at) "
        "SELECT 's' || g.id, a.id, g.id, 'sessions/main/s' || g.id, 1.0 FROM messaging_groups g, agent_groups a"
        " WHERE g.id LIKE 'g%'"
    )
    run(
        "INSERT INTO events (channel, account, chat, message_id, payload, received_at, routed_at, outcome) "
        "SELECT 'bench', '', chat, 'old', '{}', 1.0, 1.0, 'heard' FROM messaging_groups"
    )
