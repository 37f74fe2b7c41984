"""Restores a backup into a new home: all of it, or nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final
from uuid import uuid4

from nanoclaw_core.backup.reader import read
from nanoclaw_core.backup.records import DATABASE, Header, Kind, Manifest, Member, is_mailbox
from nanoclaw_core.backup.tree import Tree
from nanoclaw_core.backup.verifying import Databases
from nanoclaw_core.disk import free_bytes
from nanoclaw_core.errors import BackupUnusable, DatabaseBroken, HomeUnusable, HostRunning
from nanoclaw_core.home import own_home, owner
from nanoclaw_core.ports import Clock
from nanoclaw_core.sandbox.spec import worker_user
from nanoclaw_core.store.snapshot import begin_anew

_SPARE: Final = 16 * 1024 * 1024  # bytes that are left free


class _Restorer:
    """A sink that writes everything below `place`."""

    def __init__(self, file: Path, place: Path, *, keep_id: bool) -> None:
        self._file = file
        self._place = place
        self._keep_id = keep_id
        self._databases = Databases(file)
        self._mailboxes: dict[str, None] = {}
        self._tree: Tree
        self._stack = ExitStack()
        self.installation = uuid4().hex

    def begin(self, header: Header) -> None:
        self._databases.begin(header)
        if self._keep_id:
            if len(header.installation) != 32 or not header.installation.isalnum():
                raise BackupUnusable(self._file, "it does not say whose backup it is")
            self.installation = header.installation
        uid, gid = (int(number) for number in worker_user(self.installation).split(":"))
        owner = (uid, gid) if os.getuid() == 0 else None
        self._tree = self._stack.enter_context(Tree(self._place, owner))

    def take(self, member: Member, pieces: Iterator[bytes]) -> None:
        if member.stored_size + _SPARE > free_bytes(self._place):
            raise HomeUnusable(self._place, "its disk has no room for all of the backup")
        try:
            self._tree.write(member, pieces)
        except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
            raise BackupUnusable(self._file, f"{member.name!r} may not be in it: {error.strerror}") from error
        except OSError as error:
            raise HomeUnusable(self._place, f"{member.name!r} cannot be written ({error.strerror})") from error
        if is_mailbox(member.name) and member.kind is Kind.FILE:
            self._mailboxes[member.name.rpartition("/")[0]] = None

    def end(self, now: float) -> None:
        """Check what was written, and let it begin under its own id."""
        self._stack.close()
        if (database := self._place / DATABASE).is_file():
            self._databases.check_central(database)
        for name in self._mailboxes:
            self._databases.check_mailbox(self._place / name, name)
        self._databases.end()
        try:
            begin_anew(database, self.installation, now)
        except (HomeUnusable, DatabaseBroken) as error:
            raise BackupUnusable(self._file, f"its central database is damaged ({error})") from error

    def close(self) -> None:
        self._stack.close()


def restore(path: Path, home: Path, clock: Clock, *, replace: bool) -> tuple[Manifest, Path | None]:
    """Make `home` what the backup holds; return its manifest, and where the old home is. Blocks.

    It gets an installation id of its own, so that it and the home of the backup can live side by side; with `replace` it is
    that installation, and a home that is there is moved aside.

    Raises:
        HostRunning: a host runs on `home`. HomeUnusable: it is in the way, or cannot be written. BackupUnusable, BackupTooNew:
            see `verify`. In every case `home` is as it was.
    """
    home = Path(os.path.realpath(home))
    with ExitStack() as stack:
        aside = _require_place(home, stack, replace=replace)
        place = stack.enter_context(_new_place(home))
        restorer = _Restorer(path, place, keep_id=replace)
        stack.callback(restorer.close)
        manifest = read(path, restorer)
        restorer.end(clock.time())
        os.sync()
        _put(place, home, aside)
    return manifest, aside


def _require_place(home: Path, stack: ExitStack, *, replace: bool) -> Path | None:
    """Return where the home that is there must go; None when there is none, or an empty one."""
    try:
        if not home.exists() or not any(home.iterdir()):
            return None
    except OSError as error:
        raise HomeUnusable(home, error.strerror or str(error)) from error
    if (pid := owner(home)) is not None:
        raise HostRunning(home, pid)
    if not replace:
        raise HomeUnusable(home, "it is not empty: name another one with --home, or move it aside with --replace")
    if not any((home / name).exists() for name in (DATABASE, "host.lock")):
        raise HomeUnusable(home, "it is a folder of something else, which --replace does not touch")
    stack.enter_context(own_home(home))
    return home.with_name(f"{home.name}.replaced-{datetime.now().astimezone():%Y%m%d-%H%M%S}")


@contextmanager
def _new_place(home: Path) -> Iterator[Path]:
    """A folder beside the home, which nobody else has; gone at the end unless it has become the home."""
    place = home.with_name(f"{home.name}.restoring")
    try:
        home.parent.mkdir(parents=True, exist_ok=True)
        with own_home(place):
            try:
                _empty(place)
                yield place
            finally:
                if place.exists():
                    shutil.rmtree(place, ignore_errors=True)
    except HostRunning as error:
        raise HomeUnusable(place, f"another restore (pid {error.pid}) is at work there") from error


def _empty(place: Path) -> None:
    """Remove what a restore has left that was killed."""
    for path in place.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != "host.lock":
            path.unlink()


def _put(place: Path, home: Path, aside: Path | None) -> None:
    try:
        if aside is not None:
            home.rename(aside)
        try:
            place.rename(home)
        except OSError:
            if aside is not None:
                aside.rename(home)
            raise
    except OSError as error:
        raise HomeUnusable(home, f"it cannot be put in place ({error.strerror})") from error
