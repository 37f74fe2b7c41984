"""A worker's socket: connections are let in one by one and only so many, because each is an open file of the host."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path
from typing import Any, Final

import anyio
from aiohttp import web

from nanoclaw_core.gateway.caller import Complaints

MOST_CONNECTIONS: Final = 64
#: Seconds that a connection may take until its first request is whole.
HEAD_WITHIN: Final = 15.0
_BACKLOG: Final = 128
#: Seconds after which the next connection is let in, when one was turned away, or the system had no file left.
_PAUSE, _LONG_PAUSE = 0.05, 1.0


class Visitor(web.RequestHandler):
    """One connection. It is cut when no request arrives; between requests it may be idle for long."""

    __slots__ = ("_deadline",)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # for the type checker
        self._deadline = asyncio.get_running_loop().call_later(HEAD_WITHIN, transport.abort)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._deadline.cancel()
        super().connection_lost(exc)

    def was_heard(self) -> None:
        self._deadline.cancel()


class Doorway:
    """Listens at `path`, which everybody may connect to who can see it, until it is closed."""

    def __init__(
        self, path: str, server: web.Server, trouble: Complaints, http_log: logging.LoggerAdapter[logging.Logger]
    ) -> None:
        self._path = path
        self._server = server
        self._trouble = trouble
        self._http_log = http_log
        self._socket = _listen(path)
        self._open = anyio.CancelScope()
        self._closed = anyio.Event()

    async def attend(self) -> None:
        try:
            with self._open, self._socket:
                while True:
                    await anyio.wait_readable(self._socket)
                    await self._let_in()
        finally:
            self._closed.set()

    async def close(self) -> None:
        """Listen no more, and break the connections."""
        self._open.cancel()
        await self._closed.wait()
        for transport in self._transports():
            transport.abort()

    async def _let_in(self) -> None:
        try:
            connection, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError as error:  # mostly no file is left to this process; asyncio would be noisy, anyio would give up
            self._trouble.warn("gateway.cannot_accept", reason=error.strerror or str(error))
            await anyio.sleep(_LONG_PAUSE)
            return
        if len(self._transports()) >= MOST_CONNECTIONS:
            connection.close()
            await anyio.sleep(_PAUSE)  # else a worker that tries again at once would keep the host busy
            return
        connection.setblocking(False)
        try:
            await asyncio.get_running_loop().connect_accepted_socket(self._visitor, connection)
        except OSError:  # it has left already
            connection.close()

    def _visitor(self) -> Visitor:
        # Any: aiohttp's own runner passes None and adapters too, but its types do not say so
        logs: dict[str, Any] = {"access_log": None, "logger": self._http_log}
        return Visitor(self._server, loop=asyncio.get_running_loop(), auto_decompress=False, **logs)

    def _transports(self) -> list[asyncio.Transport]:
        transports = [connection.transport for connection in self._server.connections]
        return [transport for transport in transports if transport and transport.get_extra_info("sockname") == self._path]


def _listen(path: str) -> socket.socket:
    """What an earlier host left there is replaced. The folder above keeps out whoever does not have this one mounted."""
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        Path(path).unlink(missing_ok=True)
        listening.setblocking(False)
        listening.bind(path)
        Path(path).chmod(0o666)  # the worker's user is not ours
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening
