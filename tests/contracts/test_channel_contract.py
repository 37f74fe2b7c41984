"""The channel contract: a channel that keeps all of it passes, and each broken rule is found by the test of that rule."""

from __future__ import annotations

import json
import socket
import textwrap
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from nanoclaw_core import (
    Address,
    ChannelContext,
    ChannelRevoked,
    InboundFile,
    InboundKind,
    InboundMessage,
    Missed,
    OutboundMessage,
    OutcomeUnknown,
    Question,
    Receipt,
    Receive,
    Refused,
    TryLater,
)
from nanoclaw_core.testing import ChannelContract, Trouble
from nanoclaw_core.testing.contracts import Inbox
from tests.contracts.town import Town, TownChannel

pytest_plugins = ["pytester"]


class TestTown(ChannelContract):
    @pytest.fixture
    def platform(self) -> Town:
        return Town()

    def make_channel(self, platform: Town, context: ChannelContext) -> TownChannel:
        return TownChannel(platform, context)


class Inn(Town):
    """A platform on which nobody can be written to who is not there."""

    is_occupied = False

    @asynccontextmanager
    async def present(self) -> AsyncIterator[None]:
        self.is_occupied = True
        yield
        self.is_occupied = False

    def post(self, message: OutboundMessage) -> str:
        if not self.is_occupied:
            raise TryLater("nobody is there")
        return super().post(message)


class TestInn(ChannelContract):
    @pytest.fixture
    def platform(self) -> Inn:
        return Inn()

    def make_channel(self, platform: Inn, context: ChannelContext) -> TownChannel:
        return TownChannel(platform, context)


# --- channels that break a rule -------------------------------------------------------------------------------------------


class Shouting(TownChannel):
    async def take(self, receive: Receive, message: InboundMessage, cursor: str) -> None:
        await super().take(receive, replace(message, text=message.text.upper()), cursor)


class Renaming(TownChannel):
    """Gives a repeated message a new id."""

    async def take(self, receive: Receive, message: InboundMessage, cursor: str) -> None:
        await super().take(receive, replace(message, message_id=cursor), cursor)


class Hasty(TownChannel):
    """Confirms before the message is stored."""

    async def take(self, receive: Receive, message: InboundMessage, cursor: str) -> None:
        del self.town.updates[:-1]
        self.town.updates.clear()
        await receive(message)


class Forgetful(TownChannel):
    """Begins anew at each start, with what comes then."""

    async def run(self, receive: Receive, **started: Any) -> None:
        context = self.context

        async def latest() -> str:
            return str(len(self.town.updates))

        self.context = replace(context, cursor=latest)
        await super().run(receive, **started)


class Guessing(TownChannel):
    """Takes every chat for a private one, and every text with an @ for a mention."""

    async def take(self, receive: Receive, message: InboundMessage, cursor: str) -> None:
        await super().take(receive, replace(message, is_group=False, is_mention="@" in message.text), cursor)


class Echoing(TownChannel):
    async def take(self, receive: Receive, message: InboundMessage, cursor: str) -> None:
        await super().take(receive, replace(message, sender=replace(message.sender, is_own=False)), cursor)


class Unquoting(TownChannel):
    async def take(self, receive: Receive, message: InboundMessage, cursor: str) -> None:
        await super().take(receive, replace(message, reply_to=None), cursor)

    async def send(self, message: OutboundMessage) -> Receipt:
        return await super().send(replace(message, reply_to=None))


class Nameless(TownChannel):
    async def send(self, message: OutboundMessage) -> Receipt:
        await super().send(message)
        return Receipt(message_id="")


class Cutting(TownChannel):
    async def send(self, message: OutboundMessage) -> Receipt:
        return await super().send(replace(message, text=message.text[:400]))


class Flat(TownChannel):
    async def send(self, message: OutboundMessage) -> Receipt:
        return await super().send(replace(message, to=replace(message.to, thread=None)))


class Still(TownChannel):
    async def typing(self, *_: object) -> None:
        pass


class Impatient(TownChannel):
    """Drops what is limited."""

    async def send(self, message: OutboundMessage) -> Receipt:
        try:
            return await super().send(message)
        except TryLater:
            return Receipt(message_id="x")


class Doubling(TownChannel):
    """Says of a message that perhaps arrived that it did not."""

    async def send(self, message: OutboundMessage) -> Receipt:
        try:
            return await super().send(message)
        except OutcomeUnknown as error:
            raise TryLater(str(error)) from error


class Stubborn(TownChannel):
    async def send(self, message: OutboundMessage) -> Receipt:
        try:
            return await super().send(message)
        except Refused as error:
            raise TryLater(str(error)) from error


class Sleeping(TownChannel):
    """Does not notice that its connection broke."""

    async def run(self, receive: Receive, **started: Any) -> None:
        try:
            await super().run(receive, **started)
        except ConnectionError:
            await anyio.sleep_forever()


class Hopeful(TownChannel):
    """Takes a revoked key for a hiccup."""

    async def run(self, receive: Receive, **started: Any) -> None:
        try:
            await super().run(receive, **started)
        except ChannelRevoked:
            await anyio.sleep_forever()


class Truncating(TownChannel):
    async def fetch(self, file: InboundFile) -> AsyncIterator[bytes]:
        async for chunk in super().fetch(file):
            yield chunk[:1000]

    async def send(self, message: OutboundMessage) -> Receipt:
        return await super().send(replace(message, files=message.files[:1]))


class Generous(TownChannel):
    """Gives nothing for a file that is not there."""

    async def fetch(self, file: InboundFile) -> AsyncIterator[bytes]:
        yield self.town.kept.get(file.reference, b"")


class Overwriting(TownChannel):
    """Takes edits for new messages, and sends its own edits as such."""

    async def take(self, receive: Receive, message: InboundMessage, cursor: str) -> None:
        kind = InboundKind.MESSAGE if message.kind is InboundKind.EDIT else message.kind
        await super().take(receive, replace(message, kind=kind), cursor)

    async def edit(self, to: Address, message_id: str, text: str) -> None:
        await self.send(OutboundMessage(to=to, text=text, key="k"))


class Numb(TownChannel):
    async def take(self, receive: Receive, message: InboundMessage, cursor: str) -> None:
        await super().take(receive, replace(message, about=None), cursor)

    async def react(self, to: Address, message_id: str, emoji: str) -> None:
        self.town.emoji[message_id] = "👍"


class Undecided(TownChannel):
    """Lets each press of a button be an answer of its own, and never takes the buttons away."""

    async def take(self, receive: Receive, message: InboundMessage, cursor: str) -> None:
        about = f"{message.about}:{cursor}" if message.kind is InboundKind.ANSWER else message.about
        await super().take(receive, replace(message, about=about), cursor)


class Buttonless(TownChannel):
    async def ask(self, message: OutboundMessage, question: Question) -> Receipt:
        return await self.send(message)


class Piling(TownChannel):
    async def send(self, message: OutboundMessage) -> Receipt:
        return await super().send(replace(message, replaces=None))


class Lingering(TownChannel):
    """Leaves a preview of which nothing came where it is."""

    async def draft(self, to: Address, text: str, key: str, message_id: str | None = None) -> str | None:
        return await super().draft(to, text, key, message_id) if text else message_id


class Attached(TownChannel):
    """Does not answer where the preview is gone."""

    async def send(self, message: OutboundMessage) -> Receipt:
        if message.replaces is not None and message.replaces not in self.town.shown:
            raise Refused("there is no such message")
        return await super().send(message)


LEFT: list[socket.socket] = []


class Leaving(TownChannel):
    """Leaves a socket behind."""

    async def send(self, message: OutboundMessage) -> Receipt:
        LEFT.append(socket.socket())
        return await super().send(message)


BROKEN: list[tuple[type[TownChannel], str]] = [
    (Shouting, "test_what_a_person_writes_is_received_unchanged"),
    (Renaming, "test_a_repeated_message_keeps_its_id"),
    (Hasty, "test_a_message_that_the_host_died_on_comes_again"),
    (Forgetful, "test_what_is_written_while_no_host_runs_is_received_once"),
    (Guessing, "test_groups_and_mentions_are_what_the_platform_says"),
    (Echoing, "test_its_own_messages_are_marked_or_dropped"),
    (Unquoting, "test_an_answer_to_a_message_says_to_which"),
    (Unquoting, "test_what_answers_a_message_is_shown_as_its_answer"),
    (Nameless, "test_each_part_that_is_sent_has_a_receipt_of_its_own"),
    (Cutting, "test_a_part_of_the_greatest_length_goes_out_whole"),
    (Cutting, "test_a_long_answer_in_parts_loses_no_word"),
    (Flat, "test_a_thread_stays_a_thread"),
    (Still, "test_typing_is_shown"),
    (Impatient, "test_a_rate_limit_delays_and_loses_nothing"),
    (Stubborn, "test_a_chat_that_is_closed_to_the_bot_is_refused"),
    (Sleeping, "test_a_broken_connection_is_made_again"),
    (Hopeful, "test_a_revoked_credential_ends_the_channel_for_good"),
    (Truncating, "test_a_file_that_a_person_sends_can_be_fetched"),
    (Truncating, "test_files_are_sent_whole_with_their_names"),
    (Generous, "test_a_file_that_nobody_has_is_refused"),
    (Overwriting, "test_an_edit_of_a_person_names_the_message"),
    (Overwriting, "test_what_was_sent_can_be_changed"),
    (Numb, "test_a_reaction_of_a_person_names_the_message"),
    (Numb, "test_an_emoji_can_be_put_under_a_message"),
    (Undecided, "test_a_button_decides_once"),
    (Buttonless, "test_a_button_decides_once"),
    (Piling, "test_a_preview_gives_way_to_the_answer"),
    (Lingering, "test_a_preview_of_which_nothing_comes_is_taken_away"),
    (Attached, "test_a_preview_of_which_nothing_comes_is_taken_away"),
    (Leaving, "test_nothing_is_left_when_it_is_cancelled"),
]


async def judge(channel_class: type[TownChannel], test: str, **more: Any) -> None:
    """Run one test of the contract."""
    town, inbox = Town(), Inbox()

    class Contract(ChannelContract):
        def make_channel(self, platform: Any, context: ChannelContext) -> TownChannel:
            return channel_class(platform, context)

    contract = Contract()
    await getattr(contract, test)(contract.make_channel(town, inbox.context()), town, inbox, **more)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanoclaw_core.testing.contracts.inbox.PATIENCE", 0.3)


@pytest.mark.parametrize(("channel_class", "test"), BROKEN, ids=[f"{one.__name__}-{test[5:30]}" for one, test in BROKEN])
@pytest.mark.usefixtures("impatient")
async def test_a_broken_rule_is_found(channel_class: type[TownChannel], test: str, tmp_path: Path) -> None:
    more = {"tmp_path": tmp_path} if "files_are_sent" in test else {}
    with pytest.raises((Exception, BaseExceptionGroup)) as caught:
        await judge(channel_class, test, **more)
    while LEFT:
        LEFT.pop().close()
    assert not isinstance(caught.value, pytest.skip.Exception)


@pytest.mark.usefixtures("impatient")
async def test_a_message_that_would_be_doubled_is_found() -> None:
    with pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="to be sent again"), flatten_subgroups=True):
        await judge(Doubling, "test_trouble_neither_loses_nor_doubles_a_message", kind=Trouble.CUT_AFTER)


async def test_a_documented_loss_is_not_claimed() -> None:
    class Lossy(Hasty):
        capabilities = replace(TownChannel.capabilities, missed=Missed.LOST)

    with pytest.raises(pytest.skip.Exception, match="not claimed: the channel documents"):
        await judge(Lossy, "test_a_message_that_the_host_died_on_comes_again")


async def test_a_claim_that_the_platform_cannot_show_fails() -> None:
    class Hamlet(Town):
        send_file = Town.__mro__[1].send_file  # type: ignore[attr-defined]  # as if it were not overridden

    class Contract(ChannelContract):
        def make_channel(self, platform: Any, context: ChannelContext) -> TownChannel:
            return TownChannel(platform, context)

    town, inbox = Hamlet(), Inbox()
    with pytest.raises(pytest.fail.Exception, match="no `send_file`"):
        await Contract().test_a_file_that_a_person_sends_can_be_fetched(TownChannel(town, inbox.context()), town, inbox)


# --- the report -----------------------------------------------------------------------------------------------------------

_PLAIN: Callable[[str], str] = textwrap.dedent
_SMALL = '''
    import pytest
    from nanoclaw_core import Capabilities, OutboundMessage, Receipt
    from nanoclaw_core.testing import ChannelContract, FakeChannel, Platform, Shown


    class Room(Platform):
        def __init__(self):
            self.channel = FakeChannel(capabilities=Capabilities(max_length=200))

        @property
        def messages(self):
            return [Shown(id=f"sent-{n}", text=each.text) for n, each in enumerate(self.channel.outbox, 1)]

        async def say(self, text, *, message_id=None):
            return await self.channel.say(text, message_id=message_id)


    class Plain:
        """Nothing but what every channel has, and it shouts."""

        def __init__(self, fake):
            self.fake, self.capabilities = fake, fake.capabilities

        async def run(self, receive, *, task_status):
            await self.fake.run(receive, task_status=task_status)

        async def send(self, message):
            from dataclasses import replace
            return await self.fake.send(replace(message, text=message.text.upper()))


    class TestRoom(ChannelContract):
        @pytest.fixture
        def platform(self):
            return Room()

        def make_channel(self, platform, context):
            return Plain(platform.channel)
'''


def test_a_report_says_of_each_capability_whether_it_passed_failed_or_is_not_claimed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_room=_PLAIN(_SMALL))
    result = pytester.runpytest_subprocess("-q", "-p", "no:cacheprovider", "--nanoclaw-report=report.json")
    report = json.loads((pytester.path / "report.json").read_text())["test_room.py::TestRoom"]
    words = {name: found["outcome"] for name, found in report.items()}
    assert result.ret == 1
    assert words["receive"] == "pass"
    assert words["send"] == "fail"
    assert words["files in"] == words["nothing is lost"] == words["buttons"] == "not claimed"
    assert report["files in"]["notes"] == ["fetch"]
    assert "test_each_part" in report["send"]["notes"][0]
