"""Calls of actions are told from everything else that goes over a connection, in whatever pieces it comes."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import anyio
import pytest
from nanoclaw_runner.requests import MAX_BODY, Requests

CALL = b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nAccept: */*\r\n\r\ncall"
CHANGED = b"POST /mcp HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nContent-Length: 6\r\n\r\n<call>"
MODEL = b"POST /v1/messages?beta=true HTTP/1.1\r\ncontent-length: 12\r\n\r\nPOST /mcp \r\n"
GET = b"GET /mcp HTTP/1.1\r\nHost: x\r\n\r\n"


class Pieces:
    """A client that says this, and then ends or breaks."""

    def __init__(self, pieces: Sequence[bytes], *, breaks: bool = False) -> None:
        self._pieces = list(pieces)
        self._breaks = breaks

    async def receive(self, max_bytes: int = 65536) -> bytes:
        await anyio.lowlevel.checkpoint()
        if self._pieces:
            return self._pieces.pop(0)
        raise anyio.BrokenResourceError if self._breaks else anyio.EndOfStream

    async def aclose(self) -> None: ...


async def in_brackets(body: bytes) -> bytes:
    return b"<" + body + b">"


def requests(*pieces: bytes, breaks: bool = False) -> Requests:
    return Requests(Pieces(pieces, breaks=breaks), in_brackets)  # type: ignore[arg-type]  # it is what is used of a stream


async def said(*pieces: bytes) -> bytes:
    heard, stream = b"", requests(*pieces)
    with suppress(anyio.EndOfStream):
        while True:
            heard += await stream.receive()
    return heard


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_a_call_is_rewritten_in_whatever_pieces_it_comes(size: int) -> None:
    text = MODEL + CALL + GET + CALL + MODEL
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert await said(*pieces) == MODEL + CHANGED + GET + CHANGED + MODEL


@pytest.mark.parametrize(
    "other",
    [
        b"hello",
        b"\x16\x03\x01 a TLS greeting",
        CALL.replace(b"Content-Length: 4", b"Transfer-Encoding: chunked"),
        CALL.replace(b"Accept: */*", b"Expect: 100-continue"),
        CALL.replace(b"Accept: */*", b"Upgrade: websocket"),
        CALL.replace(b"Accept: */*", b"Content-Length: 5"),
        CALL.replace(b"Content-Length: 4", b"Content-Length: four"),
        CALL.replace(b"Content-Length: 4", b"Content-Length: " + b"9" * 5000),
        CALL.replace(b"HTTP/1.1", b"HTTP/2"),
        b"POST /mcp HTTP/1.1\r\nX: " + b"x" * 70_000,
    ],
)
async def test_what_is_not_plain_passes_and_so_does_all_that_follows(other: bytes) -> None:
    assert await said(other, CALL) == other + CALL


@pytest.mark.parametrize("end", [30, len(CALL) - 1])
async def test_a_call_that_is_cut_passes_as_far_as_it_goes(end: int) -> None:
    assert await said(CALL[:end]) == CALL[:end]


async def test_a_call_that_is_too_long_passes_for_the_gateway_to_refuse() -> None:
    text = b"POST /mcp HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % (MAX_BODY + 1) + b"x" * (MAX_BODY + 1)
    assert await said(text, CALL) == text + CHANGED


async def test_a_request_that_has_begun_is_held_until_it_is_whole() -> None:
    stream = requests(CALL[:60], CALL[60:])
    assert not stream.is_holding
    for _ in range(2):
        with anyio.CancelScope() as scope:
            scope.cancel()
            await stream.receive()
    assert await stream.receive() == CHANGED
    assert not stream.is_holding


async def test_what_waits_while_its_files_are_handed_over_is_held_and_can_be_begun_again() -> None:
    handing_over, tries = anyio.Event(), list[bytes]()

    async def rewrite(body: bytes) -> bytes:
        tries.append(body)
        handing_over.set()
        if len(tries) == 1:
            await anyio.sleep_forever()
        return body

    stream = Requests(Pieces([CALL]), rewrite)  # type: ignore[arg-type]  # as above
    async with anyio.create_task_group() as group:
        group.start_soon(stream.receive)
        await handing_over.wait()
        assert stream.is_holding
        group.cancel_scope.cancel()
    assert (await stream.receive()).endswith(b"call")
    assert tries == [b"call", b"call"]


async def test_nothing_is_held_of_a_client_that_is_gone() -> None:
    stream = requests(CALL[:60], breaks=True)
    with pytest.raises(anyio.BrokenResourceError):
        await stream.receive()
    assert not stream.is_holding
