"""The relay carries connections to the gateway's socket, and holds them while nobody is there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import islice

import anyio
import pytest
from anyio.abc import SocketStream
from miniature import Home
from nanoclaw_runner.relay import MAX_UNANSWERED, pauses, run_relay


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


class MortalGateway:
    """A gateway that takes in what it is asked and dies, or answers; `heard` is what it was asked in each of its lives."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self.heard: list[bytes] = []
        self.asked = anyio.Event()

    @asynccontextmanager
    async def life(self, answer: bytes | None, *, size: int = 5) -> AsyncIterator[None]:
        """Listen; answer every `size` bytes with `answer`. At the end nobody listens any more, and all connections are cut."""
        self._home.socket.unlink(missing_ok=True)
        self.asked = anyio.Event()

        async def serve(stream: SocketStream) -> None:
            async with stream:
                while True:
                    question = b""
                    while len(question) < size:
                        try:
                            question += await stream.receive()
                        except anyio.EndOfStream:
                            return
                    self.heard.append(question)
                    self.asked.set()
                    if answer is not None:
                        await stream.send(answer)

        async with await anyio.create_unix_listener(self._home.socket) as listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, serve)
            yield
            self._home.socket.unlink(missing_ok=True)
            group.cancel_scope.cancel()


async def test_a_request_that_a_host_took_along_is_put_to_the_next(home: Home) -> None:
    gateway = MortalGateway(home)
    with anyio.fail_after(30):
        async with relayed(home) as port, await anyio.connect_tcp("127.0.0.1", port) as client:
            async with gateway.life(answer=None):
                await client.send(b"hello")
                await gateway.asked.wait()
            async with gateway.life(answer=b"HELLO"):
                assert await client.receive() == b"HELLO"
                await client.send(b"again")
                assert await client.receive() == b"HELLO"
    assert gateway.heard == [b"hello", b"hello", b"again"]


async def test_only_what_was_not_answered_is_put_to_the_next(home: Home) -> None:
    gateway = MortalGateway(home)
    with anyio.fail_after(30):
        async with relayed(home) as port, await anyio.connect_tcp("127.0.0.1", port) as client:
            async with gateway.life(answer=b"HELLO"):
                await client.send(b"hello")
                assert await client.receive() == b"HELLO"
            with pytest.raises(anyio.EndOfStream):
                await client.receive()
            async with gateway.life(answer=b"HELLO"):
                await anyio.wait_all_tasks_blocked()
    assert gateway.heard == [b"hello"]


async def test_an_answer_that_was_cut_is_not_asked_for_again(home: Home) -> None:
    gateway = MortalGateway(home)
    with anyio.fail_after(30):
        async with relayed(home) as port, await anyio.connect_tcp("127.0.0.1", port) as client:
            async with gateway.life(answer=b"HEL"):
                await client.send(b"hello")
                assert await client.receive() == b"HEL"
            with pytest.raises(anyio.EndOfStream):
                await client.receive()
    assert gateway.heard == [b"hello"]


async def test_a_host_that_hangs_up_without_an_answer_is_not_asked_again(home: Home) -> None:
    heard: list[bytes] = []

    async def hang_up(stream: SocketStream) -> None:
        async with stream:
            heard.append(await stream.receive())

    with anyio.fail_after(30):
        async with (
            relayed(home) as port,
            await anyio.create_unix_listener(home.socket) as listener,
            anyio.create_task_group() as group,
            await anyio.connect_tcp("127.0.0.1", port) as client,
        ):
            group.start_soon(listener.serve, hang_up)
            await client.send(b"hello")
            with pytest.raises(anyio.EndOfStream):
                await client.receive()
            group.cancel_scope.cancel()
    assert heard == [b"hello"]


async def test_what_is_too_long_to_be_kept_is_cut_with_its_host(home: Home) -> None:
    gateway, question = MortalGateway(home), b"x" * (MAX_UNANSWERED + 1)
    with anyio.fail_after(30):
        async with relayed(home) as port, await anyio.connect_tcp("127.0.0.1", port) as client:
            async with gateway.life(answer=None, size=len(question)):
                await client.send(question)
                await gateway.asked.wait()
            with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
                await client.receive()


async def test_a_client_that_left_is_not_spoken_for(home: Home) -> None:
    gateway = MortalGateway(home)
    with anyio.fail_after(30):
        async with relayed(home) as port:
            async with gateway.life(answer=b"HELLO"), await anyio.connect_tcp("127.0.0.1", port) as client:
                await client.send(b"hello")
                assert await client.receive() == b"HELLO"
            async with gateway.life(answer=b"HELLO"):
                assert await ask_five(port) == b"HELLO"
    assert gateway.heard == [b"hello", b"fives"]


async def ask_five(port: int) -> bytes:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"fives")
        return await stream.receive()


async def anyio_ask_forever(port: int) -> None:
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(b"x")
        await stream.receive()


def test_the_pauses_grow_from_50_ms_to_half_a_second() -> None:
    assert list(islice(pauses(), 7)) == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5]


async def test_what_is_said_after_the_end_of_a_connection_is_not_put_to_the_next_host(home: Home) -> None:
    """It crossed the news that the host is gone: its client will hear that it was not heard."""
    gateway = MortalGateway(home)
    with anyio.fail_after(30):
        async with relayed(home) as port, await anyio.connect_tcp("127.0.0.1", port) as client:
            async with gateway.life(answer=b"HELLO"):
                await client.send(b"hello")
                assert await client.receive() == b"HELLO"
            with pytest.raises(anyio.EndOfStream):
                await client.receive()
            for _ in range(2):  # the first is taken in, the second finds the end broken
                await client.send(b"again")
                await anyio.sleep(0.01)
            async with gateway.life(answer=b"HELLO"):
                assert await ask_five(port) == b"HELLO"
    assert gateway.heard == [b"hello", b"fives"]
