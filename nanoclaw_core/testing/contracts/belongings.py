"""What a test may not leave behind: tasks, threads, sockets, child processes."""

from __future__ import annotations

import asyncio
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path


class Belongings:
    """What this process has of its own: tasks, threads, sockets, child processes."""

    def __init__(self) -> None:
        self.tasks = {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}
        self.threads = {thread for thread in threading.enumerate() if not _is_pooled(thread)}
        self.sockets = _sockets()
        self.children = _children()

    def more_than(self, other: Belongings) -> list[str]:
        """What was not there before."""
        found = [f"task {task.get_name()}" for task in self.tasks - other.tasks]
        found += [f"thread {thread.name}" for thread in self.threads - other.threads]
        found += [f"{self.sockets - other.sockets} sockets"] * (self.sockets > other.sockets)
        return found + [f"process {pid}" for pid in self.children - other.children]


def _is_pooled(thread: threading.Thread) -> bool:
    """Whether it belongs to the event loop, which keeps it for the next lookup of a name or other work."""
    return "AnyIO" in thread.name or thread.name.startswith("asyncio_")


def _sockets() -> int:
    """How many this process has open."""
    found = 0
    for name in os.listdir("/dev/fd"):  # noqa: PTH208  # links that vanish while they are read
        with suppress(OSError):
            found += stat.S_ISSOCK(os.fstat(int(name)).st_mode)
    return found


def _children() -> set[str]:
    """Their process ids, where the system says them (Linux)."""
    files = Path("/proc/self/task").glob("*/children")
    return {pid for file in files for pid in file.read_text().split()}
