"""Finds out whether a backup could be restored, without restoring it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nanoclaw_core.backup.reader import read
from nanoclaw_core.backup.records import DATABASE, Header, Kind, Manifest, Member, is_mailbox
from nanoclaw_core.errors import BackupTooNew, BackupUnusable, DatabaseBroken, HomeUnusable
from nanoclaw_core.mailbox.snapshot import fault_of_copy, is_newer
from nanoclaw_core.store.inspection import examine


class Databases:
    """Checks the databases of a backup, each when it is there. `file` is the backup, for the errors."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._version = ""
        self._has_central = False

    def begin(self, header: Header) -> None:
        self._version = header.version

    def check_central(self, path: Path) -> None:
        """
        Raises:
            BackupTooNew, BackupUnusable: this version cannot go on with it.
        """
        self._has_central = True
        try:
            found = examine(path)
        except (DatabaseBroken, HomeUnusable) as error:
            raise BackupUnusable(self._file, f"its central database is damaged: {error}") from error
        if found.is_newer:
            raise BackupTooNew(self._file, self._version)
        if found.fault or not found.revision:
            raise BackupUnusable(self._file, f"its central database is damaged ({found.fault or 'it is empty'})")

    def check_mailbox(self, folder: Path, name: str) -> None:
        """Check the files of a mailbox that are in `folder`; they are `name` in the backup.

        Raises:
            BackupTooNew, BackupUnusable: this version cannot go on with it.
        """
        if is_newer(folder):
            raise BackupTooNew(self._file, self._version)
        if reason := fault_of_copy(folder):
            raise BackupUnusable(self._file, f"the mailbox {name} is damaged ({reason})")

    def end(self) -> None:
        if not self._has_central:
            raise BackupUnusable(self._file, f"it holds no {DATABASE}")


class _Verifier:
    """A sink that keeps one database at a time."""

    def __init__(self, file: Path, place: Path) -> None:
        self._place = place
        self._databases = Databases(file)
        self._mailbox = ""

    def begin(self, header: Header) -> None:
        self._databases.begin(header)

    def take(self, member: Member, pieces: Iterator[bytes]) -> None:
        folder = member.name.rpartition("/")[0] if is_mailbox(member.name) else ""
        if self._mailbox and folder != self._mailbox:
            self._check_mailbox()
        if member.kind is not Kind.FILE or not (folder or member.name == DATABASE):
            return
        path = self._place / member.name.rpartition("/")[2]
        with path.open("wb") as file:
            for piece in pieces:
                file.write(piece)
        if folder:
            self._mailbox = folder
        else:
            self._databases.check_central(path)
            path.unlink()

    def _check_mailbox(self) -> None:
        self._databases.check_mailbox(self._place, self._mailbox)
        for path in self._place.iterdir():
            path.unlink()
        self._mailbox = ""

    def end(self) -> None:
        if self._mailbox:
            self._check_mailbox()
        self._databases.end()


def verify(path: Path) -> Manifest:
    """Read a backup once, check every checksum and every database, and return what it says of itself. Blocks.

    Raises:
        BackupUnusable: it is damaged, incomplete, or none. BackupTooNew: which version can restore it.
    """
    place = Path(tempfile.mkdtemp(prefix="nanoclaw-verify-"))
    try:
        sink = _Verifier(path, place)
        manifest = read(path, sink)
        sink.end()
        return manifest
    finally:
        shutil.rmtree(place, ignore_errors=True)
