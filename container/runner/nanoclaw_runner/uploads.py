"""Files that the agent hands to an action: the call names a path, and the host gets the content before it gets the call."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
from anyio import to_thread
from anyio.abc import SocketStream

from nanoclaw_runner.launch import FileRules

_PIECE: Final = 2**20  # bytes
_LONGEST_ANSWER: Final = 64 * 1024  # bytes
_NO_FILES: Final = ("/proc/", "/sys/", "/dev/")
_BROKEN: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)
_CHANGED: Final = "it changed while it was read; call again"

Answer = tuple[int, str]
"""The status of the gateway's answer, and its text."""

Ask = Callable[[Callable[[SocketStream], Awaitable[Answer | None]]], Awaitable[Answer | None]]
"""Makes a request over a connection to the gateway, again with the next host where this one ended before it answered (None)."""


class CannotBeHandedOver(Exception):
    """The agent is told why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    fd: int
    size: int
    sha256: str


class Uploads:
    """Puts what the host has of a file in the place of its path, in each call of an action whose parameters are files."""

    def __init__(self, rules: FileRules, workspace: Path, ask: Ask) -> None:
        self._rules = rules
        self._workspace = workspace
        self._ask = ask

    async def rewrite(self, body: bytes) -> bytes:
        """The body of a request to /mcp: with its files handed over where it is a call that has some, else as it is.

        A path becomes `{"path", "upload"}`, or `{"path", "problem"}` where the host has not got it.
        """
        found = self._files_in(body)
        if found is None:
            return body
        message, arguments, names = found
        for name in names:
            arguments[name] = await self._handed(arguments[name])
        return json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")

    def _files_in(self, body: bytes) -> tuple[Any, dict[str, Any], list[str]] | None:  # Any: JSON
        try:
            message = json.loads(body)
            parameters = message["params"]
            names = self._rules.parameters[parameters["name"]] if message["method"] == "tools/call" else []
            arguments = parameters["arguments"]
            given = [name for name in names if name in arguments] if isinstance(arguments, dict) else []
        except (ValueError, RecursionError, LookupError, TypeError):
            return None
        return (message, arguments, given) if given else None

    async def _handed(self, value: object) -> object:
        match value:
            case str() as path:
                return await self._hand_over(path)
            case list() as values:
                return [await self._hand_over(each) if isinstance(each, str) else each for each in values]
            case _:
                return value

    async def _hand_over(self, path: str) -> dict[str, str]:
        try:
            return {"path": path, "upload": await self._upload(path)}
        except CannotBeHandedOver as problem:
            return {"path": path, "problem": f"{path:.200}: {problem}"}

    async def _upload(self, path: str) -> str:
        with _content(await to_thread.run_sync(open_content, self._workspace / path, self._rules.most_bytes)) as content:
            upload = f"{content.sha256}-{secrets.token_hex(8)}"

            async def put(gateway: SocketStream) -> Answer | None:
                return await _put(gateway, upload, content)

            answer = await self._ask(put)
        if answer is None:
            raise CannotBeHandedOver("the host hung up while it was handed over; call again")
        status, text = answer
        if status != 201:
            raise CannotBeHandedOver(text)
        return upload


@contextmanager
def _content(content: _Content) -> Iterator[_Content]:
    try:
        yield content
    finally:
        os.close(content.fd)


def open_content(path: Path, most_bytes: int) -> _Content:
    """Open a file and read it once, in a thread: its name may stand for anything.

    Raises:
        CannotBeHandedOver: it is no regular file, too large, or cannot be read.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)  # a FIFO would be waited for
    except FileNotFoundError:
        raise CannotBeHandedOver("there is no such file") from None
    except (OSError, ValueError) as error:
        raise CannotBeHandedOver(getattr(error, "strerror", None) or "this is no path") from error
    try:
        return _measured(fd, most_bytes)
    except OSError as error:
        os.close(fd)
        raise CannotBeHandedOver(error.strerror or os.strerror(error.errno or errno.EIO)) from error
    except CannotBeHandedOver:
        os.close(fd)
        raise


def _measured(fd: int, most_bytes: int) -> _Content:
    found = os.fstat(fd)
    if stat.S_ISDIR(found.st_mode):
        raise CannotBeHandedOver("it is a folder; hand over a file, or an archive of the folder")
    # What the kernel makes up has no size that can be relied on, and `/proc/self` is this program.
    if not stat.S_ISREG(found.st_mode) or os.readlink(f"/proc/self/fd/{fd}").startswith(_NO_FILES):  # noqa: PTH115
        raise CannotBeHandedOver("it is no regular file")
    if found.st_size > most_bytes:
        limit = most_bytes // 2**20
        raise CannotBeHandedOver(f"it has {found.st_size / 2**20:,.1f} MiB, and at most {limit} MiB can be handed over")
    digest, size = hashlib.sha256(), 0
    while piece := os.pread(fd, _PIECE, size):
        digest.update(piece)
        size += len(piece)
        if size > found.st_size:
            break
    if size != found.st_size:
        raise CannotBeHandedOver(_CHANGED)
    return _Content(fd=fd, size=size, sha256=digest.hexdigest())


async def _put(gateway: SocketStream, upload: str, content: _Content) -> Answer | None:
    """One PUT; None where the host ended before it answered."""
    answer = b""
    async with anyio.create_task_group() as group:
        group.start_soon(_send, gateway, upload, content, name="upload")
        with suppress(*_BROKEN):
            async for chunk in gateway:
                answer += chunk
                if len(answer) > _LONGEST_ANSWER:
                    break
        group.cancel_scope.cancel()  # the answer may come before the host has heard it all
    return _answer(answer)


async def _send(gateway: SocketStream, upload: str, content: _Content) -> None:
    head = f"PUT /files/{upload} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {content.size}\r\nConnection: close\r\n\r\n"
    with suppress(*_BROKEN):  # whoever reads knows
        await gateway.send(head.encode())
        sent = 0
        while sent < content.size:
            piece = await to_thread.run_sync(_read, content.fd, min(_PIECE, content.size - sent), sent)
            if not piece:
                await gateway.aclose()  # it is shorter now
                return
            await gateway.send(piece)
            sent += len(piece)


def _read(fd: int, size: int, offset: int) -> bytes:
    with suppress(OSError):
        return os.pread(fd, size, offset)
    return b""


def _answer(received: bytes) -> Answer | None:
    head, _, body = received.partition(b"\r\n\r\n")
    try:
        status = int(head.split()[1])
        if status == 201:
            return status, ""
        return status, str(json.loads(body)["error"]["message"])
    except (LookupError, ValueError, TypeError):
        return None
