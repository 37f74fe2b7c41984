"""What runs in this container besides the worker itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

_INIT: Final = 1


def strangers() -> bool:
    """Whether there are processes besides the init, the runner and its engine: commands that the agent left running.

    Outside of a container of its own the runner cannot tell whose they are, and says no.
    """
    me = os.getpid()
    return _INIT in (me, os.getppid()) and any(is_stranger(pid, parent, me) for pid, parent in processes(Path("/proc")))


def is_stranger(pid: int, parent: int, me: int) -> bool:
    """Whether `pid` is neither of the worker nor somebody who entered the container from outside, and has no parent here."""
    return pid not in (_INIT, me) and parent not in (0, me)


def processes(proc: Path) -> Iterator[tuple[int, int]]:
    """The ids of all that live, each with its parent's."""
    for entry in proc.iterdir():
        if entry.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
                if state not in ("Z", "X"):
                    yield int(entry.name), int(parent)
