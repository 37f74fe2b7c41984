"""The host's end of a channel under test: it stores what comes, and remembers it when the channel starts again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

import anyio

from nanoclaw_core import Channel, ChannelContext, Clock, InboundKind, InboundMessage, MessageTooLong

#: Seconds after which a test gives up on something that should take milliseconds.
PATIENCE = 10


class Host:
    """Knows repeated messages and second answers, as the journal does. `store_nothing` is what it raises, as in a crash."""

    def __init__(self) -> None:
        self.messages: list[InboundMessage] = []
        self.cursor: str | None = None
        self.moves: list[tuple[str, str]] = []
        self.woken: list[str] = []
        self.too_long: set[str] = set()
        self.store_nothing: Exception | None = None
        self._changed = anyio.Event()

    def context(self, settings: Mapping[str, str], clock: Clock | None = None) -> ChannelContext:
        """What a channel of this host gets."""
        return ChannelContext(settings=settings, wake=self._wake, cursor=self._cursor, moved=self._moved, clock=clock)

    @asynccontextmanager
    async def running(self, channel: Channel) -> AsyncIterator[None]:
        """Run `channel` until the block ends. What it raises ends the block."""
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                await tasks.start(lambda *, task_status: channel.run(self, task_status=task_status), name="channel under test")
                yield
                tasks.cancel_scope.cancel()

    async def failure(self, channel: Channel, meanwhile: Callable[[], Awaitable[None]] = anyio.sleep_forever) -> Exception:
        """Run `channel` until it fails; return why."""
        try:
            async with self.running(channel):
                await meanwhile()
                await anyio.sleep_forever()
        except* Exception as errors:
            failure = errors.exceptions[0]
        assert not isinstance(failure, ExceptionGroup)
        return failure

    async def __call__(self, message: InboundMessage, cursor: str | None = None) -> bool:
        if self.store_nothing is not None:
            raise self.store_nothing
        self.cursor = cursor or self.cursor
        if message.text in self.too_long:
            self._note()
            raise MessageTooLong(len(message.text), 1)
        if message.sender.is_own or any(_is_same(message, known) for known in self.messages):
            self._note()
            return False
        self.messages.append(message)
        self._note()
        return True

    async def received(self, count: int = 1) -> list[InboundMessage]:
        """Wait until `count` different messages came; return all."""
        await self.wait_for(lambda: len(self.messages) >= count)
        return self.messages

    async def wait_for(self, condition: Callable[[], object]) -> None:
        """Wait until `condition()` holds; it is looked at whenever something comes."""
        with anyio.fail_after(PATIENCE):
            while not condition():
                await self._changed.wait()

    def _wake(self, chat: str) -> None:
        self.woken.append(chat)
        self._note()

    async def _cursor(self) -> str | None:
        return self.cursor

    async def _moved(self, old: str, new: str) -> None:
        self.moves.append((old, new))
        self._note()

    def _note(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _is_same(message: InboundMessage, known: InboundMessage) -> bool:
    if message.kind is InboundKind.ANSWER is known.kind:
        return message.about == known.about
    return (message.address.chat, message.message_id) == (known.address.chat, known.message_id)
