"""The runner's end of the link: one WebSocket over the gateway's Unix socket, made again whenever it breaks."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final, Protocol

import anyio
from anyio.abc import SocketStream
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Message,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from nanoclaw_runner.frames import (
    MAX_FRAME,
    PROTOCOLS,
    Ack,
    FrameRefused,
    Heartbeat,
    Hello,
    HostFrame,
    Interrupt,
    Preview,
    Progress,
    Push,
    Shutdown,
    Spooled,
    Welcome,
    decode_host,
    encode,
)
from nanoclaw_runner.relay import pauses
from nanoclaw_runner.spool import Spool

log = logging.getLogger(__name__)

#: Closed by the host for good: another runner took over, the protocol was broken, or no version is common.
FINAL_CODES: Final = {4001: "replaced by another connection", 4400: "the host refused a frame", 4406: "no common protocol"}


class LinkEnded(Exception):
    """The host does not want this runner any more."""


class LinkBroken(Exception):
    """This connection is lost; another one is worth a try."""


class Orders(Protocol):
    """What the host's frames lead to."""

    async def connected(self) -> None:
        """The host listens."""

    async def push(self, uuid: str, text: str, *, stream: bool) -> None:
        """Something for the engine; a uuid may come more than once."""

    async def interrupt(self) -> None:
        """Stop the running turn."""


class Link:
    """Keeps the connection up, sends what is spooled until it is acknowledged, and hands the host's frames on."""

    def __init__(self, path: str, secret: str, hello: Hello, spool: Spool) -> None:
        self._path = path
        self._secret = secret
        self._hello = hello
        self._spool = spool
        self._wire: _Wire | None = None  # set while the host listens
        self._sending = anyio.Lock()
        self._sent: set[str] = set()  # ids of spooled frames that went over this connection

    async def run(self, orders: Orders) -> None:
        """Work until the host sends `shutdown`.

        Raises:
            LinkEnded: the host closed the link for good.
        """
        waits = pauses()
        while True:
            try:
                async with await anyio.connect_unix(self._path) as stream:
                    wire = _Wire(stream)
                    await wire.open(self._secret)
                    waits = pauses()
                    if await self._talk(wire, orders):
                        return
            except (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError, ProtocolError, LinkBroken) as error:
                log.debug("the link is down: %s", error)
            finally:
                self._wire = None
            await anyio.sleep(next(waits))

    async def deliver(self, frame: Spooled) -> None:
        """Store `frame`, then send it; it is sent again with every connection until the host acknowledges it."""
        await self._spool.put(frame)
        await self._send_spooled()

    async def mention(self, frame: Progress | Preview | Heartbeat) -> None:
        """Send `frame` if somebody listens."""
        if self._wire is not None:
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):  # the reading side notices too
                await self._wire.send(encode(frame))

    async def _send_spooled(self) -> None:
        """Send what waits in the spool and did not go over this connection yet, in its order."""
        async with self._sending:
            for frame_id, line in list(self._spool.lines.items()):
                if self._wire is None or frame_id in self._sent:
                    continue
                self._sent.add(frame_id)
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await self._wire.send(line)

    async def _talk(self, wire: _Wire, orders: Orders) -> bool:
        """Speak with the host until the connection ends (False) or the host wants the runner to end (True)."""
        await wire.send(encode(self._hello))
        async for line in wire.lines():
            try:
                frame = decode_host(line)
            except FrameRefused as refusal:
                raise LinkBroken(f"the host sent {refusal}") from refusal
            if isinstance(frame, Shutdown):
                return True
            await self._follow(wire, frame, orders)
        return False

    async def _follow(self, wire: _Wire, frame: HostFrame, orders: Orders) -> None:
        match frame:
            case Welcome(protocol=version):
                if version not in PROTOCOLS:
                    raise LinkEnded(f"the host chose protocol {version}")
                self._sent.clear()
                self._wire = wire
                await self._send_spooled()
                await orders.connected()
            case Push(uuid=uuid, text=text, stream=stream):
                await orders.push(uuid, text, stream=stream)
            case Ack(id=frame_id):
                await self._spool.remove(frame_id)
            case Interrupt():
                await orders.interrupt()
            case _:
                pass


class _Wire:
    """One WebSocket connection."""

    def __init__(self, stream: SocketStream) -> None:
        self._stream = stream
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._lock = anyio.Lock()

    async def open(self, secret: str) -> None:
        """Shake hands.

        Raises:
            LinkBroken: the host does not accept this.
        """
        authorization = (b"Authorization", f"Bearer {secret}".encode())
        await self._write(self._ws.send(Request(host="gateway", target="/link", extra_headers=[authorization])))
        while True:
            self._ws.receive_data(await self._read())
            for event in self._ws.events():
                if isinstance(event, AcceptConnection):
                    return
                if isinstance(event, RejectConnection):
                    raise LinkBroken(f"the host answered {event.status_code}")

    async def send(self, line: str) -> None:
        """Send one frame whole."""
        async with self._lock:
            await self._write(self._ws.send(Message(data=line)))

    async def lines(self) -> AsyncIterator[str]:
        """The host's frames, until the connection ends.

        Raises:
            LinkEnded: it was closed with a code that says: never again.
        """
        parts: list[str] = []
        while True:
            for event in self._ws.events():
                match event:
                    case TextMessage(data=data, message_finished=finished):
                        parts.append(data)
                        if sum(map(len, parts)) > MAX_FRAME:
                            raise LinkBroken("the host sent a frame that is too long")
                        if finished:
                            yield "".join(parts)
                            parts.clear()
                    case BytesMessage():
                        raise LinkBroken("the host sent bytes")
                    case Ping():
                        async with self._lock:
                            await self._write(self._ws.send(event.response()))
                    case CloseConnection(code=code):
                        if code in FINAL_CODES:
                            raise LinkEnded(FINAL_CODES[code])
                        return
            self._ws.receive_data(await self._read())

    async def _write(self, data: bytes) -> None:
        await self._stream.send(data)

    async def _read(self) -> bytes | None:
        try:
            return await self._stream.receive()
        except anyio.EndOfStream as end:
            raise LinkBroken("the connection ended") from end
