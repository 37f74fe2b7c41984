"""Makes a backup while the host runs: mailboxes first, then the central database, then everything else.

Every copy is a little younger than the one before, and each step is safe in that direction; docs/decisions/0013 says why.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from anyio import from_thread, to_thread

from nanoclaw_core import __version__
from nanoclaw_core.backup.packer import MOST_LEFT_OUT, LeftOut, packed
from nanoclaw_core.backup.records import DATABASE, FORMAT, RUNNING, Header, Kind, Manifest, Member, is_workspace
from nanoclaw_core.backup.sqlite import SIDE_FILES, copy_other, is_database
from nanoclaw_core.backup.workspaces import AT_ONCE, Workspaces, workspaces_of
from nanoclaw_core.backup.writer import Writer
from nanoclaw_core.errors import DatabaseBroken
from nanoclaw_core.mailbox.files import VERSION, MailboxUnusable
from nanoclaw_core.mailbox.snapshot import FILES, copy_mailbox, fault_of_copy, is_newer
from nanoclaw_core.models import Session
from nanoclaw_core.ports import Clock
from nanoclaw_core.secrets import FOLDER
from nanoclaw_core.store.inspection import examine
from nanoclaw_core.store.snapshot import Moment, copy_database, moment

#: What a backup never holds, beside what belongs to a running host; backups of backups would grow for ever.
_NEVER: Final = RUNNING | {"backups", "groups", "sessions", DATABASE, *(DATABASE + end for end in SIDE_FILES)}
_OWN_NAME: Final = "nanoclaw-"
_ENDS: Final = (".tar.gz", ".tar.gz.part")
_SECRETS: Final = {".env", FOLDER}
_LOGS: Final = "logs"
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What goes into a backup beside the databases; without `workspaces`, no agent's folder and no session's state."""

    workspaces: Workspaces | None
    secrets: bool = True
    logs: bool = False


@dataclass(slots=True, kw_only=True)
class Backup:
    """One backup of `home`. `between` is called after each mailbox, for tests that act in the worst moments."""

    home: Path
    clock: Clock
    wanted: Wanted
    between: Callable[[], None] = lambda: None
    _left_out: LeftOut = field(default_factory=list)
    _damaged: list[str] = field(default_factory=list)

    async def write(self, out: BinaryIO) -> Manifest:
        """Write all of it to `out`.

        Raises:
            HomeUnusable, DatabaseBroken, DatabaseTooNew: there is nothing to back up. ContainerFailed, RuntimeUnavailable: the
                folders of agents cannot be read. OSError: `out` cannot be written.
        """
        began = self.clock.time()
        since = await to_thread.run_sync(moment, self.home / DATABASE)
        with Writer(out, from_thread.check_cancelled) as writer:
            await to_thread.run_sync(self._write_own, writer, self._header(began, since), since)
            if self.wanted.workspaces is not None:
                await self._write_workspaces(writer, self.wanted.workspaces, since)
            return await to_thread.run_sync(writer.end, partial(self._manifest, writer, began, since))

    def _header(self, began: float, since: Moment) -> Header:
        return Header(
            format=FORMAT,
            version=__version__,
            created_at=began,
            installation=since.installation,
            workspaces=self.wanted.workspaces is not None,
            secrets=self.wanted.secrets,
        )

    def _manifest(self, writer: Writer, began: float, since: Moment, digest: str) -> Manifest:
        return Manifest(
            format=FORMAT,
            version=__version__,
            created_at=began,
            finished_at=self.clock.time(),
            schemas={"database": since.revision, "mailbox": str(VERSION)},
            members=writer.members,
            bytes=writer.bytes,
            sha256=digest,
            left_out=self._left_out[:MOST_LEFT_OUT],
            damaged=self._damaged,
        )

    # --- what only the host writes ----------------------------------------------------------------------------------------

    def _write_own(self, writer: Writer, header: Header, since: Moment) -> None:
        """Everything that no container can write; runs in a thread."""
        writer.begin(header)
        with tempfile.TemporaryDirectory(prefix="nanoclaw-backup-") as place:
            for session in since.sessions:
                self._add_mailbox(writer, session, Path(place))
                self.between()
            copy = Path(place, DATABASE)
            copy_database(self.home / DATABASE, copy, since)
            if fault := examine(copy).fault:
                raise DatabaseBroken(self.home / DATABASE, fault)
            self._add_copy(writer, copy, DATABASE)
            for session in since.sessions:
                for name in ("inbox", "outbox"):
                    self._add_tree(writer, f"{session.folder}/{name}", Path(place))
            for path in sorted(self.home.iterdir()):
                if self._is_wanted(path.name):
                    self._add_tree(writer, path.name, Path(place))

    def _is_wanted(self, name: str) -> bool:
        if name in _NEVER or (name.startswith(_OWN_NAME) and name.endswith(_ENDS)):
            return False
        return (name not in _SECRETS or self.wanted.secrets) and (name != _LOGS or self.wanted.logs)

    def _add_mailbox(self, writer: Writer, session: Session, place: Path) -> None:
        """Add both files; one that is broken is kept as it is, under a name that lets the session begin anew."""
        try:
            copies = copy_mailbox(self.home / session.folder, place)
            is_sound = is_newer(place) or not fault_of_copy(place)
        except MailboxUnusable:
            is_sound = False
        if is_sound:
            for copy in copies:
                self._add_copy(writer, copy, f"{session.folder}/{copy.name}")
        else:
            self._damaged.append(session.folder)
            for name in FILES:
                self._add_file(writer, f"{session.folder}/{name}", as_name=f"{session.folder}/{name}.damaged")
        for left in place.iterdir():
            left.unlink()

    def _add_copy(self, writer: Writer, copy: Path, name: str) -> None:
        self._add_parents(writer, name)
        file = os.open(copy, _FILE)
        try:
            self._add_open(writer, file, name, mode=0o600)
        finally:
            os.close(file)
        copy.unlink()

    def _add_tree(self, writer: Writer, name: str, place: Path) -> None:
        """Add a file or a folder of the host's; whatever is deleted meanwhile is not missed."""
        path = self.home / name
        try:
            found = path.lstat()
            if stat.S_ISDIR(found.st_mode):
                self._add_parents(writer, f"{name}/")
                for each in sorted(path.iterdir()):
                    self._add_tree(writer, f"{name}/{each.name}", place)
            elif stat.S_ISREG(found.st_mode) and is_database(path):
                if copy := copy_other(path, place):
                    self._add_copy(writer, copy, name)
                else:
                    self._add_file(writer, name)
            elif stat.S_ISREG(found.st_mode):
                if not name.endswith(SIDE_FILES) or not is_database(path.with_name(path.name.rpartition("-")[0])):
                    self._add_file(writer, name)
            else:
                self._left_out.append((name, "neither a file nor a folder"))
        except FileNotFoundError:
            return

    def _add_file(self, writer: Writer, name: str, *, as_name: str = "") -> None:
        try:
            file = os.open(self.home / name, _FILE)
        except FileNotFoundError:
            return
        try:
            self._add_parents(writer, name)
            self._add_open(writer, file, as_name or name)
        finally:
            os.close(file)

    def _add_open(self, writer: Writer, file: int, name: str, mode: int | None = None) -> None:
        found = os.fstat(file)
        info, pieces = packed(file, name, found, may_have_holes=False)
        mode = info.mode if mode is None else mode
        writer.add(Member(name=name, kind=Kind.FILE, mode=mode, mtime=int(info.mtime), size=info.size), pieces)

    def _add_parents(self, writer: Writer, name: str) -> None:
        """Add the folders that `name` lies in, each once."""
        for parent in _parents(name):
            if not writer.has_folder(parent):
                found = (self.home / parent).stat()
                writer.add(Member(name=parent, kind=Kind.FOLDER, mode=found.st_mode & 0o777, mtime=int(found.st_mtime)))

    # --- what containers write --------------------------------------------------------------------------------------------

    async def _write_workspaces(self, writer: Writer, workspaces: Workspaces, since: Moment) -> None:
        await workspaces.tidy(since.installation)
        names = await to_thread.run_sync(workspaces_of, self.home, [session.folder for session in since.sessions])
        for batch in _batches(names, AT_ONCE):
            await to_thread.run_sync(self._add_homes_of, writer, batch)
            self._left_out += await workspaces.add(writer, self.home, batch, since.installation)

    def _add_homes_of(self, writer: Writer, names: Sequence[str]) -> None:
        for name in names:
            self._add_parents(writer, name)


def _parents(name: str) -> Iterator[str]:
    parts = name.split("/")[:-1]
    for count in range(1, len(parts) + 1):
        if not is_workspace(parent := "/".join(parts[:count])):
            yield parent


def _batches(names: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(names), size):
        yield names[start : start + size]
