"""The floor of the host itself: a bare Python that listens, and a bare SQLite that commits."""

from __future__ import annotations

import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from bench.figures import Figures
from bench.machine import memory

READY: Final = "floor: bare Python, start to first answer on a Unix socket"
MEMORY: Final = "floor: bare Python that listens, memory (RSS)"
COMMIT: Final = "floor: one durable SQLite commit"
COMMITS: Final = "floor: durable SQLite commits, one after another"
_TEXT: Final = "A row of ordinary length, as messages are that people write to each other. " * 4


async def measure(figures: Figures, rounds: int) -> None:
    ready, resident = zip(*(_listener() for _ in range(rounds)), strict=True)
    commits = _commits(100 * rounds)
    figures.add(READY, "s", ready)
    figures.add(MEMORY, "MiB", resident)
    figures.add(COMMIT, "s", commits)
    figures.add(COMMITS, "messages/s", [len(commits) / sum(commits)], is_rate=True)


def _listener() -> tuple[float, float]:
    """Seconds until it has answered, and what it then holds in MiB."""
    with tempfile.TemporaryDirectory(prefix="ncb") as folder:
        path = str(Path(folder, "listener.sock"))
        began = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", "bench.listener", path], stdout=subprocess.PIPE)
        assert process.stdout is not None
        try:
            process.stdout.readline()
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(path)
                connection.sendall(b"hello\n")
                connection.recv(64)
                took = time.perf_counter() - began
            return took, memory(process.pid)[0]
        finally:
            process.terminate()
            process.communicate()


def _commits(count: int) -> list[float]:
    """Seconds for each commit of one row, as durable as the host's."""
    took = []
    with (
        tempfile.TemporaryDirectory(prefix="ncb") as folder,
        closing(sqlite3.connect(Path(folder, "bare.db"), isolation_level=None)) as connection,
    ):
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", "CREATE TABLE rows (text TEXT)"):
            connection.execute(statement)
        for _ in range(count):
            began = time.perf_counter()
            connection.execute("INSERT INTO rows VALUES (?)", (_TEXT,))
            took.append(time.perf_counter() - began)
    return took
