"""Frames that the host has not acknowledged, kept on disk so that neither a dead host nor a dead runner loses them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread

from nanoclaw_runner.frames import MAX_TEXT, Failed, FrameRefused, Spooled, TurnEnd, decode_runner, encode

MAX_FRAMES: Final = 64
MAX_BYTES: Final = 16 * 2**20


class Spool:
    """One JSON line for each frame, oldest first. A full spool makes `put` wait for acknowledgements: nothing is dropped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: dict[str, str] = {}
        self._changed = anyio.Condition()

    @property
    def lines(self) -> Mapping[str, str]:
        """The encoded frames that wait, by their ids, oldest first."""
        return self._lines

    def load(self) -> frozenset[str]:
        """Take over what a predecessor left; return the uuids that it covers. Torn lines are dropped."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        content = self._read_file()
        frames = [frame for line in content.splitlines() if (frame := _read(line)) is not None]
        self._lines = {frame.id: encode(frame) for frame in frames}
        if content:
            self._rewrite()  # else the next line would be glued to a torn one
        return frozenset(uuid for frame in frames if isinstance(frame, TurnEnd) for uuid in frame.covered)

    async def put(self, frame: Spooled) -> None:
        """Store `frame`; it is on the disk when this returns."""
        line = encode(frame)
        async with self._changed:
            while self._is_full(line):
                await self._changed.wait()
            await to_thread.run_sync(self._append, line)
            self._lines[frame.id] = line

    async def remove(self, frame_id: str) -> None:
        """Forget an acknowledged frame; one that is unknown is fine."""
        async with self._changed:
            if self._lines.pop(frame_id, None) is not None:
                await to_thread.run_sync(self._rewrite)
                self._changed.notify_all()

    async def drained(self) -> None:
        """Return when everything is acknowledged."""
        async with self._changed:
            while self._lines:
                await self._changed.wait()

    def _read_file(self) -> bytes:
        """What is there, within bounds: the agent can write this file too."""
        if not self._path.is_file():
            return b""
        with self._path.open("rb") as file:
            return file.read(2 * MAX_BYTES)

    def _is_full(self, line: str) -> bool:
        waiting = sum(map(len, self._lines.values()))
        return bool(self._lines) and (len(self._lines) >= MAX_FRAMES or waiting + len(line) > MAX_BYTES)

    def _append(self, line: str) -> None:
        with self._path.open("ab") as file:
            file.write(line.encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())

    def _rewrite(self) -> None:
        fresh = self._path.with_suffix(".new")
        with fresh.open("wb") as file:
            file.writelines(line.encode() + b"\n" for line in self._lines.values())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


def _read(line: bytes) -> Spooled | None:
    try:
        frame = decode_runner(line)
    except (FrameRefused, UnicodeDecodeError):
        return None
    if isinstance(frame, TurnEnd):
        return frame if len(frame.text) <= MAX_TEXT else None
    return frame if isinstance(frame, Failed) else None
