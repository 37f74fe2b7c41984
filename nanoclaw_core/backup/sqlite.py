"""SQLite databases that the host's plugins keep in the home: copied as databases, not as bytes that change meanwhile."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

from nanoclaw_core.errors import BackupFailed

#: What SQLite keeps beside a database; a copy needs none of it.
SIDE_FILES: Final = ("-wal", "-shm", "-journal")
_MAGIC: Final = b"SQLite format 3\0"


def is_database(path: Path) -> bool:
    """Whether the file begins as a SQLite database does."""
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def copy_other(path: Path, place: Path) -> Path | None:
    """A copy of a database as it is at one moment, in the folder `place`; None for one that SQLite cannot read.

    Raises:
        BackupFailed: there is no room for a copy, or the disk fails.
    """
    copy = place / "other.db"
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(uri, uri=True, timeout=30)) as live, closing(sqlite3.connect(copy)) as target:
            target.execute("PRAGMA synchronous=OFF")
            live.backup(target)
    except sqlite3.DatabaseError as error:
        copy.unlink(missing_ok=True)
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            return None
        raise BackupFailed(f"of {path}", f"{error} (copies are made in {place})") from error
    return copy
