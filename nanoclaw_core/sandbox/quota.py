"""How much the workspace of an agent holds, and whether that is too much for another turn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog
from anyio import to_thread

from nanoclaw_core.errors import WorkspaceFull
from nanoclaw_core.models import AgentGroup

log = structlog.get_logger()

_MIB: Final = 1024 * 1024
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_SECONDS: Final = 5.0
_GOOD_FOR: Final = 600.0  # a walk through many files would be felt in each answer
_MOST_DEPTH: Final = 200


@dataclass(slots=True, kw_only=True)
class Quota:
    """Measures the folder of an agent when a turn is to begin, unless that was done a short while ago and it had room.

    `most` is in MiB; 0 lets everything pass.
    """

    home: Path
    most: int
    now: Callable[[], float] = time.monotonic
    _good_until: dict[str, float] = field(default_factory=dict)

    async def check(self, agent: AgentGroup) -> None:
        """Return if a turn may begin.

        Raises:
            WorkspaceFull: the folder holds more than it may.
        """
        if self.most == 0 or self.now() < self._good_until.get(agent.id, 0.0):
            return
        folder = self.home / "groups" / agent.folder
        used, is_whole = await to_thread.run_sync(measured, folder, self.most * _MIB)
        if used > self.most * _MIB:
            raise WorkspaceFull(agent.name, folder, used // _MIB, self.most)
        self._good_until[agent.id] = self.now() + _GOOD_FOR
        if not is_whole:
            log.warning("workspace.not_measured", agent=agent.name, counted=used)


def measured(folder: Path, enough: int, now: Callable[[], float] = time.monotonic) -> tuple[int, bool]:
    """The bytes on the disk of everything in `folder`, and whether that is all: it ends early beyond `enough`, and after 5 s.

    A container can write there. So folders are opened one below the other without following a link, of everything else only
    the size is asked, and what changes meanwhile, or is closed to this user, counts nothing.
    """
    used, until = 0, now() + _MOST_SECONDS
    with closing(_sizes(str(folder), None)) as sizes:
        for number, size in enumerate(sizes, 1):
            used += size
            if used > enough or (number % 1000 == 0 and now() > until):
                return used, used > enough
    return used, True


def _sizes(name: str, above: int | None, depth: int = 0) -> Generator[int]:
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=above)
    except OSError:
        return
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                found = entry.stat(follow_symlinks=False)
                yield found.st_blocks * 512 // max(1, found.st_nlink if entry.is_file(follow_symlinks=False) else 1)
                if entry.is_dir(follow_symlinks=False) and depth < _MOST_DEPTH:
                    yield from _sizes(entry.name, descriptor, depth + 1)
    except OSError:
        return
    finally:
        os.close(descriptor)
