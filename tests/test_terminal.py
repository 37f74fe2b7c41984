"""The terminal channel: nothing is lost with nobody there, and nobody who hangs holds others up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import count
from typing import cast

import anyio
import pytest
from anyio.abc import TaskGroup

from nanoclaw_core.builtins import terminal
from nanoclaw_core.builtins.terminal import Notice, Said, Settled, TerminalChannel, Update, Viewer, Working, nanoclaw_channels
from nanoclaw_core.errors import MessageTooLong, TryLater
from nanoclaw_core.models import Address, InboundMessage, OutboundMessage, Progress
from nanoclaw_core.ports import Channel, ChannelContext, SettlingChannel, TypingChannel
from nanoclaw_core.testing import ChannelContract, Platform, Shown
from nanoclaw_core.testing.contracts import Inbox

HERE = Address(channel="terminal", chat="main")


def words(text: str, key: str = "k1") -> OutboundMessage:
    return OutboundMessage(to=HERE, text=text, key=key)


@pytest.fixture
def woken() -> list[str]:
    return []


@pytest.fixture
def channel(woken: list[str]) -> TerminalChannel:
    return TerminalChannel(woken.append, "ada")


@asynccontextmanager
async def watching(channel: TerminalChannel, seen: list[object]) -> AsyncIterator[Viewer]:
    """A terminal that shows and confirms everything."""

    async def show(viewer: Viewer) -> None:
        async for number, update in viewer:
            seen.append(update)
            viewer.confirm(number)

    with anyio.fail_after(30), channel.attach("main") as viewer:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(show, viewer)
            yield viewer
            tasks.cancel_scope.cancel()


class Desk(Platform):
    """A person at a terminal that shows and confirms everything."""

    chat = "main"

    def __init__(self, tasks: TaskGroup) -> None:
        self.tasks = tasks
        self.seen: list[Update] = []
        self.numbers = count(1)

    def sit_down(self, channel: TerminalChannel) -> TerminalChannel:
        self.channel = channel
        self.tasks.start_soon(self.watch, channel)
        return channel

    async def watch(self, channel: TerminalChannel) -> None:
        with channel.attach(self.chat) as viewer:
            async for number, update in viewer:
                self.seen.append(update)
                viewer.confirm(number)

    @property
    def messages(self) -> Sequence[Shown]:
        said = {update.id: update for update in self.seen if isinstance(update, Said)}
        return [Shown(id=update.id, text=update.text, chat=self.chat) for update in said.values()]

    @property
    def typings(self) -> int:
        return sum(isinstance(update, Working) for update in self.seen)

    async def say(self, text: str, *, message_id: str | None = None) -> str:
        message_id = message_id or f"m{next(self.numbers)}"
        await self.channel.say(self.chat, text, message_id)
        return message_id


class TestTerminal(ChannelContract):
    @pytest.fixture
    async def platform(self) -> AsyncIterator[Desk]:
        async with anyio.create_task_group() as tasks:
            yield Desk(tasks)
            tasks.cancel_scope.cancel()

    def make_channel(self, platform: Desk, context: ChannelContext) -> TerminalChannel:
        return platform.sit_down(TerminalChannel(context.wake, "ada"))

    @pytest.fixture
    async def channel(self, platform: Platform, inbox: Inbox) -> Channel:
        channel = self.make_channel(cast(Desk, platform), inbox.context())
        channel.capabilities = replace(channel.capabilities, max_length=100_000)  # a million characters are nothing but slow
        return channel


def test_it_is_offered_through_the_hook() -> None:
    (factory,) = nanoclaw_channels()
    channel = factory.create(ChannelContext(settings={}, wake=print))
    assert isinstance(channel, TerminalChannel)
    assert isinstance(channel, TypingChannel)
    assert isinstance(channel, SettlingChannel)


async def test_with_nobody_there_a_message_waits(channel: TerminalChannel) -> None:
    with pytest.raises(TryLater) as caught:
        await channel.send(words("hello"))
    assert caught.value.after == 3600


async def test_whoever_attaches_wakes_the_chat(channel: TerminalChannel, woken: list[str]) -> None:
    with channel.attach("main"):
        assert woken == ["main"]


async def test_a_message_is_sent_once_it_was_shown(channel: TerminalChannel) -> None:
    seen: list[object] = []
    async with watching(channel, seen):
        receipt = await channel.send(words("hello", key="k7"))
        await channel.settled(HERE, ("m1",), "answered")
    assert receipt.message_id == "k7"
    assert seen == [Said(id="k7", text="hello"), Settled(message_ids=("m1",), outcome="answered")]


async def test_a_message_that_a_dying_terminal_took_is_not_sent(channel: TerminalChannel) -> None:
    async def die() -> None:
        with channel.attach("main") as viewer:
            attached.set()
            async for _ in viewer:
                return

    attached = anyio.Event()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(die)
            await attached.wait()
            with pytest.raises(TryLater):
                await channel.send(words("hello"))


async def test_two_terminals_see_the_same(channel: TerminalChannel) -> None:
    one: list[object] = []
    other: list[object] = []
    async with watching(channel, one), watching(channel, other):
        channel.announce(Notice(text="first"))
        await channel.typing(HERE, Progress(note="Bash"))
        await channel.send(words("hello"))
        await anyio.wait_all_tasks_blocked()
    assert one == other == [Notice(text="first"), Working(note="Bash"), Said(id="k1", text="hello")]


async def test_another_chat_sees_nothing(channel: TerminalChannel) -> None:
    seen: list[object] = []
    async with watching(channel, seen):
        with pytest.raises(TryLater):
            await channel.send(OutboundMessage(to=Address(channel="terminal", chat="other"), text="secret", key="k"))
    assert seen == []


async def test_one_terminal_that_hangs_does_not_hold_up_the_other(channel: TerminalChannel) -> None:
    seen: list[object] = []
    with channel.attach("main"):
        async with watching(channel, seen):
            for number in range(1000):
                await channel.send(words("hello", key=str(number)))
    assert len(seen) == 1000


async def test_a_terminal_that_is_too_far_behind_is_detached(channel: TerminalChannel) -> None:
    with channel.attach("main") as viewer:
        for number in range(1000):
            channel.announce(Notice(text=str(number)))
        with anyio.fail_after(30):
            assert len([number async for number, _ in viewer]) < 1000


async def test_the_only_terminal_is_detached_when_it_hangs(channel: TerminalChannel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "_PATIENCE", 0.01)
    with channel.attach("main") as viewer, anyio.fail_after(30):
        with pytest.raises(TryLater):
            await channel.send(words("hello"))
        assert [update async for _, update in viewer] == [Said(id="k1", text="hello")]


async def test_what_is_said_is_received_as_the_local_person(channel: TerminalChannel) -> None:
    received: list[InboundMessage] = []

    async def receive(message: InboundMessage, cursor: str | None = None) -> bool:
        received.append(message)
        return True

    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda *, task_status: channel.run(receive, task_status=task_status))
        assert await channel.say("main", "a\x00b \ud83d", "m1")
        tasks.cancel_scope.cancel()
    (message,) = received
    assert message.address == HERE
    assert message.sender.user_id("terminal") == "terminal:local"
    assert (message.sender.name, message.text, message.message_id) == ("ada", "a\ufffdb \ufffd", "m1")


async def test_a_message_that_is_too_long_is_refused_to_whoever_said_it(channel: TerminalChannel) -> None:
    async def receive(message: InboundMessage, cursor: str | None = None) -> bool:
        raise MessageTooLong(len(message.text), 3)

    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda *, task_status: channel.run(receive, task_status=task_status))
        with pytest.raises(MessageTooLong):
            await channel.say("main", "four", "m1")
        tasks.cancel_scope.cancel()
