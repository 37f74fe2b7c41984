"""The way out: connections to a port of 127.0.0.1 are carried to the gateway's socket, and held while nobody answers there."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, repeat
from typing import Final

import anyio
from anyio.abc import ByteStream, SocketAttribute, SocketListener, SocketStream, TaskStatus

MAX_CONNECTIONS: Final = 200


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


async def run_relay(path: str, *, task_status: TaskStatus[int]) -> None:
    """Carry connections to the socket at `path` until cancelled; reports the port through `task_status`."""
    listeners = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
    listener = listeners.listeners[0]
    assert isinstance(listener, SocketListener)  # noqa: S101  # for the type checker
    slots = anyio.Semaphore(MAX_CONNECTIONS)
    async with listeners, anyio.create_task_group() as group:
        task_status.started(listener.extra(SocketAttribute.local_port))  # noqa: S610  # not Django's
        while True:
            await slots.acquire()
            group.start_soon(_carry, await listener.accept(), path, slots, name="relayed connection")


async def _carry(client: SocketStream, path: str, slots: anyio.Semaphore) -> None:
    try:
        async with client, await connect_patiently(path) as gateway, anyio.create_task_group() as group:
            group.start_soon(_copy, client, gateway, name="to the gateway")
            group.start_soon(_copy, gateway, client, name="from the gateway")
    finally:
        slots.release()


async def _copy(source: ByteStream, sink: ByteStream) -> None:
    """Copy until the source ends, then end the sink: the other direction goes on. A broken end breaks both."""
    try:
        async for chunk in source:
            await sink.send(chunk)
        await sink.send_eof()
    except (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError):
        await source.aclose()
        await sink.aclose()
