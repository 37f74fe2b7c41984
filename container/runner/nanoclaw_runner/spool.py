"""Frames that the host has not acknowledged, kept on disk so that neither a dead host nor a dead runner loses them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from nanoclaw_runner.files import open_regular, open_up, own_folder, report, write_whole
from nanoclaw_runner.frames import MAX_DETAIL, MAX_TEXT, Failed, Failure, FrameRefused, Spooled, TurnEnd, decode_runner, encode

MAX_FRAMES: Final = 64
MAX_BYTES: Final = 16 * 2**20
MAX_LINE: Final = 7 * 2**20  # bytes; every character of the longest answer may be escaped
MAX_LINES: Final = 10 * MAX_FRAMES
MAX_COVERED: Final = 1000
MAX_COUNT: Final = 2**53

_ID: Final = re.compile(r"[!-~]{1,200}")
_KINDS: Final = frozenset({"engine", "interrupted", "model"})


class Spool:
    """One JSON line for each frame, oldest first. A full spool makes `put` wait for acknowledgements: nothing is dropped.

    The agent can write the file too. So it is read once, before the agent runs, and only what the host would accept is
    taken over; from then on it is written and never trusted. When it cannot be written, frames are sent all the same.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, str] = {}
        self._covered: dict[str, frozenset[str]] = {}
        self._changed = anyio.Condition()

    @property
    def lines(self) -> Mapping[str, str]:
        """The encoded frames that wait, by their ids, oldest first."""
        return self._lines

    def covers(self, uuid: str) -> bool:
        """Whether a frame that waits ends this push."""
        return any(uuid in covered for covered in self._covered.values())

    def load(self) -> None:
        """Take over what a predecessor left. Other lines are dropped, and reported."""
        try:
            open_up(self._path.parent.parent)
            own_folder(self._path.parent)
            content = self._read_file()
        except OSError as error:
            report(f"the spool cannot be read: {error}")
            return
        if not content:
            return
        *lines, rest = content.split(b"\n", MAX_LINES)
        frames = [frame for line in lines if (frame := _read(line)) is not None]
        for frame in frames[:MAX_FRAMES]:
            self._keep(frame, encode(frame))
        if ignored := len(lines) - len(self._lines) + bool(rest):
            report(f"the spool of an earlier worker held {ignored} lines that are no frames; they are ignored")
        self._rewrite(self._lines.values())  # else the next line would be glued to a torn one

    async def put(self, frame: Spooled) -> None:
        """Store `frame`; it is on the disk when this returns, if the disk can be written at all."""
        line = encode(frame)
        async with self._changed:
            while self._is_full(line):
                await self._changed.wait()
            await to_thread.run_sync(self._append, line)
            self._keep(frame, line)

    async def remove(self, frame_id: str) -> None:
        """Forget an acknowledged frame; one that is unknown is fine."""
        async with self._changed:
            if self._lines.pop(frame_id, None) is not None:
                self._covered.pop(frame_id, None)
                await to_thread.run_sync(self._rewrite, list(self._lines.values()))
                self._changed.notify_all()

    async def drained(self) -> None:
        """Return when everything is acknowledged."""
        async with self._changed:
            while self._lines:
                await self._changed.wait()

    def _keep(self, frame: Spooled, line: str) -> None:
        self._lines[frame.id] = line
        if isinstance(frame, TurnEnd):
            self._covered[frame.id] = frozenset(frame.covered)

    def _read_file(self) -> bytes:
        fd = open_regular(self._path)
        if fd is None:
            return b""
        with os.fdopen(fd, "rb") as file:
            return file.read(2 * MAX_BYTES)

    def _is_full(self, line: str) -> bool:
        waiting = sum(map(len, self._lines.values()))
        return bool(self._lines) and (len(self._lines) >= MAX_FRAMES or waiting + len(line) > MAX_BYTES)

    def _append(self, line: str) -> None:
        try:
            fd = open_regular(self._path, os.O_WRONLY | os.O_APPEND)
            if fd is not None:
                with os.fdopen(fd, "ab") as file:
                    file.write(line.encode() + b"\n")
                    file.flush()
                    os.fsync(fd)
                return
        except OSError as error:
            report(f"the spool cannot be written: {error}")
            return
        self._rewrite([*self._lines.values(), line])

    def _rewrite(self, lines: Iterable[str]) -> None:
        try:
            write_whole(self._path, (line.encode() + b"\n" for line in lines))
        except OSError as error:
            report(f"the spool cannot be written: {error}")


def _read(line: bytes) -> Spooled | None:
    if len(line) > MAX_LINE:
        return None
    try:
        frame = decode_runner(line)
    except (FrameRefused, UnicodeDecodeError):
        return None
    return frame if isinstance(frame, TurnEnd | Failed) and _is_sound(frame) else None


def _is_sound(frame: Spooled) -> bool:
    """Whether the host takes such a frame; one that it refuses would end this worker, and every later one."""
    if not _ID.fullmatch(frame.id):
        return False
    if isinstance(frame, Failed):
        return len(frame.detail) <= MAX_DETAIL
    return (
        len(frame.covered) <= MAX_COVERED
        and all(_ID.fullmatch(uuid) for uuid in frame.covered)
        and len(frame.text) <= MAX_TEXT
        and _ID.fullmatch(frame.conversation) is not None
        and all(0 <= number <= MAX_COUNT for number in asdict(frame.usage).values())
        and (frame.failure is None or _is_sound_failure(frame.failure))
    )


def _is_sound_failure(failure: Failure) -> bool:
    is_status = failure.status is None or 0 <= failure.status <= 999
    return failure.kind in _KINDS and len(failure.detail) <= MAX_DETAIL and is_status
