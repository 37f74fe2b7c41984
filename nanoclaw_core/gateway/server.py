"""The gateway: one web application, and for each worker a Unix socket of its own that tells who is asking."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import anyio
from aiohttp import web
from aiohttp.typedefs import Handler

from nanoclaw_core.errors import HomeUnusable
from nanoclaw_core.gateway.caller import Caller, Complaints, HttpLog
from nanoclaw_core.gateway.doorway import Doorway, Visitor
from nanoclaw_core.gateway.link import Seat
from nanoclaw_core.gateway.mcp import McpServer
from nanoclaw_core.gateway.model_proxy import ModelProxy
from nanoclaw_core.gateway.parameters import UPLOAD
from nanoclaw_core.gateway.refusals import RequestRefused, cut, refusal, refusal_of
from nanoclaw_core.gateway.uploads import Uploads
from nanoclaw_core.ledger.books import Ledger
from nanoclaw_core.models import WorkerIdentity
from nanoclaw_core.ports import Action, ActionCalls, Provider, WorkerEvents
from nanoclaw_core.supervise import survive

SOCKET: Final = "gateway.sock"
LONGEST_SOCKET_PATH: Final = 103 if sys.platform == "darwin" else 107
#: Seconds that requests get to end when the host does; their workers come back to the next host.
_FAREWELL: Final = 1.0

Answer = Callable[[web.Request, Caller], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Door:
    caller: Caller
    path: str
    doorway: Doorway
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
        calls: ActionCalls,
        *,
        ledger: Ledger | None = None,
        hello_within: float = 10.0,
    ) -> None:
        self._root = root.absolute()
        self._events = events
        self._hello_within = hello_within
        self._doors: dict[str, _Door] = {}  # by the path of the socket
        self._parsing = anyio.CapacityLimiter(1)
        self._trouble = Complaints(most=1)
        self._strangers = Complaints()
        self._stack = AsyncExitStack()
        application = web.Application(middlewares=[self._in_json])
        application.router.add_get("/link", self._link, allow_head=False)
        application.router.add_post("/mcp", self._known(McpServer(actions, calls).serve))
        application.router.add_put(f"/files/{{upload:{UPLOAD.pattern}}}", self._known(Uploads(calls).serve))
        for path in provider.paths:
            application.router.add_post(path, self._known(ModelProxy(provider, calls, ledger).serve))
        self._runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=_FAREWELL)

    async def __aenter__(self) -> Self:
        _make_private(self._root)
        await self._runner.setup()
        self._tasks = await self._stack.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            for door in list(self._doors.values()):
                await self._shut(door)  # the folders stay: containers that outlive this host have them mounted
            await self._runner.cleanup()
        await self._stack.__aexit__(kind, error, traceback)

    async def open(self, identity: WorkerIdentity) -> Path:
        """Listen for this worker; what an earlier host left at its place is replaced.

        Raises:
            HomeUnusable: the folder lies too deep for a Unix socket, or cannot be written.
        """
        path = self._path(identity.worker_id)
        if door := self._doors.get(path):
            await self._shut(door)
        assert self._runner.server is not None  # noqa: S101  # for the type checker: it is made on entering
        try:
            _make_folder(path)
            doorway = Doorway(path, self._runner.server, self._trouble, HttpLog(self._strangers))
        except OSError as error:
            raise HomeUnusable(self._root, error.strerror or str(error)) from error
        caller = Caller(identity, self._parsing)
        seat = Seat(caller, self._events, self._hello_within)
        self._doors[path] = _Door(caller=caller, path=path, doorway=doorway, seat=seat)
        self._tasks.start_soon(doorway.attend, name=f"door of {identity.worker_id}")
        return Path(path).parent

    async def close(self, worker_id: str) -> None:
        """Stop listening, break this worker's connections, remove its folder, also one that an earlier host left."""
        path = self._path(worker_id)
        if door := self._doors.get(path):
            await self._shut(door)
        shutil.rmtree(Path(path).parent, ignore_errors=True)

    async def _shut(self, door: _Door) -> None:
        del self._doors[door.path]
        await door.doorway.close()
        door.caller.complaints.conclude()

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
            return await answer(request, door.caller) if door else _gone()

        return serve

    @web.middleware
    async def _in_json(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Whatever goes wrong is answered in one shape; what nobody foresaw is logged, and the connection goes on."""
        if isinstance(request.protocol, Visitor):
            request.protocol.was_heard()
        answers: list[web.StreamResponse] = []

        async def answer() -> None:
            answers.append(await handler(request))

        door = self._door(request)
        complaints = door.caller.complaints if door else self._strangers
        passing = (RequestRefused, web.HTTPException, ConnectionError)
        try:
            failure = await survive(f"{request.method} {request.path:.80}", answer(), passing=passing, warn=complaints.warn)
        except (RequestRefused, web.HTTPException) as error:
            return refusal_of(error, request)
        if failure is None:
            return answers[0]
        if request.writer.output_size:
            cut(request)
        return refusal(500, "NanoClaw failed at this request; the host's log says why")


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
