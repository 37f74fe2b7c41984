"""The guard of the home's disk: no turn is begun that could fill it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from anyio import to_thread

from nanoclaw_core.errors import DiskLow, HomeUnusable

_MIB: Final = 1024 * 1024


def free_bytes(path: Path) -> int:
    """What a program of this user can still write on the disk of `path`."""
    return shutil.disk_usage(path).free


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskGuard:
    """Looks at the disk of `home` when it is asked, and at no other time. `least` is in MiB; 0 lets everything pass."""

    home: Path
    least: int
    free: Callable[[Path], int] = free_bytes

    async def check(self) -> None:
        """Return if a turn may begin.

        Raises:
            DiskLow: there is less room than `least`. HomeUnusable: the home is gone.
        """
        if self.least == 0:
            return
        try:
            free = await to_thread.run_sync(self.free, self.home)  # a disk of another machine can take its time
        except OSError as error:
            raise HomeUnusable(self.home, error.strerror or str(error)) from error
        if free < self.least * _MIB:
            raise DiskLow(self.home, free // _MIB, self.least)
