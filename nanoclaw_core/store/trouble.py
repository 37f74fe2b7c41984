"""What the database's file or its disk do to it, in words for people."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from sqlalchemy import URL
from sqlalchemy.exc import DatabaseError

from nanoclaw_core.errors import DatabaseBroken, HomeUnusable

_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DISK: Final = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN})
_A_FEW_PAGES: Final = 64 * 1024  # bytes


@contextmanager
def plain_words(url: URL) -> Iterator[None]:
    """Turn what SQLite says of a damaged file or a full disk into an error with advice; all other errors stay as they are.

    Raises:
        DatabaseBroken: restoring helps. HomeUnusable: mending the disk does.
    """
    try:
        yield
    except DatabaseError as error:
        code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF  # without what SQLite adds to it
        if code in _DAMAGED:
            raise DatabaseBroken(url.database, str(error.orig)) from error
        if code in _DISK:
            path = Path(url.database or "")
            raise HomeUnusable(path.parent, f"{path.name} cannot be read or written ({_reason(error, path)})") from error
        raise


def _reason(error: DatabaseError, path: Path) -> str:
    """What SQLite says; it calls a disk without room for its shared memory a failing one."""
    with suppress(OSError):
        if shutil.disk_usage(path.parent).free < _A_FEW_PAGES:
            return "the disk is full"
    return str(error.orig)
