"""What lies at a path of the owner's: held by a descriptor that was reached without following any link, and looked through."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from nanoclaw_core.errors import MountRefused

Identity: TypeAlias = tuple[int, int]
"""Device and inode: what a file is, whatever it is called."""

_UNFOLLOWED: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

MOST_ENTRIES: Final = 500_000
MOST_SECONDS: Final = 10.0
MOST_DEPTH: Final = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What was found at `path`. `lineage` is what it and everything above it is, from '/' down."""

    path: Path
    descriptor: int
    lineage: tuple[Identity, ...]
    is_folder: bool

    @property
    def identity(self) -> Identity:
        return self.lineage[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """Every name below a folder, with one place where it occurs; `repositories` are folders in it that hold a `.git`."""

    names: dict[str, str]
    repositories: tuple[str, ...] = ()


@contextmanager
def held(path: Path) -> Iterator[Source]:
    """Hold what lies at `path` for as long as the block lasts.

    Raises:
        MountRefused: the path is not plain, a part of it is a link or missing, or it is neither a folder nor a plain file.
    """
    if not path.is_absolute() or ".." in path.parts:
        raise MountRefused(path, "it must be an absolute path without '..'")
    if not str(path).isprintable():  # nor what no database can hold: surrogates are not printable
        raise MountRefused(path, "its path holds line breaks, control characters or bytes that are no UTF-8; rename it")
    with ExitStack() as stack:
        descriptor = _opened(stack, "/", None, path)
        lineage = [_identity(os.fstat(descriptor))]
        for part in path.parts[1:]:
            descriptor = _opened(stack, part, descriptor, path)
            lineage.append(_identity(os.fstat(descriptor)))
        found = os.fstat(descriptor)
        if not stat.S_ISDIR(found.st_mode) and not stat.S_ISREG(found.st_mode):
            raise MountRefused(path, f"it is {_kind(found.st_mode)}, neither a folder nor a plain file")
        yield Source(path=path, descriptor=descriptor, lineage=tuple(lineage), is_folder=stat.S_ISDIR(found.st_mode))


def lineage_of(path: Path) -> tuple[Identity, ...]:
    """What `path` and everything above it is, links followed; empty where it is not there or cannot be seen."""
    with suppress(OSError, RuntimeError):
        real = path.resolve(strict=True)
        return tuple(_identity(part.stat()) for part in (*reversed(real.parents), real))
    return ()


def look_through(source: Source, now: Callable[[], float] = time.monotonic, most: int = MOST_ENTRIES) -> Contents:
    """Every name below a folder. Nothing but folders is opened, and no link is followed.

    Raises:
        MountRefused: it holds what is neither a file, a folder nor a link, or cannot be looked through: a part is closed
            to this user, or it is too large, too deep, or takes too long.
    """
    names: dict[str, str] = {}
    repositories: list[str] = []
    until = now() + MOST_SECONDS
    with closing(_entries(source, ".", source.descriptor)) as found:
        for number, (entry, place) in enumerate(found, 1):
            if number > most or (number % 1000 == 0 and now() > until):
                raise MountRefused(source.path, f"it is too large to be looked through ({number:,} entries so far)")
            names.setdefault(entry.name, place)
            if entry.name.lower() == ".git" and "/" in place:
                repositories.append(place.rpartition("/")[0])
            if not (entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False) or entry.is_symlink()):
                raise MountRefused(source.path, f"it holds a socket, a pipe or a device: {place!r}")
    return Contents(names=names, repositories=tuple(repositories))


def _entries(source: Source, name: str, above: int, where: str = "", depth: int = 0) -> Generator[tuple[os.DirEntry[str], str]]:
    """Everything below a folder, and its path from the source on."""
    if depth > MOST_DEPTH:
        raise MountRefused(source.path, f"it is too deep to be looked through, at {where!r}")
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=above)
    except FileNotFoundError:
        return  # it went away meanwhile
    except OSError as error:
        raise MountRefused(source.path, f"{where or '.'!r} in it cannot be looked through ({error.strerror})") from error
    try:
        with os.scandir(descriptor) as entries:
            for entry in entries:
                yield entry, where + entry.name
                if entry.is_dir(follow_symlinks=False):
                    yield from _entries(source, entry.name, descriptor, f"{where}{entry.name}/", depth + 1)
    except OSError as error:
        raise MountRefused(source.path, f"{where or '.'!r} in it cannot be looked through ({error.strerror})") from error
    finally:
        os.close(descriptor)


def _opened(stack: ExitStack, part: str, above: int | None, path: Path) -> int:
    try:
        descriptor = os.open(part, _UNFOLLOWED, dir_fd=above)
    except OSError as error:
        raise MountRefused(path, f"{part!r} cannot be reached ({error.strerror})") from error
    stack.callback(os.close, descriptor)
    if stat.S_ISLNK(os.fstat(descriptor).st_mode):
        raise MountRefused(path, f"{part!r} in its path is a link; name the place itself")
    return descriptor


def _identity(found: os.stat_result) -> Identity:
    return found.st_dev, found.st_ino


def _kind(mode: int) -> str:
    kinds = {stat.S_IFSOCK: "a socket", stat.S_IFIFO: "a pipe", stat.S_IFBLK: "a device", stat.S_IFCHR: "a device"}
    return kinds.get(stat.S_IFMT(mode), "something else")
