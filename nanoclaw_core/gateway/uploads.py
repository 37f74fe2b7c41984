"""Files that agents hand to actions: taken in as bytes over the worker's socket, and kept where no container sees them."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final, TypeVarTuple

import anyio
from aiohttp import web
from anyio import to_thread

from nanoclaw_core.errors import NanoClawError
from nanoclaw_core.gateway.caller import Caller
from nanoclaw_core.gateway.courtesy import finish
from nanoclaw_core.gateway.parameters import MOST_BYTES
from nanoclaw_core.gateway.refusals import RequestRefused
from nanoclaw_core.ports import ActionCalls

#: Of one session, until they are sent or not needed any more.
MOST_FILES: Final = 100
MOST_KEPT: Final = 10 * MOST_BYTES
#: Seconds that one may take to arrive.
WITHIN: Final = 120.0
_PIECE: Final = 1024 * 1024
_BEGUN: Final = ".part"  # the ending of a file that is not whole
_MIB: Final = 1024 * 1024

Arguments = TypeVarTuple("Arguments")


class Uploads:
    """Answers PUT /files/SHA256-COPY for every worker: the same one again takes the place of the first."""

    def __init__(self, calls: ActionCalls) -> None:
        self._calls = calls

    async def serve(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Take a file in; it is on the disk, whole and with the content that its name says, when this answers 201.

        Raises:
            RequestRefused: it is too long, too slow, another one than it says, or there is no room for it.
        """
        length = _length(request)
        async with caller.uploads:
            try:
                folder = await self._calls.outbox(caller.identity, more=True)
            except NanoClawError as error:
                raise RequestRefused(507, str(error)) from error
            copy = _Copy(folder / request.match_info["upload"], length)
            try:
                await _in_thread(copy.begin)
                await _fill(copy, request)
                await _in_thread(copy.keep)
            except OSError as error:
                raise RequestRefused(507, f"the host cannot keep the file: {error.strerror or error}") from error
            finally:
                await _in_thread(copy.drop)
        return web.json_response({}, status=201)


async def _fill(copy: _Copy, request: web.Request) -> None:
    piece = bytearray()
    with anyio.move_on_after(WITHIN) as waiting:
        async for chunk in request.content.iter_any():
            piece += chunk
            if len(piece) >= _PIECE:
                await _in_thread(copy.add, bytes(piece))
                piece.clear()
        await _in_thread(copy.add, bytes(piece))
    if waiting.cancelled_caught:
        raise RequestRefused(408, f"the file did not arrive within {WITHIN:g} s")


async def _in_thread(work: Callable[[*Arguments], None], *arguments: *Arguments) -> None:
    """To its end, whoever hangs up: nothing may close a file that a thread still writes to."""
    await finish(partial(to_thread.run_sync, work, *arguments))


def _length(request: web.Request) -> int:
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise RequestRefused(415, "send the file as it is, without a Content-Encoding")
    if request.content_length is None:
        raise RequestRefused(411, "a file needs a Content-Length")
    if request.content_length > MOST_BYTES:
        raise RequestRefused(413, f"a file may have at most {MOST_BYTES // _MIB} MiB")
    return request.content_length


class _Copy:
    """A file that is being written, under another name until it is whole. Its methods run in threads, one after another."""

    def __init__(self, path: Path, length: int) -> None:
        self._path = path
        self._begun = path.with_name(f"{path.name}.{secrets.token_hex(4)}{_BEGUN}")
        self._length = length
        self._written = 0
        self._digest = hashlib.sha256()
        self._fd: int | None = None

    def begin(self) -> None:
        """Raises:
        RequestRefused: the session has too many, or too much.
        """
        _require_room(self._path.parent, self._length)
        self._fd = os.open(self._begun, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.truncate(self._fd, self._length)  # so that the next one counts all of it

    def add(self, piece: bytes) -> None:
        assert self._fd is not None  # noqa: S101  # it has begun
        self._written += len(piece)
        self._digest.update(piece)
        done = 0
        while done < len(piece):
            done += os.write(self._fd, memoryview(piece)[done:])

    def keep(self) -> None:
        """Raises:
        RequestRefused: it is another one than its name says.
        """
        assert self._fd is not None  # noqa: S101  # it has begun
        if self._written != self._length or not self._path.name.startswith(f"{self._digest.hexdigest()}-"):
            raise RequestRefused(422, "the file changed while it was handed over; call again")
        os.fsync(self._fd)
        self._begun.replace(self._path)
        _sync(self._path.parent)

    def drop(self) -> None:
        """Let go of it, and leave nothing that is not whole."""
        if self._fd is not None:
            os.close(self._fd)
            self._begun.unlink(missing_ok=True)


def _require_room(folder: Path, length: int) -> None:
    with os.scandir(folder) as entries:
        sizes = [entry.stat(follow_symlinks=False).st_size for entry in entries]
    if len(sizes) >= MOST_FILES or sum(sizes) + length > MOST_KEPT:
        reason = f"at most {MOST_FILES} files, and {MOST_KEPT // _MIB} MiB, can wait to be sent. Wait until they have been"
        raise RequestRefused(429, reason)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sizes_of(folder: Path, uploads: Iterable[str]) -> dict[str, int]:
    """How long those are that are there. Blocks."""
    return {upload: path.stat().st_size for upload in uploads if (path := folder / upload).is_file()}
