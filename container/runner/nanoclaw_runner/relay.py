"""The way out: connections to a port of 127.0.0.1 are carried to the gateway's socket, and held while nobody answers there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import Final, TypeVar

import anyio
from anyio.abc import SocketAttribute, SocketListener, SocketStream, TaskStatus

from nanoclaw_runner.requests import Requests, Rewrite

MAX_CONNECTIONS: Final = 200
MAX_UNANSWERED: Final = 2 * 2**20  # bytes of a request that are kept: the longest call of an action has half of that
_MOMENT: Final = 0.05  # seconds in which a host that ended has closed all of its sockets
_BROKEN: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError)

T = TypeVar("T")


def pauses() -> Iterator[float]:
    """Seconds to wait between tries: 50 ms, doubling to 500 ms, for ever."""
    return chain((0.05, 0.1, 0.2, 0.4), repeat(0.5))


async def connect_patiently(path: str) -> SocketStream:
    """Connect to the Unix socket at `path`, however long it is missing or refuses: the host may be restarting."""
    for pause in pauses():
        try:
            return await anyio.connect_unix(path)
        except OSError:
            await anyio.sleep(pause)
    raise AssertionError("the pauses never end")


async def as_it_is(body: bytes) -> bytes:
    """The `Rewrite` that changes nothing."""
    return body


async def run_relay(path: str, rewrite: Rewrite = as_it_is, *, task_status: TaskStatus[int]) -> None:
    """Carry connections to the socket at `path` until cancelled; reports the port through `task_status`."""
    listeners = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    listener = listeners.listeners[0]
    assert isinstance(listener, SocketListener)  # noqa: S101  # for the type checker
    slots = anyio.Semaphore(MAX_CONNECTIONS)
    async with listeners, anyio.create_task_group() as group:
        task_status.started(listener.extra(SocketAttribute.local_port))  # noqa: S610  # not Django's
        while True:
            await slots.acquire()
            group.start_soon(_carry, await listener.accept(), path, rewrite, slots, name="relayed connection")


def door(path: str) -> tuple[int, int] | None:
    """What tells the socket at `path` from any other that was or will be there; None while there is none."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


async def is_gone(path: str, known: tuple[int, int] | None) -> bool:
    """Whether the host behind the socket `known` has ended, and did not only hang up: it refuses, or another one is there."""
    await anyio.sleep(_MOMENT)
    if door(path) != known:
        return True
    try:
        async with await anyio.connect_unix(path):
            return False
    except OSError:
        return True


async def ask_persistently(path: str, ask: Callable[[SocketStream], Awaitable[T | None]]) -> T | None:
    """What `ask` returns over a connection to the gateway; the next host is asked where this one ended without an answer."""
    while True:
        async with await connect_patiently(path) as gateway:
            known = door(path)
            answer = await ask(gateway)
        if answer is not None or not await is_gone(path, known):
            return answer


@dataclass(slots=True)
class _Unanswered:
    """What a client sent since the gateway last answered, to be said again to the next host; `ended` when it has said all."""

    data: bytearray = field(default_factory=bytearray)
    ended: bool = False
    is_too_long: bool = False

    def add(self, chunk: bytes) -> None:
        self.is_too_long = self.is_too_long or len(self.data) + len(chunk) > MAX_UNANSWERED
        if self.is_too_long:
            self.data.clear()
        else:
            self.data += chunk

    def clear(self) -> None:
        self.data.clear()
        self.is_too_long = False

    async def repeat(self, gateway: SocketStream) -> None:
        if self.data:
            await gateway.send(bytes(self.data))
        if self.ended:
            await gateway.send_eof()

    @property
    def can_be_repeated(self) -> bool:
        return bool(self.data)


async def _carry(client: SocketStream, path: str, rewrite: Rewrite, slots: anyio.Semaphore) -> None:
    """Carry one connection. A request that a host took along before it answered is put to the next one.

    That is as if the client had asked later: a call of an action names itself, and the host carries it out once. So is one of
    which no host has heard anything yet, because its files are still on their way.
    """
    unanswered, requests = _Unanswered(), Requests(client, rewrite)
    try:
        async with client:
            while True:
                async with await connect_patiently(path) as gateway:
                    known = door(path)
                    await _exchange(client, requests, gateway, unanswered)
                if unanswered.can_be_repeated:
                    if not await is_gone(path, known):
                        return
                elif requests.is_holding:
                    await anyio.sleep(_MOMENT)
                else:
                    return
    finally:
        slots.release()


async def _exchange(client: SocketStream, requests: Requests, gateway: SocketStream, unanswered: _Unanswered) -> None:
    """Copy both ways until either end is gone. What can be put to the next host leaves the client's end as it is."""
    async with anyio.create_task_group() as group:
        group.start_soon(_up, requests, gateway, unanswered, group.cancel_scope, name="to the gateway")
        with suppress(*_BROKEN):
            async for chunk in gateway:
                unanswered.clear()
                await client.send(chunk)
        if unanswered.can_be_repeated or requests.is_holding:
            group.cancel_scope.cancel()
            return
        with suppress(*_BROKEN):
            await client.send_eof()
    unanswered.clear()  # the client was told that its connection has ended, whatever it still said


async def _up(requests: Requests, gateway: SocketStream, unanswered: _Unanswered, exchange: anyio.CancelScope) -> None:
    """Copy until the client has said all; the other direction goes on. A client that is gone ends both."""
    with suppress(*_BROKEN):  # the gateway's end broke: whoever reads from it knows
        await unanswered.repeat(gateway)
        while not unanswered.ended:
            try:
                chunk = await requests.receive()
            except anyio.EndOfStream:
                unanswered.ended = True
                await gateway.send_eof()
            except _BROKEN:
                unanswered.clear()
                exchange.cancel()
            else:
                unanswered.add(chunk)
                await gateway.send(chunk)
