"""Writes the members of a backup below one folder, and nowhere else, whatever their names and links say."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from nanoclaw_core.backup.records import Kind, Member, is_workspace

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True, kw_only=True)
class _Level:
    """A folder that is being filled. What `finish` sets would be in the way before, or be changed by it."""

    name: str
    descriptor: int
    finish: Callable[[], None]


class Tree:
    """Everything is made new, by way of descriptors of the folders above that no link has led to.

    `owner` (user and group) gets what is in the agents' folders and the sessions' states; None leaves it to who runs this.
    """

    def __init__(self, root: Path, owner: tuple[int, int] | None) -> None:
        self._root = root
        self._owner = owner
        self._levels: list[_Level] = []

    def __enter__(self) -> Self:
        self._levels = [_Level(name="", descriptor=os.open(self._root, _FOLDER), finish=lambda: None)]
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as stack:
            for level in self._levels:
                stack.callback(os.close, level.descriptor)
            for level in self._levels:
                stack.callback(level.finish)

    def write(self, member: Member, pieces: Iterable[bytes]) -> None:
        """Make a member.

        Raises:
            FileExistsError: it was there before. NotADirectoryError, FileNotFoundError: the folder that it lies in is none, or
                is missing. OSError: the disk is full, or fails.
        """
        folder, _, name = member.name.rpartition("/")
        parent = self._enter(folder)
        if member.kind is Kind.LINK:
            os.symlink(member.target, name, dir_fd=parent)
            if self._owner:
                os.chown(name, *self._owner, dir_fd=parent, follow_symlinks=False)
        elif member.kind is Kind.FOLDER:
            os.mkdir(name, 0o700, dir_fd=parent)
            self._push(member.name, name, parent, member)
        else:
            self._write_file(member, name, parent, pieces)

    def _write_file(self, member: Member, name: str, parent: int, pieces: Iterable[bytes]) -> None:
        with open(os.open(name, _NEW, 0o600, dir_fd=parent), "wb", buffering=0) as file:  # noqa: PTH123
            descriptor = file.fileno()
            source = iter(pieces)
            for offset, length in [(0, member.size)] if member.segments is None else member.segments:
                end = offset + length
                while offset < end:
                    piece = next(source)
                    _write_at(descriptor, piece, offset)
                    offset += len(piece)
            os.ftruncate(descriptor, member.size)
            self._finish(descriptor, member)

    def _finish(self, descriptor: int, member: Member) -> None:
        if self._owner and is_workspace(member.name):
            os.fchown(descriptor, *self._owner)
        os.fchmod(descriptor, member.mode if is_workspace(member.name) else member.mode & 0o755)
        os.utime(descriptor, (member.mtime, member.mtime))

    def _enter(self, folder: str) -> int:
        """The descriptor of `folder`; those that are not on the way to it are finished."""
        while (top := self._levels[-1]).name and folder != top.name and not folder.startswith(f"{top.name}/"):
            self._pop()
        while (top := self._levels[-1]).name != folder:
            name = folder[len(top.name) + 1 if top.name else 0 :].partition("/")[0]
            self._push(f"{top.name}/{name}" if top.name else name, name, top.descriptor, None)
        return self._levels[-1].descriptor

    def _push(self, path: str, name: str, parent: int, member: Member | None) -> None:
        descriptor = os.open(name, _FOLDER, dir_fd=parent)

        def finish() -> None:
            if member is not None:
                self._finish(descriptor, member)

        self._levels.append(_Level(name=path, descriptor=descriptor, finish=finish))

    def _pop(self) -> None:
        level = self._levels.pop()
        try:
            level.finish()
        finally:
            os.close(level.descriptor)


def _write_at(descriptor: int, piece: bytes, offset: int) -> None:
    view = memoryview(piece)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
