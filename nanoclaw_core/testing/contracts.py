"""Contracts: what every implementation of a port must keep, as tests to inherit.

class TestTelegram(ChannelContract):
    @pytest.fixture
    def peer(self): ...         # a loopback stand-in for the platform

    @pytest.fixture
    def channel(self, peer): ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol

import anyio
import pytest

from nanoclaw_core.errors import MessageTooLong, ModelUnavailable, RuntimeUnavailable
from nanoclaw_core.models import Address, InboundMessage, OutboundMessage, Progress
from nanoclaw_core.ports import (
    Channel,
    Check,
    CheckContext,
    CheckResult,
    CheckStatus,
    Provider,
    Runtime,
    SettlingChannel,
    StreamingChannel,
    TypingChannel,
)
from nanoclaw_core.testing.clock import FakeClock

#: Seconds after which a test gives up on something that should take milliseconds.
_PATIENCE = 10


class ChannelPeer(Protocol):
    """The platform's end of a channel under test."""

    async def say(self, text: str, *, message_id: str | None = None) -> object:
        """Let a person write `text` in the one chat of the test, once the channel is connected."""

    async def sent(self, count: int) -> Sequence[OutboundMessage]:
        """Wait until the platform has `count` messages from the channel; return all. Only `text` and `to` are looked at."""


class Inbox:
    """The host's end: a `Receive` that stores what comes, and knows repeated ids."""

    def __init__(self) -> None:
        self.messages: list[InboundMessage] = []
        self.too_long: set[str] = set()
        self.cursor: str | None = None
        self._changed = anyio.Event()

    async def __call__(self, message: InboundMessage, cursor: str | None = None) -> bool:
        self.cursor = cursor or self.cursor
        if message.text in self.too_long:
            raise MessageTooLong(len(message.text), 1)
        if any(message.message_id == known.message_id for known in self.messages):
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


@asynccontextmanager
async def connected(channel: Channel, inbox: Inbox) -> AsyncIterator[None]:
    """Run `channel` until the block ends; ending must be quick."""
    with anyio.fail_after(_PATIENCE):
        async with anyio.create_task_group() as tasks:
            await tasks.start(lambda *, task_status: channel.run(inbox, task_status=task_status), name="channel under test")
            yield
            tasks.cancel_scope.cancel()


@pytest.mark.anyio
class ChannelContract:
    """The rules of the `Channel` port. Inherit, name the class Test…, and supply the fixtures `channel` and `peer`."""

    @pytest.fixture
    def channel(self) -> Channel:
        raise NotImplementedError("a fixture `channel` that returns the channel under test")

    @pytest.fixture
    def peer(self, channel: Channel) -> ChannelPeer:
        raise NotImplementedError("a fixture `peer` that returns its platform")

    @pytest.fixture
    def address(self) -> Address:
        """Where the contract sends to."""
        return Address(channel="fake", chat="chat-1")

    async def test_what_a_person_writes_is_received_unchanged(self, channel: Channel, peer: ChannelPeer) -> None:
        text = "Grüße, שלום, 👋🏽\n/not a command <b>&amp;</b>"
        inbox = Inbox()
        async with connected(channel, inbox):
            await peer.say(text)
            (message,) = await inbox.received(1)
        assert message.text == text

    async def test_a_message_says_where_it_is_from(self, channel: Channel, peer: ChannelPeer) -> None:
        inbox = Inbox()
        async with connected(channel, inbox):
            await peer.say("hello")
            (message,) = await inbox.received(1)
        assert all((message.address.channel, message.address.chat, message.message_id, message.sender.handle))
        assert not message.sender.is_own

    async def test_messages_are_received_in_order(self, channel: Channel, peer: ChannelPeer) -> None:
        inbox = Inbox()
        async with connected(channel, inbox):
            for number in range(5):
                await peer.say(f"number {number}")
            messages = await inbox.received(5)
        assert [message.text for message in messages] == [f"number {number}" for number in range(5)]
        assert len({message.message_id for message in messages}) == 5

    async def test_a_repeated_message_keeps_its_id(self, channel: Channel, peer: ChannelPeer) -> None:
        inbox = Inbox()
        async with connected(channel, inbox):
            for text in ("once", "once", "twice"):
                await peer.say(text, message_id="41" if text == "once" else "42")
            messages = await inbox.received(2)
        assert [message.text for message in messages] == ["once", "twice"]

    async def test_a_message_that_is_too_long_does_not_stop_the_channel(self, channel: Channel, peer: ChannelPeer) -> None:
        inbox = Inbox()
        inbox.too_long.add("a whole book")
        async with connected(channel, inbox):
            with suppress(MessageTooLong):  # a peer in this process hears of it directly
                await peer.say("a whole book")
            await peer.say("a short note")
            (message,) = await inbox.received(1)
        assert message.text == "a short note"

    async def test_it_can_run_again_after_it_was_cancelled(self, channel: Channel, peer: ChannelPeer) -> None:
        for text in ("before", "after"):
            inbox = Inbox()
            async with connected(channel, inbox):
                await peer.say(text)
                (message,) = await inbox.received(1)
            assert message.text == text

    async def test_each_part_that_is_sent_has_a_receipt_of_its_own(
        self, channel: Channel, peer: ChannelPeer, address: Address
    ) -> None:
        async with connected(channel, Inbox()):
            receipts = [
                await channel.send(OutboundMessage(to=address, text=f"part {number}", key=f"key-{number}")) for number in (1, 2)
            ]
            sent = await peer.sent(2)
        assert [message.text for message in sent] == ["part 1", "part 2"]
        assert len({receipt.message_id for receipt in receipts} - {""}) == 2

    async def test_a_part_of_the_greatest_length_goes_out_whole(
        self, channel: Channel, peer: ChannelPeer, address: Address
    ) -> None:
        text = "x" * channel.capabilities.max_length
        async with connected(channel, Inbox()):
            await channel.send(OutboundMessage(to=address, text=text, key="long"))
            (message,) = await peer.sent(1)
        assert message.text == text

    async def test_an_answer_takes_the_place_of_its_preview(self, channel: Channel, address: Address) -> None:
        """Where there are previews (`draft`): also when the preview is gone, and when nothing comes of it."""
        if isinstance(channel, StreamingChannel):
            async with connected(channel, Inbox()):
                for end in ("answered", "gone", "nothing"):
                    shown = await channel.draft(address, "Once", f"key-{end}")
                    shown = await channel.draft(address, "Once upon", f"key-{end}", shown)
                    if shown is not None and end != "answered":
                        await channel.draft(address, "", f"key-{end}", shown)
                    if end != "nothing":
                        answer = OutboundMessage(to=address, text="Once upon a time", key=end, replaces=shown)
                        assert (await channel.send(answer)).message_id

    async def test_what_else_it_can_do_works(self, channel: Channel, address: Address) -> None:
        """`typing` and `settled` are optional; those that are there must not fail for an ordinary chat."""
        async with connected(channel, Inbox()):
            if isinstance(channel, TypingChannel):
                await channel.typing(address, Progress(note="reading"))
            if isinstance(channel, SettlingChannel):
                await channel.settled(address, ("41",), "answered")


@pytest.mark.anyio
class CheckContract:
    """The rules of a `Check`. Inherit, name the class Test…, and supply the fixture `check`; perhaps `variables`, `context`."""

    @pytest.fixture
    def check(self) -> Check:
        raise NotImplementedError("a fixture `check` that returns the check under test")

    @pytest.fixture
    def variables(self) -> Mapping[str, str]:
        """What is set: a secret that no line may show."""
        return {"EXAMPLE_API_KEY": "sk-a-secret-of-the-contract"}

    @pytest.fixture
    def context(self, nanoclaw_home: Path, variables: Mapping[str, str]) -> CheckContext:
        """An empty home on a machine on which nothing answers."""
        return CheckContext(
            home=nanoclaw_home,
            variables=variables,
            plugins=(),
            fields=(),
            host=None,
            runtime=_no_runtime,
            provider=_no_provider,
            clock=FakeClock(),
        )

    async def test_every_line_says_something_and_nothing_twice(self, check: Check, context: CheckContext) -> None:
        lines = await _lines(check, context)
        assert all(line.name and line.reason for line in lines)
        assert len({(line.name, line.reason) for line in lines}) == len(lines)

    async def test_whatever_failed_comes_with_what_to_do(self, check: Check, context: CheckContext) -> None:
        assert [line.reason for line in await _lines(check, context) if line.status is CheckStatus.FAIL and not line.fix] == []

    async def test_no_line_shows_the_value_of_a_variable(
        self, check: Check, context: CheckContext, variables: Mapping[str, str]
    ) -> None:
        assert [value for value in variables.values() if value in repr(await _lines(check, context))] == []

    async def test_looking_changes_nothing(self, check: Check, context: CheckContext) -> None:
        before = _everything_below(context.home)
        await _lines(check, context)
        assert _everything_below(context.home) == before


async def _lines(check: Check, context: CheckContext) -> list[CheckResult]:
    with anyio.fail_after(check.time_limit):
        return [line async for line in check.run(context)]


def _everything_below(home: Path) -> dict[str, tuple[int, bytes]]:
    files = (path for path in home.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mode, path.read_bytes()) for path in files}


def _no_runtime() -> Runtime:
    raise RuntimeUnavailable("none", "this is a test")


def _no_provider() -> Provider:
    raise ModelUnavailable("this is a test")
