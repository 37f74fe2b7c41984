"""What a client says over a relayed connection, read as far as a call of an action can be told from everything else."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
from anyio.abc import ByteReceiveStream

Rewrite = Callable[[bytes], Awaitable[bytes]]
"""Takes the body of a request to /mcp, and returns the one that the gateway gets."""

MAX_BODY: Final = 2**20  # bytes: what is longer is refused by the gateway
_MAX_HEAD: Final = 64 * 1024
_METHODS: Final = (b"POST ", b"GET ", b"DELETE ", b"HEAD ", b"OPTIONS ", b"PUT ", b"PATCH ")
#: With one of these a request does not end where its length says, or does not go on by itself.
_INTRICATE: Final = frozenset({b"transfer-encoding", b"upgrade", b"expect"})


class Requests:
    """The client's end of a connection, whose calls of actions are rewritten; all else passes as it comes.

    A call is held until it is whole. From the first thing on that is not plain HTTP/1, nothing is looked at any more. When
    `receive` is cancelled, nothing is lost: the next one begins where that one did.
    """

    def __init__(self, stream: ByteReceiveStream, rewrite: Rewrite) -> None:
        self._stream = stream
        self._rewrite = rewrite
        self._held = bytearray()
        self._passing = 0  # bytes of the request before that have not gone by
        self._is_opaque = False
        self._has_ended = False

    @property
    def is_holding(self) -> bool:
        """Whether a request has begun of which the gateway got nothing."""
        return bool(self._held) and not self._passing and not self._is_opaque

    async def receive(self) -> bytes:
        """What the gateway is to get next.

        Raises:
            anyio.EndOfStream: the client has said all.
        """
        while not self._is_opaque and not self._passing:
            if not self._held:
                await self._hear()
            if (end := self._held.find(b"\r\n\r\n") + 4) >= 4:
                if (call := await self._take_request(end)) is not None:
                    return call
            elif len(self._held) > _MAX_HEAD or not _may_be_http(self._held) or not await self._hear_more():
                self._is_opaque = True
        return await self._take_passing()

    async def _take_request(self, head: int) -> bytes | None:
        """A whole call, rewritten; None for what is to pass as it is."""
        length = _length(bytes(self._held[:head]))
        if length is None:
            self._is_opaque = True
        elif not self._held.startswith(b"POST /mcp ") or not 0 < length <= MAX_BODY:
            self._passing = head + length
        else:
            while len(self._held) < head + length:
                if not await self._hear_more():
                    self._is_opaque = True
                    return None
            body = await self._rewrite(bytes(self._held[head : head + length]))
            call = _with_length(bytes(self._held[:head]), len(body)) + body
            del self._held[: head + length]
            return call
        return None

    async def _take_passing(self) -> bytes:
        if not self._held:
            await self._hear()
        taken = bytes(self._held if self._is_opaque else self._held[: self._passing])
        del self._held[: len(taken)]
        if not self._is_opaque:
            self._passing -= len(taken)
        return taken

    async def _hear(self) -> None:
        if self._has_ended:
            raise anyio.EndOfStream
        try:
            self._held += await self._stream.receive()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
            self._held.clear()  # nobody is there any more who asks
            raise

    async def _hear_more(self) -> bool:
        """False where the client ended in the middle of something."""
        try:
            await self._hear()
        except anyio.EndOfStream:
            self._has_ended = True
        return not self._has_ended


def _may_be_http(data: bytearray) -> bool:
    return any(method.startswith(data[: len(method)]) for method in _METHODS)


def _length(head: bytes) -> int | None:
    """How long the body is that follows this head; None where that cannot be told so simply."""
    first, *lines = head[:-4].split(b"\r\n")
    fields = [(name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]
    lengths = [value for name, value in fields if name == b"content-length"]
    if not first.endswith((b" HTTP/1.1", b" HTTP/1.0")) or _INTRICATE & {name for name, _ in fields}:
        return None
    if not lengths:
        return 0
    return int(lengths[0]) if len(lengths) == 1 and re.fullmatch(rb"[0-9]{1,18}", lengths[0]) else None


def _with_length(head: bytes, length: int) -> bytes:
    lines = head[:-4].split(b"\r\n")
    kept = [line for line in lines if not line.lower().startswith(b"content-length")]
    return b"\r\n".join([*kept, b"Content-Length: %d" % length, b"", b""])
