"""The link: one WebSocket for each worker, over which turns go down and their ends come up."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from typing import Final

import anyio
import structlog
from aiohttp import WSMsgType, web

from nanoclaw_core.errors import ProtocolViolation
from nanoclaw_core.gateway import frames
from nanoclaw_core.gateway.caller import Caller
from nanoclaw_core.gateway.courtesy import finish
from nanoclaw_core.gateway.refusals import refusal
from nanoclaw_core.models import Progress, Push, WorkerIdentity
from nanoclaw_core.ports import WorkerEvents
from nanoclaw_core.sandbox.spec import SUPPORTED

log = structlog.get_logger()

REPLACED, BROKE_RULES, NO_COMMON_VERSION = 4001, 4400, 4406
#: Seconds that a runner gets to answer our close frame: nothing is lost when it does not.
_FAREWELL: Final = 1.0
#: Seconds that a runner may leave unread what we send: nobody waits longer for one that stopped.
PATIENCE: Final = 20.0
#: Seconds after a preview in which no other is heard: a runner sends four a second, and nobody needs more.
PREVIEW_PAUSE: Final = 0.1


class Link:
    """The host's end of one connection; it becomes the worker's `WorkerLink` once the runner has said hello."""

    def __init__(self, identity: WorkerIdentity, events: WorkerEvents) -> None:
        self.identity = identity
        self.socket = web.WebSocketResponse(timeout=_FAREWELL, max_msg_size=frames.MOST_BYTES, compress=False)
        self.transport: asyncio.Transport | None = None
        self._events = events
        self._replaced = anyio.CancelScope()
        self._previewed = -PREVIEW_PAUSE

    async def push(self, push: Push) -> None:
        await self._send(frames.push(push))

    async def interrupt(self) -> None:
        await self._send(frames.interrupt())

    async def shutdown(self) -> None:
        await self._send(frames.shutdown())

    def make_way(self) -> None:
        """Hear nothing more, because the same runner has connected anew. What was heard already is still stored."""
        self._replaced.cancel()

    async def greet(self, hello_within: float) -> bool:
        """Hear the runner's hello and answer it; False when it left, or when no version of the protocol is common."""
        with anyio.move_on_after(hello_within):
            hello = await self._hear()
            if hello is None:
                return False
            if not isinstance(hello, frames.Hello):
                raise ProtocolViolation("the first frame is no hello")
            if hello.worker != self.identity.worker_id:
                raise ProtocolViolation("the hello of another worker")
            return await self._agree(hello)
        raise ProtocolViolation(f"no hello within {hello_within:g} s")

    async def _agree(self, hello: frames.Hello) -> bool:
        common = set(hello.protocols) & set(SUPPORTED)
        if not common:
            log.warning("link.no_common_version", worker=self.identity.worker_id, offered=hello.protocols, spoken=SUPPORTED)
            await self.socket.close(code=NO_COMMON_VERSION, message=b"no common version of the protocol")
            return False
        await self._send(frames.welcome(max(common)))
        log.info("link.opened", worker=self.identity.worker_id, engine=hello.engine[:100])
        return True

    async def converse(self) -> None:
        """Report frame by frame until the connection ends or another takes its place: the runner waits while we store."""
        with self._replaced:
            while (report := await self._hear()) is not None:
                with anyio.CancelScope(shield=True):
                    await self._tell(report)

    async def leave(self) -> None:
        """Tell the runner why this connection ends, if it is not the runner who ended it."""
        if self._replaced.cancel_called:
            await self.socket.close(code=REPLACED, message=b"replaced by a newer connection")

    async def _hear(self) -> frames.Report | None:
        message = await self.socket.receive()
        match message.type:
            case WSMsgType.TEXT:
                return frames.decode(message.data)
            case WSMsgType.CLOSE | WSMsgType.CLOSING | WSMsgType.CLOSED:
                return None
            case WSMsgType.ERROR:  # too long, or no WebSocket frame at all; aiohttp has closed it with the fitting code
                raise ProtocolViolation(str(message.data)[:100])
            case _:
                raise ProtocolViolation("a frame that is no text")

    async def _tell(self, report: frames.Report) -> None:
        worker_id = self.identity.worker_id
        match report:
            case frames.Ended(end):
                await self._events.turn_ended(worker_id, end)
                await self._send(frames.ack(end.id))
            case frames.Failed(frame_id, detail):
                await self._events.failed(worker_id, detail)
                await self._send(frames.ack(frame_id))
            case Progress():
                await self._events.progressed(worker_id, report)
            case frames.Preview(text):
                if not self._comes_too_soon():
                    await self._events.previewed(worker_id, text)
            case frames.Hello():
                raise ProtocolViolation("a second hello")

    def _comes_too_soon(self) -> bool:
        """Whether a preview comes right behind another, heard or not: of a flood only the first one is heard."""
        before, self._previewed = self._previewed, anyio.current_time()
        return self._previewed - before < PREVIEW_PAUSE

    def _cut(self) -> None:
        """End the connection without a word: the words before it were not read."""
        if self.transport is not None:
            self.transport.abort()

    async def _send(self, text: str) -> None:
        if self.socket.closed:
            return
        try:
            with anyio.fail_after(PATIENCE):
                await self.socket.send_str(text)
        except ConnectionError:
            log.debug("link.lost_frame", worker=self.identity.worker_id)
        except TimeoutError:
            log.warning("link.unread", worker=self.identity.worker_id, seconds=PATIENCE)
            self._cut()


class Seat:
    """The place of a worker's one link, from the opening of its socket to the closing."""

    def __init__(self, caller: Caller, events: WorkerEvents, hello_within: float) -> None:
        self._identity = caller.identity
        self._complaints = caller.complaints
        self._events = events
        self._hello_within = hello_within
        self._taken = anyio.Lock()
        self._latest: Link | None = None

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Answer GET /link, for as long as the connection lasts."""
        if not _proves(request.headers.get("Authorization", ""), self._identity):
            self._complaints.warn("link.wrong_secret")
            return refusal(401, "the link needs this worker's secret")
        link = Link(self._identity, self._events)
        link.transport = request.transport
        await link.socket.prepare(request)
        await finish(self._hear_out, link)
        return link.socket

    async def _hear_out(self, link: Link) -> None:
        try:
            if await link.greet(self._hello_within):
                await self._seat(link)
        except ProtocolViolation as violation:
            await self._punish(link, violation)

    async def _seat(self, link: Link) -> None:
        """Let `link` be the only one. The one before is sent away and heard out first, so that events keep their order."""
        if self._latest is not None:
            self._latest.make_way()
        self._latest = link
        async with self._taken:
            try:
                await self._events.connected(self._identity.worker_id, link)
                await link.converse()
            finally:
                if self._latest is link:
                    self._latest = None
                    await self._events.disconnected(self._identity.worker_id)
        await link.leave()

    async def _punish(self, link: Link, violation: ProtocolViolation) -> None:
        self._complaints.warn("link.protocol_violation", reason=str(violation))
        await self._events.failed(self._identity.worker_id, f"broke the protocol: {violation}")
        await link.socket.close(code=BROKE_RULES, message=str(violation).encode()[:120])


def _proves(authorization: str, identity: WorkerIdentity) -> bool:
    """Whether the header holds the secret, compared in a time that says nothing about it."""
    scheme, _, secret = authorization.partition(" ")
    digest = hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()
    return scheme == "Bearer" and hmac.compare_digest(digest, identity.secret_hash)
