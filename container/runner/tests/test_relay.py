"""The relay carries connections to the gateway's socket, and holds them while nobody is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice

import anyio
import pytest
from anyio.abc import SocketStream
from miniature import Home
from nanoclaw_runner.relay import pauses, run_relay


@asynccontextmanager
async def relayed(home: Home) -> AsyncIterator[int]:
    async with anyio.create_task_group() as group:
        yield await group.start(run_relay, str(home.socket))
        group.cancel_scope.cancel()


@asynccontextmanager
async def answering_in_capitals(home: Home) -> AsyncIterator[None]:
    """A gateway that answers when the request has ended, as half-closed connections allow."""

    async def answer(stream: SocketStream) -> None:
        async with stream:
            request = b"".join([chunk async for chunk in stream])
            await stream.send(request.upper())

    async with await anyio.create_unix_listener(home.socket) as listener, anyio.create_task_group() as group:
        group.start_soon(listener.serve, answer)
        yield
        group.cancel_scope.cancel()


async def ask(port: int, question: bytes) -> bytes:
    with anyio.fail_after(30):
        async with await anyio.connect_tcp("127.0.0.1", port) as stream:
            await stream.send(question)
            await stream.send_eof()
            return b"".join([chunk async for chunk in stream])


async def test_an_ended_request_still_gets_its_answer(home: Home) -> None:
    async with answering_in_capitals(home), relayed(home) as port:
        assert await ask(port, b"hello" * 100_000) == b"HELLO" * 100_000


async def test_a_connection_is_held_until_the_socket_appears(home: Home) -> None:
    answers: list[bytes] = []
    async with relayed(home) as port, anyio.create_task_group() as group:

        async def wait_for_answer() -> None:
            answers.append(await ask(port, b"early"))

        group.start_soon(wait_for_answer)
        await anyio.wait_all_tasks_blocked()
        async with answering_in_capitals(home):
            with anyio.fail_after(30):
                while not answers:
                    await anyio.lowlevel.checkpoint()
    assert answers == [b"EARLY"]


async def test_a_connection_is_held_while_the_socket_refuses(home: Home) -> None:
    async with await anyio.create_unix_listener(home.socket):
        pass  # the file stays, nobody listens: connecting is refused, as after a host's death
    if home.socket.exists():
        home.socket.unlink()
    import socket

    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home.socket))
    async with relayed(home) as port:
        with pytest.raises(TimeoutError), anyio.fail_after(0.2):
            await anyio_ask_forever(port)
        home.socket.unlink()
        async with answering_in_capitals(home):
            assert await ask(port, b"again") == b"AGAIN"


async def anyio_ask_forever(port: int) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"x")
        await stream.receive()


def test_the_pauses_grow_from_50_ms_to_half_a_second() -> None:
    assert list(islice(pauses(), 7)) == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5]
