"""The machine's memory: how much there is, and how much of it is left."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_MEMINFO: Final = Path("/proc/meminfo")


def total_bytes() -> int:
    """What the machine has."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_bytes(source: Path = _MEMINFO) -> int | None:
    """What programs can still take without swapping, as Linux estimates it (see proc_meminfo(5)); None where nobody says."""
    try:
        lines = source.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    return None if found is None else int(found) * 1024


def has_room(more: int, *, spare: int, source: Path = _MEMINFO) -> bool:
    """Whether `more` bytes can be taken so that `spare` are left; yes where nobody says."""
    available = available_bytes(source)
    return available is None or available >= more + spare
