"""The plugin that a host under test loads: channels and an action whose other end is the driver, which outlives every host.

Each thing that happens is told to the driver over its Unix socket, one line of JSON for a connection, and answered with one;
the driver holds the answer for as long as it likes, for instance until the host is dead.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import anyio
from anyio.abc import TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream

from nanoclaw_core import (
    Action,
    ActionCall,
    Address,
    Capabilities,
    ChannelFactory,
    Event,
    InboundMessage,
    OutboundMessage,
    Receipt,
    Receive,
    Sender,
    hookimpl,
)

#: Names the driver's socket to the host.
SOCKET: Final = "CRASH_SOCKET"
#: Channels: whether their platform recognises a message that is sent again.
CHANNELS: Final = {"sure": True, "plain": False}
MOST_BYTES: Final = 1024 * 1024

Json = dict[str, Any]  # Any: the lines between plugin and driver


async def ask(**question: object) -> Json:
    """Tell the driver something and wait for its answer.

    Raises:
        OSError, anyio.EndOfStream: the driver hung up instead.
    """
    async with await anyio.connect_unix(os.environ[SOCKET]) as stream:
        await stream.send(json.dumps(question).encode() + b"\n")
        answer: Json = json.loads(await BufferedByteReceiveStream(stream).receive_until(b"\n", MOST_BYTES))
        return answer


class Platform:
    """A chat platform that is the driver."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.capabilities = Capabilities(idempotent_send=CHANNELS[name])

    async def run(self, receive: Receive, *, task_status: TaskStatus[None]) -> None:
        async with await anyio.connect_unix(os.environ[SOCKET]) as stream:
            await stream.send(json.dumps({"what": "listen", "channel": self._name}).encode() + b"\n")
            task_status.started()
            lines = BufferedByteReceiveStream(stream)
            async with anyio.create_task_group() as tasks:
                while True:
                    line = json.loads(await lines.receive_until(b"\n", MOST_BYTES))
                    tasks.start_soon(self._take, receive, line)

    async def _take(self, receive: Receive, line: Json) -> None:
        message = InboundMessage(
            address=Address(channel=self._name, chat=line["chat"]),
            message_id=line["id"],
            sender=Sender(handle="person", name="Person"),
            text=line["text"],
            sent_at=time.time(),
        )
        await receive(message)
        await ask(what="took", message_id=line["id"])

    async def send(self, message: OutboundMessage) -> Receipt:
        chat = message.to.chat
        answer = await ask(what="send", channel=self._name, chat=chat, key=message.key, text=message.text)
        return Receipt(message_id=answer["id"])

    async def settled(self, to: Address, message_ids: tuple[str, ...], outcome: str) -> None:
        await ask(what="settled", ids=message_ids, outcome=outcome)


@dataclass(frozen=True, kw_only=True)
class Count:
    number: int


async def count(call: ActionCall, parameters: Count) -> str:
    answer = await ask(what="count", number=parameters.number, key=call.key)
    return f"counted {parameters.number} as {answer['place']}"


@hookimpl
def nanoclaw_channels() -> Iterable[ChannelFactory]:
    def factory(name: str) -> ChannelFactory:
        return ChannelFactory(name=name, summary="The driver of the crash test", create=lambda context: Platform(name))

    return [factory(name) for name in CHANNELS]


@hookimpl
def nanoclaw_actions() -> Iterable[Action[Any]]:
    return [Action(name="count", description="Count a number.", parameters=Count, handler=count, idempotent=True)]


@hookimpl
def nanoclaw_event(event: Event) -> None:
    session = event.data.get("session")
    _wire().sendall(json.dumps({"event": event.name, "session": session}).encode() + b"\n")


@cache
def _wire() -> socket.socket:
    """A connection for events: what does not fit into the kernel's buffer would block, and never comes near it."""
    wire = socket.socket(socket.AF_UNIX)
    wire.connect(os.environ[SOCKET])
    wire.sendall(json.dumps({"what": "events"}).encode() + b"\n")
    return wire
