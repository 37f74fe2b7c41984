"""What a home with many sessions costs: to start on it, to look into it, and to clean it up."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from anyio import to_thread

from bench import bare
from bench.crowd import make_crowd
from bench.figures import Figures
from bench.hosts import environment, running
from bench.machine import memory
from nanoclaw_core.cli import logs
from nanoclaw_core.mailbox import Mailboxes
from nanoclaw_core.retention import Retention
from nanoclaw_core.store.database import open_database
from nanoclaw_core.supervise import SystemClock

_ROUNDS, _DAYS = 3, 30


async def measure(figures: Figures, count: int) -> None:
    logs.silence()  # retention tells of each round
    crowd = f"crowd, {count:,} sessions with 10 messages each"
    with tempfile.TemporaryDirectory(prefix="ncb", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        await make_crowd(home, count, now=time.time())
        await _with_host(figures, crowd, home)
        took, rows = await _retention(home)
    figures.add(f"{crowd}: one daily round of retention, all that is due in 1 of 7 mailboxes and the database", "s", [took])
    figures.add(f"{crowd}: forgotten in that round", "rows", [rows])


async def _with_host(figures: Figures, crowd: str, home: Path) -> None:
    ready, resident = [], []
    for _ in range(_ROUNDS):
        async with running(home, ["Andy"], {}) as found:
            ready.append(found.ready)
            resident.append(memory(found.process.pid)[0])
    figures.add(f"{crowd}: host ready", "s", ready, floor=bare.READY)
    figures.add(f"{crowd}: host memory after its first turn (RSS)", "MiB", resident, floor=bare.MEMORY)
    async with running(home, ["Andy"], {}):
        stuck = [await _run(home, "messages", "--stuck") for _ in range(_ROUNDS)]
        doctor, said = await _run(home, "doctor", "--json")
    figures.add(f"{crowd}: `nanoclaw messages --stuck`", "s", [took for took, _ in stuck])
    figures.add(f"{crowd}: `nanoclaw doctor`", "s", [doctor])
    figures.add(f"{crowd}: checks of the doctor that ran out of time", "checks", [cut_short(said)], aim=0)


async def _run(home: Path, *words: str) -> tuple[float, str]:
    """Seconds of the whole command, from its start to its end, and what it said."""
    command = [sys.executable, "-m", "nanoclaw_core.cli", *words]
    began = time.perf_counter()
    call = partial(subprocess.run, command, env=environment(home, {}), cwd=home, capture_output=True, text=True, check=False)
    done = await to_thread.run_sync(call)
    if done.returncode not in (0, 1):
        raise RuntimeError(f"`nanoclaw {' '.join(words)}` failed: {done.stderr[-2000:]}")
    return time.perf_counter() - began, done.stdout


def cut_short(said: str) -> int:
    """How many checks had no result in their time, by what `nanoclaw doctor --json` printed."""
    return sum("had no result after" in line["reason"] for line in json.loads(said)["checks"])


async def _retention(home: Path) -> tuple[float, int]:
    """Seconds of a host's daily round, and how many rows of mailboxes it took out."""
    async with open_database(home / "nanoclaw.db", backups=None) as database:
        mailboxes = Mailboxes(home)
        keeper = Retention(database=database, mailboxes=mailboxes, home=home, clock=SystemClock(), days=_DAYS)
        began = time.perf_counter()
        gone = await keeper.prune()
        took = time.perf_counter() - began
        await mailboxes.close()
    return took, gone["rows"]
