"""The host's end of a channel under test: what it would store, and a supervisor that starts the channel again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import anyio
from anyio.abc import TaskStatus

from nanoclaw_core.errors import ChannelRevoked, MessageTooLong
from nanoclaw_core.models import InboundKind, InboundMessage
from nanoclaw_core.ports import Channel, ChannelContext
from nanoclaw_core.supervise import Health, SystemClock, supervise

#: Seconds after which a test gives up on something that should take milliseconds.
PATIENCE = 20


class Inbox:
    """A `Receive` that stores what comes, and knows repeated ids. The cursor is one for all lives of a channel.

    `present` is entered whenever a channel has begun to run: see `Platform.present`.
    """

    def __init__(self, present: Callable[[], AbstractAsyncContextManager[None]] = nullcontext) -> None:
        self.present = present
        self.messages: list[InboundMessage] = []
        self.too_long: set[str] = set()
        self.cursor: str | None = None
        self.dying = False  # the host dies in the middle of storing
        self.arrived = anyio.Event()  # something came, stored or not
        self.revoked: str | None = None  # why the channel stays off
        self._changed = anyio.Event()

    async def __call__(self, message: InboundMessage, cursor: str | None = None) -> bool:
        self.arrived.set()
        if self.dying:
            await anyio.sleep_forever()
        self.cursor = cursor or self.cursor
        if message.text in self.too_long:
            raise MessageTooLong(len(message.text), 1)
        if message.sender.is_own or any(_is_same(message, known) for known in self.messages):
            return False
        self.messages.append(message)
        self._changed.set()
        self._changed = anyio.Event()
        return True

    async def received(self, count: int) -> list[InboundMessage]:
        """Wait until `count` different messages came."""
        while len(self.messages) < count:
            await self._changed.wait()
        return self.messages

    def context(self) -> ChannelContext:
        """What a channel is made with that stores its messages here."""

        async def cursor() -> str | None:
            return self.cursor

        return ChannelContext(settings={}, wake=lambda _chat: None, cursor=cursor, clock=SystemClock())


def _is_same(message: InboundMessage, known: InboundMessage) -> bool:
    if message.kind is known.kind is InboundKind.ANSWER:
        return message.about == known.about
    return (message.address.chat, message.message_id) == (known.address.chat, known.message_id)


@asynccontextmanager
async def connected(channel: Channel, inbox: Inbox) -> AsyncIterator[None]:
    """Run `channel` until the block ends, again when it fails, as the host does; ending must be quick."""
    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            await tasks.start(_keep_running, channel, inbox, name="channel under test")
            async with inbox.present():
                yield
            tasks.cancel_scope.cancel()


async def _keep_running(channel: Channel, inbox: Inbox, *, task_status: TaskStatus[None]) -> None:
    first = _First(task_status)

    async def attempt(_: TaskStatus[None]) -> None:
        await channel.run(inbox, task_status=first)

    inbox.revoked = await supervise(attempt, Health(name="channel under test"), _Quick(), final=(ChannelRevoked,))
    first.started()


class _First(TaskStatus[None]):
    """Hands on the first start alone: no other can be reported to a task group."""

    def __init__(self, status: TaskStatus[None]) -> None:
        self._status: TaskStatus[None] | None = status

    def started(self, value: None = None) -> None:
        if self._status is not None:
            self._status.started(value)
        self._status = None


class _Quick(SystemClock):
    """The host's pauses, a hundred times shorter."""

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds / 100)


async def eventually(is_so: Callable[[], object]) -> None:
    """Look every few milliseconds whether something is so that a platform does not announce."""
    with anyio.fail_after(PATIENCE):
        while not is_so():  # noqa: ASYNC110  # as it says
            await anyio.sleep(0.005)
