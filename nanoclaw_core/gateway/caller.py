"""The worker behind a socket: who it is, and how much of the host it may use at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable, MutableMapping
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar, TypeVarTuple

import anyio
import anyio.to_thread
import structlog
from aiohttp import web

from nanoclaw_core.gateway.courtesy import finish
from nanoclaw_core.gateway.refusals import RequestRefused
from nanoclaw_core.models import WorkerIdentity

log = structlog.get_logger()

#: Bytes of request bodies that the host keeps for one worker, and seconds that one body may take to arrive.
MOST_HELD: Final = 64 * 1024 * 1024
BODY_WITHIN: Final = 60.0
MOST_ACTIONS: Final = 8
MOST_UPLOADS: Final = 2
_MINUTE: Final = 60.0

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")


class Complaints:
    """Warnings that somebody else can provoke: `most` a minute are logged, then one line says how many were left out."""

    def __init__(self, most: int = 10, now: Callable[[], float] = time.monotonic, **fields: object) -> None:
        self._most = most
        self._now = now
        self._log = log.bind(**fields)
        self._began = now()
        self._count = 0

    def warn(self, event: str, **fields: object) -> None:
        if self._now() - self._began >= _MINUTE:
            self.conclude()
        self._count += 1
        if self._count <= self._most:
            self._log.warning(event, **fields)

    def conclude(self) -> None:
        """Say how many were left out since the last time."""
        if self._count > self._most:
            self._log.warning("warnings.left_out", count=self._count - self._most)
        self._began, self._count = self._now(), 0


class HttpLog(logging.LoggerAdapter[logging.Logger]):
    """What aiohttp says of requests that are no HTTP, with a traceback each: as complaints."""

    def __init__(self, complaints: Complaints) -> None:
        super().__init__(logging.getLogger(__name__), {})
        self._complaints = complaints

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:  # Any: as typeshed has it
        if level >= logging.WARNING:
            self._complaints.warn("gateway.http", reason=str(msg) % args, exc_info=kwargs.get("exc_info"))

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:  # Any: the same
        return msg, kwargs


class Caller:
    """One worker, from the opening of its socket to the closing. `parsing` is shared: one document is read at a time."""

    def __init__(self, identity: WorkerIdentity, parsing: anyio.CapacityLimiter) -> None:
        self.identity = identity
        self.complaints = Complaints(worker=identity.worker_id)
        self.actions = anyio.CapacityLimiter(MOST_ACTIONS)
        self.uploads = anyio.CapacityLimiter(MOST_UPLOADS)
        self.unheard: set[str] | None = None  # see `ActionCalls.unheard`; None: not asked yet
        self._parsing = parsing
        self._turn = anyio.CapacityLimiter(1)
        self._held = 0

    async def work(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Call `function` in a thread, one at a time: hanging up and asking again does not start a second one."""
        async with self._turn:
            return await finish(partial(self._in_thread, function, *arguments))

    async def _in_thread(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        return await anyio.to_thread.run_sync(function, *arguments, limiter=self._parsing)

    @asynccontextmanager
    async def body(self, request: web.Request, limit: int) -> AsyncIterator[bytearray]:
        """The whole body. It counts as held until the request is answered, because what is made of it lives that long.

        Raises:
            RequestRefused: it is compressed, longer than `limit`, slow, or this worker has too much under way.
        """
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise RequestRefused(415, "send the body as it is, without a Content-Encoding")
        body, claimed = bytearray(), 0
        try:
            with anyio.move_on_after(BODY_WITHIN) as waiting:
                async for chunk in _chunks(request, limit):
                    claimed += len(chunk)
                    self._hold(len(chunk))
                    body += chunk
            if waiting.cancelled_caught:
                raise RequestRefused(408, f"the body did not arrive within {BODY_WITHIN:g} s", retry=True)
            yield body
        finally:
            self._held -= claimed
            body.clear()  # an error's traceback may keep it for long

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > MOST_HELD:
            self.complaints.warn("gateway.bodies_refused", most=MOST_HELD)
            raise RequestRefused(429, f"requests of more than {MOST_HELD:,} bytes are under way at once", retry=True)


async def _chunks(request: web.Request, limit: int) -> AsyncIterator[bytes]:
    length = request.content_length or 0
    if length <= limit:
        length = 0
        async for chunk in request.content.iter_any():
            length += len(chunk)
            if length > limit:
                break
            yield chunk
    if length > limit:
        raise RequestRefused(413, f"the body of {request.path} may have at most {limit:,} bytes")
