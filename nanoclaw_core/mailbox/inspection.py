"""Looks whether the files of a mailbox are sound, without changing them, also while a host uses them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from nanoclaw_core.mailbox.files import USED, VERSION, MailboxBroken, missing, paths_in
from nanoclaw_core.snapshot import where_readable


def fault(folder: Path) -> str:
    """What is wrong with the mailbox in `folder`, or ''. A file that is not there yet is fine. Blocks."""
    used = False
    try:
        absent = missing(folder)
        for side, path in paths_in(folder).items():
            if side not in absent:
                reason, is_used = _look(path)
                if reason:
                    return f"{path}: {reason}"
                used = used or is_used
    except MailboxBroken as broken:
        return f"{broken.path}: {broken.reason}"
    except (sqlite3.DatabaseError, OSError) as error:
        return f"{path}: {error}"
    return f"{folder}: one of its files is gone" if used and absent else ""


def version_of(path: Path) -> int:
    """The version of the file's schema; 0 where it cannot be read. Blocks."""
    try:
        with looking(path) as (_, version):
            return version
    except (sqlite3.DatabaseError, OSError):
        return 0


def _look(path: Path) -> tuple[str, bool]:
    """What is wrong with the file, and whether anything was ever in it."""
    with looking(path) as (connection, version):
        if version > VERSION:
            return f"a later version of NanoClaw wrote it (schema {version})", True
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        used = found == "ok" and bool(connection.execute(USED).fetchone()[0])
    return "" if found == "ok" else str(found), used


@contextmanager
def looking(path: Path) -> Iterator[tuple[sqlite3.Connection, int]]:
    """A connection to the file at `path`, which is there, for a block that changes nothing, and its version. Blocks.

    Raises:
        sqlite3.DatabaseError, OSError: it is broken, or cannot be read.
    """
    # Not opened as read-only: SQLite would leave its log and index behind.
    with (
        where_readable(path) as place,
        closing(sqlite3.connect(f"{place.absolute().as_uri()}?mode=rw", uri=True)) as connection,
    ):
        connection.execute("PRAGMA query_only=ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        yield connection, version
