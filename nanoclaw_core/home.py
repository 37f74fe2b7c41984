"""The folder that holds all state, and the lock that keeps a second host out of it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from nanoclaw_core.errors import HomeUnusable, HostRunning

_LOCK = "host.lock"


@contextmanager
def own_home(home: Path) -> Iterator[None]:
    """Make `home` (0700) if it is missing, and own it until the end of the block, or of the process.

    Two locks: the file tells others whom they meet, and the folder itself keeps them out also when that file was deleted.

    Raises:
        HostRunning: another process owns it. HomeUnusable: it cannot be made or written.
    """
    with ExitStack() as descriptors:
        try:
            home.mkdir(mode=0o700, parents=True, exist_ok=True)
            if home.stat().st_mode & 0o077:
                home.chmod(0o700)
            lock = os.open(home / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            descriptors.callback(os.close, lock)
            folder = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            descriptors.callback(os.close, folder)
        except OSError as error:
            raise HomeUnusable(home, error.strerror or str(error)) from error
        _take(folder, lock, home)
        yield  # at the end the kernel lets go of the locks; the file stays, since removing it would race with the next host


def _take(folder: int, lock: int, home: Path) -> None:
    try:
        for descriptor in (lock, folder):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(lock, 32, 0).strip()
        raise HostRunning(home, int(pid) if pid.isdigit() else 0) from error
    try:
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    except OSError as error:  # a full disk
        raise HomeUnusable(home, error.strerror or str(error)) from error


def owner(home: Path) -> int | None:
    """The pid of the process that owns `home`, 0 when it is not known; None when nobody does.

    Looking takes the lock for a moment: ask only where a host is not expected to start just now.
    """
    try:
        lock = os.open(home / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(lock, 32, 0).strip()
        return int(pid) if pid.isdigit() else 0
    finally:
        os.close(lock)
    return None
