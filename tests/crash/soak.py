"""A soak: thousands of turns of one host with the fake runtime, in which nothing may grow: `python -m tests.crash.soak`.

Four chats talk at a time, each is left for a new one after a while, and now and then a worker dies in mid-turn.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import os
import sys
import tempfile
import threading
from asyncio import all_tasks
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, fields
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any, Final

import anyio
import structlog
from rich.console import Console
from rich.table import Table

from nanoclaw_core.cli.serve import keep_memory_together
from nanoclaw_core.host import Host
from nanoclaw_core.mailbox import Mailbox, box
from tests.spine.spine import Containers, Spine, open_files

LANES: Final = 4
TURNS_OF_A_WORKER: Final = 60  # then it is killed while it works
_ASKED: Final = ("hello", "!bash echo hello", '!tool send_message {"text": "a note"}', "a longer text " * 200)
_LOOKS: Final = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What the process holds after that many turns: `memory` in KiB, `objects` that Python's collector knows of."""

    turns: int
    memory: int
    objects: int
    descriptors: int
    threads: int
    tasks: int
    mailboxes: int
    doors: int
    lanes: int


#: How much more than in the middle of the run there may be at its end, in the medians of a third each.
ALLOWED: Final = {
    "memory": 8 * 1024,
    "objects": 3000,
    "descriptors": 20,
    "threads": 10,
    "tasks": 10,
    "mailboxes": 5,
    "doors": 4,
    "lanes": 4,
}


async def soak(turns: int) -> AsyncGenerator[Sample, None]:
    """Run that many turns; a sample at each twentieth of them."""
    with tempfile.TemporaryDirectory(prefix="ncs", ignore_cleanup_errors=True) as folder:
        async with Containers() as runtime:
            runtime.used_memory = 4 * 1024**3  # so that few workers stay
            spine = Spine(home=Path(folder), runtime=runtime, limit=None)
            async with spine.host() as host, anyio.create_task_group() as clock:
                clock.start_soon(_let_time_pass, spine)
                each = max(1, turns // LANES // _LOOKS)
                most = max(1, turns // 3 // (box._OPEN + 2 * LANES))  # so that no more mailboxes are opened after a third
                numbers = count()
                for look in range(1, _LOOKS + 1):
                    async with anyio.create_task_group() as tasks:
                        for lane in range(LANES):
                            tasks.start_soon(_talk, spine, host, lane, range((look - 1) * each, look * each), most, numbers)
                    _forget(spine)
                    yield await _look(host, look * each * LANES)
                clock.cancel_scope.cancel()


async def _talk(spine: Spine, host: Host, lane: int, turns: range, most: int, numbers: count[int]) -> None:
    """Take the turns; a chat has `most` of them."""
    for turn in turns:
        chat = f"chat-{lane}-{turn // most}"
        if turn % most == 0:
            await spine.wire(host, chat)
        message_id = f"soak-{next(numbers)}"
        await spine.chat.say(_ASKED[turn % len(_ASKED)], chat=chat, message_id=message_id)
        if turn % TURNS_OF_A_WORKER == TURNS_OF_A_WORKER - 1:
            _kill_worker(spine, host)
        while all(message_id not in settled for _, settled, _ in spine.chat.settlements):
            await spine.chat.settlement(len(spine.chat.settlements) + 1)


def _kill_worker(spine: Spine, host: Host) -> None:
    """One that works, if there is any at this moment."""
    for shift in host.pool.shifts:
        if shift.doing == "working" and shift.life and shift.life.container_id:
            spine.runtime.kill(shift.life.container_id)
            return


async def _let_time_pass(spine: Spine) -> None:
    """Twice as fast as it does outside."""
    while True:
        await anyio.sleep(0.05)
        await spine.clock.advance(0.1)


def _forget(spine: Spine) -> None:
    """What the test's own ends of the host remember."""
    chat, runtime = spine.chat, spine.runtime
    remembered: list[list[Any]] = [chat.outbox, chat.attempts, chat.settlements, chat.typings]  # Any: whatever it is
    for kept in (*remembered, runtime.specs, runtime.documents):
        kept.clear()


async def _look(host: Host, turns: int) -> Sample:
    await anyio.sleep(0.2)  # deliveries settle, and connections that ended are let go of
    gc.collect()
    _give_back()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        turns=turns,
        memory=pages * os.sysconf("SC_PAGESIZE") // 1024,
        objects=len(gc.get_objects()),
        descriptors=open_files().total(),
        threads=threading.active_count(),
        tasks=len(all_tasks()),
        mailboxes=sum(isinstance(each, Mailbox) for each in gc.get_objects()),
        doors=len(host.gateway._doors),
        lanes=len(host.delivery._lanes),
    )


def _give_back() -> None:
    """Let the C library return what it keeps for later, where it can: kept memory comes and goes, and is no leak."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def growth(samples: Sequence[Sample]) -> dict[str, float]:
    """How much more there is of each in the last third of the run than in the middle one."""
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]

    def typical(some: Sequence[Sample], name: str) -> float:
        return float(median(getattr(sample, name) for sample in some))

    return {name: typical(last, name) - typical(middle, name) for name in ALLOWED}


def leaks(samples: Sequence[Sample]) -> list[str]:
    """What grows."""
    grown = growth(samples)
    return [f"{name} grew by {grown[name]:.0f} in the last third" for name, most in ALLOWED.items() if grown[name] > most]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.soak", description="Look for what grows in a host.")
    parser.add_argument("--turns", type=int, default=4000, metavar="N", help="how long (default: 4000 turns)")
    parser.add_argument("--mailboxes", type=int, default=box._OPEN, metavar="N", help="how many stay open (default: as ever)")
    options = parser.parse_args()
    box._OPEN = options.mailboxes  # type: ignore[misc]  # a limit that a short run comes to as well
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    keep_memory_together()  # as `nanoclaw serve` does
    samples = anyio.run(_collect, options.turns)
    table = Table()
    for field in fields(Sample):
        table.add_column(field.name, justify="right")
    for sample in samples:
        table.add_row(*map(str, asdict(sample).values()))
    Console(width=110).print(table)
    print(*(found := leaks(samples)) or ["Nothing grows."], sep="\n")
    return 1 if found else 0


async def _collect(turns: int) -> list[Sample]:
    async with aclosing(soak(turns)) as samples:
        return [sample async for sample in samples]


if __name__ == "__main__":
    sys.exit(main())
