"""Where a broken pair of files goes, and how a new one takes its place: whole, however often that is cut off."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

NEW_PAIR: Final = "anew"
UNFINISHED: Final = "anew.tmp"
_BROKEN: Final = "broken-"
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_KEPT_COPIES: Final = 3
_FILES: Final = ("inbound.db", "outbound.db")
_BESIDE: Final = ("", "-wal", "-shm")
_PLACE: Final = "place"  # holds the name of the folder where the old pair goes


def set_aside(folder: Path, now: float) -> Path:
    """Let the new pair, which is finished in `UNFINISHED`, take the place of the old one; return where that has gone."""
    stamp = f"{datetime.fromtimestamp(now, UTC):{_STAMP}}"
    names = (f"{_BROKEN}{stamp}" + (f"-{number}" if number else "") for number in range(1000))
    copy = next(folder / name for name in names if not (folder / name).exists())
    (folder / UNFINISHED / _PLACE).write_text(copy.name)
    (folder / UNFINISHED).rename(folder / NEW_PAIR)
    finish_renewal(folder)
    return copy


def finish_renewal(folder: Path) -> None:
    """Go on where `set_aside` was cut off, if it was. Each file has been exchanged, or not; the old one is never deleted."""
    anew = folder / NEW_PAIR
    if not anew.is_dir():
        return
    copy = folder / (anew / _PLACE).read_text()
    copy.mkdir(mode=0o700, exist_ok=True)
    for name in _FILES:
        if (anew / name).exists():
            for end in _BESIDE:
                with suppress(FileNotFoundError):
                    (folder / (name + end)).rename(copy / (name + end))
            (anew / name).rename(folder / name)
    shutil.rmtree(anew)
    _sync(folder)


def copies_in(folder: Path) -> list[Path]:
    """The folders with broken pairs, oldest first."""
    return sorted(path for path in folder.glob(f"{_BROKEN}*") if path.is_dir())


def forget_copies(folder: Path, before: float) -> int:
    """Delete all but the newest three, and those that were made before `before`; return how many went."""
    stamp = f"{_BROKEN}{datetime.fromtimestamp(max(before, 0), UTC):{_STAMP}}"
    copies = copies_in(folder)
    old = [path for place, path in enumerate(copies, 1) if place <= len(copies) - _KEPT_COPIES or path.name < stamp]
    for path in old:
        shutil.rmtree(path)
    return len(old)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
