"""Files in folders that the agent can write too: never followed, waited for, or believed to be what their name says."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Iterable
from pathlib import Path


def report(text: str) -> None:
    """One line on standard error, which the host keeps."""
    sys.stderr.write(f"nanoclaw-runner: {text}\n")
    sys.stderr.flush()


def own_folder(path: Path) -> None:
    """Make `path` a folder that can be used; what else has its name is set aside. Its parent must be one already.

    Raises:
        OSError: that is impossible.
    """
    clear(path, stat.S_ISDIR)
    path.mkdir(mode=0o700, exist_ok=True)
    open_up(path)


def open_up(folder: Path) -> None:
    """Take back the permissions that somebody took away.

    Raises:
        OSError: the folder is not ours.
    """
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        folder.chmod(0o700)


def open_regular(path: Path, flags: int = os.O_RDONLY) -> int | None:
    """A descriptor of the file at `path`, or None when there is none; what else has its name is set aside.

    Opening it plainly would wait for ever at a FIFO, and follow a link to `/dev/zero`.
    """
    try:
        fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        set_aside(path, error.strerror or "it cannot be opened")
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    set_aside(path, "it is no regular file")
    return None


def write_whole(path: Path, pieces: Iterable[bytes]) -> None:
    """Put a new file in the place of whatever is at `path`; it is on the disk when this returns.

    Raises:
        OSError: the disk is full, or somebody is quicker.
    """
    fresh = path.with_name(f"{path.name}.new")
    clear(path)
    clear(fresh)
    fresh.unlink(missing_ok=True)
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.writelines(pieces)
        file.flush()
        os.fsync(fd)
    fresh.replace(path)


def clear(path: Path, wanted: Callable[[int], bool] = stat.S_ISREG) -> None:
    """Set aside what is at `path` unless it is of the `wanted` type, a regular file if nothing is said."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not wanted(mode):
        set_aside(path, f"its type is {stat.filemode(mode)[0]}")


def set_aside(path: Path, reason: str) -> None:
    """Rename what is at `path`: that neither opens nor follows it, and loses nothing."""
    aside = path.with_name(f"{path.name}.aside-{os.urandom(4).hex()}")
    try:
        path.rename(aside)
    except OSError as error:
        report(f"{path} cannot be used ({reason}), and not be set aside: {error.strerror}")
    else:
        report(f"{path} cannot be used ({reason}) and is now {aside.name}")
