"""The folder of the files that a session sends: each belongs to a row that waits for delivery, or to a call that goes on."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

OUTBOX: Final = "outbox"


def names_in(files: str) -> set[str]:
    """What the files of a row are called in the outbox."""
    return {Path(file["path"]).name for file in msgspec.json.decode(files)}


def make(session: Path) -> Path:
    """The outbox in the folder of a session; only the host's own user can look into it. Blocks."""
    folder = session / OUTBOX
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def delete(session: Path, names: Iterable[str]) -> None:
    """What cannot be deleted now is old one day. Blocks."""
    for name in names:
        with suppress(OSError):
            (session / OUTBOX / Path(name).name).unlink(missing_ok=True)


def older_than(session: Path, moment: float) -> list[str]:
    """Files that were last written before `moment`. Blocks."""
    folder = session / OUTBOX
    paths = list(folder.iterdir()) if folder.is_dir() else []
    return [path.name for path in paths if path.stat().st_mtime < moment]
