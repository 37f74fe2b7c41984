"""Copies a mailbox while a host uses it: both files as they are at one and the same moment."""

from __future__ import annotations

import sqlite3
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Final

from nanoclaw_core.errors import BackupFailed
from nanoclaw_core.mailbox.files import VERSION, MailboxFiles, MailboxUnusable
from nanoclaw_core.mailbox.inspection import fault, version_of

FILES: Final = ("inbound.db", "outbound.db")
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_PATIENCE: Final = 30.0  # seconds that the host's own transactions may take


def copy_mailbox(folder: Path, into: Path) -> list[Path]:
    """Copy the files that are there; return the copies. Blocks.

    Each file holds what the other one refers to by number, so neither may be older. Nobody writes while both write locks
    are held, which is for as long as it takes to begin reading; the copying keeps nobody waiting.

    Raises:
        MailboxUnusable: one of the files is damaged. BackupFailed: there is no room for a copy, or the disk fails.
    """
    present = [name for name in FILES if (folder / name).exists()]
    try:
        with ExitStack() as stack:
            writers, readers = ([stack.enter_context(_open(folder / name)) for name in present] for _ in range(2))
            for writer in writers:
                writer.execute("BEGIN IMMEDIATE")
            for reader in readers:
                reader.execute("BEGIN")
                reader.execute("SELECT count(*) FROM sqlite_master").fetchone()  # from here on it sees this moment
            for writer in writers:
                writer.execute("ROLLBACK")
            for name, reader in zip(present, readers, strict=True):
                copy = stack.enter_context(closing(sqlite3.connect(into / name)))
                copy.execute("PRAGMA synchronous=OFF")  # a copy that a power cut spoils is a backup that was not made
                reader.backup(copy)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED:
            raise MailboxUnusable(folder, str(error)) from error
        raise BackupFailed(f"of {folder}", f"{error} (copies are made in {into})") from error
    return [into / name for name in present]


def fault_of_copy(folder: Path) -> str:
    """Why a host could not use the copied mailbox in `folder`, which nobody else has open; '' if it can. Blocks."""
    if found := fault(folder):
        return found
    try:
        MailboxFiles(folder).close()
    except MailboxUnusable as error:
        return str(error)
    return ""


def is_newer(folder: Path) -> bool:
    """Whether a later version of NanoClaw wrote the copied mailbox in `folder`. Blocks."""
    return any(version_of(folder / name) > VERSION for name in FILES)


def _open(path: Path) -> closing[sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode=rw"
    return closing(sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_PATIENCE))
