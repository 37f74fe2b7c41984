"""The gateway: one web application, and for each worker a Unix socket of its own that tells who is asking."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import anyio
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from nanoclaw_core.errors import HomeUnusable
from nanoclaw_core.gateway.link import Seat
from nanoclaw_core.gateway.mcp import McpServer
from nanoclaw_core.gateway.model_proxy import ModelProxy
from nanoclaw_core.gateway.refusals import refusal, refuse_in_json
from nanoclaw_core.models import WorkerIdentity
from nanoclaw_core.ports import Action, ActionHosts, Provider, WorkerEvents

log = structlog.get_logger()

SOCKET: Final = "gateway.sock"
LONGEST_SOCKET_PATH: Final = 103 if sys.platform == "darwin" else 107
#: Seconds that requests get to end when the host does; their workers come back to the next host.
_FAREWELL: Final = 1.0

Answer = Callable[[web.Request, WorkerIdentity], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Door:
    identity: WorkerIdentity
    path: str
    site: web.UnixSite
    seat: Seat


class Gateway:
    """The `WorkerDoors` of a host, with a folder for each worker below `root`.

    A worker is known by the socket that its request came through; nothing in the request is asked.
    """

    def __init__(
        self,
        root: Path,
        events: WorkerEvents,
        provider: Provider,
        actions: Sequence[Action[Any]],  # Any: each action has parameters of its own
        action_hosts: ActionHosts,
        *,
        hello_within: float = 10.0,
    ) -> None:
        self._root = root.absolute()
        self._events = events
        self._hello_within = hello_within
        self._doors: dict[str, _Door] = {}  # by the path of the socket
        application = web.Application(middlewares=[refuse_in_json])
        application.router.add_get("/link", self._link, allow_head=False)
        application.router.add_post("/mcp", self._known(McpServer(actions, action_hosts).serve))
        for path in provider.paths:
            application.router.add_post(path, self._known(ModelProxy(provider).serve))
        self._runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=_FAREWELL)

    async def __aenter__(self) -> Self:
        _make_private(self._root)
        await self._runner.setup()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            for door in list(self._doors.values()):
                await self._shut(door)  # the folders stay: containers that outlive this host have them mounted
            await self._runner.cleanup()

    async def open(self, identity: WorkerIdentity) -> Path:
        """Listen for this worker; what an earlier host left at its place is replaced.

        Raises:
            HomeUnusable: the folder lies too deep for a Unix socket, or cannot be written.
        """
        path = self._path(identity.worker_id)
        if door := self._doors.get(path):
            await self._shut(door)
        site = web.UnixSite(self._runner, path)
        try:
            _make_folder(path)
            await site.start()
            _let_everybody_connect(path)
        except OSError as error:
            raise HomeUnusable(self._root, error.strerror or str(error)) from error
        seat = Seat(identity, self._events, self._hello_within)
        self._doors[path] = _Door(identity=identity, path=path, site=site, seat=seat)
        return Path(path).parent

    async def close(self, worker_id: str) -> None:
        """Stop listening, break this worker's connections, remove its folder."""
        path = self._path(worker_id)
        if door := self._doors.get(path):
            await self._shut(door)
            shutil.rmtree(Path(path).parent, ignore_errors=True)

    async def _shut(self, door: _Door) -> None:
        del self._doors[door.path]
        await door.site.stop()
        for connection in self._runner.server.connections if self._runner.server else ():
            transport = connection.transport
            if transport is not None and transport.get_extra_info("sockname") == door.path:
                transport.abort()

    def _path(self, worker_id: str) -> str:
        path = str(self._root / worker_id / SOCKET)
        if (length := len(os.fsencode(path))) > LONGEST_SOCKET_PATH:
            reason = f"the socket path {path} has {length} bytes, and at most {LONGEST_SOCKET_PATH} work"
            raise HomeUnusable(self._root, reason)
        return path

    def _door(self, request: web.Request) -> _Door | None:
        return self._doors.get(request.transport.get_extra_info("sockname")) if request.transport else None

    async def _link(self, request: web.Request) -> web.StreamResponse:
        door = self._door(request)
        return await door.seat.serve(request) if door else _gone()

    def _known(self, answer: Answer) -> Handler:
        async def serve(request: web.Request) -> web.StreamResponse:
            door = self._door(request)
            return await answer(request, door.identity) if door else _gone()

        return serve


def _gone() -> web.Response:
    return refusal(403, "this worker has ended")


def _make_private(root: Path) -> None:
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.chmod(0o700)
    except OSError as error:
        raise HomeUnusable(root, error.strerror or str(error)) from error


def _make_folder(socket: str) -> None:
    """The folder that the worker sees, read-only; it must be able to look into it, whatever the umask."""
    folder = Path(socket).parent
    folder.mkdir(exist_ok=True)
    folder.chmod(0o755)


def _let_everybody_connect(socket: str) -> None:
    """The worker's user is not ours; the root folder keeps out whoever does not have this one mounted."""
    Path(socket).chmod(0o666)
