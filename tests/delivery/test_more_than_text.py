"""Delivery of what is more than text: files, questions, edits, reactions; and chats that have moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from nanoclaw_core.errors import ChatMoved, Refused, TryLater
from nanoclaw_core.mailbox import NewOutbound
from nanoclaw_core.models import (
    Address,
    Capabilities,
    Choice,
    OutboundFile,
    OutboundKind,
    OutboundMessage,
    Question,
    Receipt,
)
from nanoclaw_core.testing import FakeChannel
from tests.delivery.office import Post, post
from tests.house import CHAT, House

ABLE = Capabilities(max_file_size=1000, max_caption=64, files_at_once=2)
NEW = replace(CHAT, chat="new")


class PlainChannel:
    """A channel that can do nothing but send."""

    def __init__(self) -> None:
        self.capabilities = Capabilities()
        self.name = "fake"
        self.fake = FakeChannel()

    async def run(self, receive: object, *, task_status: object) -> None: ...

    async def send(self, message: OutboundMessage) -> Receipt:
        return await self.fake.send(message)


class SlowChannel(FakeChannel):
    """Shows an answer only when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.go = anyio.Event()

    async def answered(self, to: Address, message_id: str, text: str) -> None:
        await self.go.wait()
        await super().answered(to, message_id, text)


def file(house: House, name: str, size: int = 3) -> OutboundFile:
    path = Path("outbox") / name
    (house.mailbox.folder / path).parent.mkdir(exist_ok=True)
    (house.mailbox.folder / path).write_bytes(b"x" * size)
    return OutboundFile(name=name, path=path, size=size)


async def put(office: Post, row: NewOutbound, key: str = "k") -> None:
    await office.house.mailbox.add_outbound(key, row)
    office.delivery.wake(office.house.session.id)


def shown(channel: FakeChannel) -> list[tuple[str, list[str]]]:
    return [(message.text, [file.name for file in message.files]) for message in channel.outbox]


async def decided(channel: FakeChannel) -> None:
    """Wait until an answer is shown."""
    while not channel.decisions:
        await checkpoint()


async def test_a_file_goes_with_a_short_text_and_after_a_long_one(house: House) -> None:
    channel = FakeChannel(capabilities=ABLE)
    async with post(house, channel) as office:
        await put(office, NewOutbound(to=CHAT, text="Here it is", files=(file(house, "a.txt"),)), "short")
        await put(office, NewOutbound(to=CHAT, text="word " * 20, files=(file(house, "b.txt"),)), "long")
        await office.until_nothing_is_due()
    assert shown(channel) == [("Here it is", ["a.txt"]), (("word " * 20).strip(), []), ("", ["b.txt"])]
    assert channel.contents == [("a.txt", b"xxx"), ("b.txt", b"xxx")]
    assert list((house.mailbox.folder / "outbox").iterdir()) == []


async def test_many_files_go_in_as_few_messages_as_the_platform_allows(house: House) -> None:
    channel = FakeChannel(capabilities=ABLE)
    files = tuple(file(house, f"{number}.txt") for number in range(5))
    async with post(house, channel) as office:
        await put(office, NewOutbound(to=CHAT, text="All of them", files=files))
        await office.until_nothing_is_due()
    assert [names for _, names in shown(channel)] == [[], ["0.txt", "1.txt"], ["2.txt", "3.txt"], ["4.txt"]]


async def test_a_file_that_the_platform_does_not_take_is_named_in_the_text(house: House) -> None:
    channel = FakeChannel(capabilities=replace(ABLE, max_caption=500))
    async with post(house, channel) as office:
        files = (file(house, "big.iso", 2000), file(house, "small.txt"))
        await put(office, NewOutbound(to=CHAT, text="Both", files=files))
        await office.until_nothing_is_due()
    ((text, names),) = shown(channel)
    assert "big.iso could not be sent" in text
    assert names == ["small.txt"]


async def test_a_channel_without_files_says_that_there_was_one(house: House) -> None:
    channel = FakeChannel()
    async with post(house, channel) as office:
        await put(office, NewOutbound(to=CHAT, text="", files=(file(house, "a.txt"),)))
        await office.until_nothing_is_due()
    assert shown(channel) == [("(The file a.txt could not be sent: this chat takes no files.)", [])]


async def test_a_question_has_a_button_for_each_choice(house: House) -> None:
    channel = FakeChannel()
    async with post(house, channel) as office:
        await put(office, NewOutbound(to=CHAT, text="Shall I?", choices=("Yes", "No")))
        await office.until_nothing_is_due()
    ((message, question),) = channel.questions
    choices = (Choice(id="1", label="Yes"), Choice(id="2", label="No"))
    assert question == Question(id=f"{house.session.id}:1", choices=choices)
    assert message.text == "Shall I?"
    assert len(question.id) <= 40


async def test_what_a_question_is_about_comes_before_it(house: House) -> None:
    channel = FakeChannel(capabilities=ABLE)
    async with post(house, channel) as office:
        await put(office, NewOutbound(to=CHAT, text="Shall I send it?", choices=("Yes", "No"), files=(file(house, "a.txt"),)))
        await office.until_nothing_is_due()
        row = await house.mailbox.outbound_row(1)
        assert row is not None
        await office.delivery.answered(house.session.id, row, "Yes")
        await decided(channel)
    assert shown(channel) == [("", ["a.txt"]), ("Shall I send it?", [])]
    ((message, _),) = channel.questions
    assert message.files == ()
    assert channel.decisions == [(CHAT, "sent-2", "Yes")]


async def test_a_channel_without_buttons_numbers_the_choices(house: House) -> None:
    channel = PlainChannel()
    async with post(house, channel) as office:  # type: ignore[arg-type]  # a channel with a name is enough
        await put(office, NewOutbound(to=CHAT, text="Shall I?", choices=("Yes", "No")))
        await office.until_nothing_is_due()
    assert channel.fake.outbox[0].text == "Shall I?\n\n1. Yes\n2. No\n\n(Answer with one of these.)"


async def test_an_answered_question_shows_its_answer(house: House) -> None:
    channel = FakeChannel()
    async with post(house, channel) as office:
        await put(office, NewOutbound(to=CHAT, text="Shall I?", choices=("Yes", "No")))
        await office.until_nothing_is_due()
        question = await house.mailbox.outbound_row(1)
        assert question is not None
        await office.delivery.answered(house.session.id, question, "Yes")
        await decided(channel)
    assert channel.decisions == [(CHAT, "sent-1", "Yes")]


async def test_nobody_waits_until_an_answer_is_shown(house: House) -> None:
    channel = SlowChannel()
    async with post(house, channel) as office:
        await put(office, NewOutbound(to=CHAT, text="Shall I?", choices=("Yes", "No")))
        await office.until_nothing_is_due()
        question = await house.mailbox.outbound_row(1)
        assert question is not None
        await office.delivery.answered(house.session.id, question, "Yes")
        assert channel.decisions == []
        channel.go.set()
        await decided(channel)


async def test_an_edit_changes_the_message_that_its_row_became(house: House) -> None:
    channel = FakeChannel()
    async with post(house, channel) as office:
        await put(office, NewOutbound(to=CHAT, text="teh answer"), "first")
        await put(office, NewOutbound(to=CHAT, text="the answer", kind=OutboundKind.EDIT, about="1"), "second")
        await office.until_nothing_is_due()
    assert channel.edits == [(CHAT, "sent-1", "the answer")]
    assert [message.text for message in channel.outbox] == ["teh answer"]


async def test_a_reaction_goes_under_the_message_it_is_about(house: House) -> None:
    channel = FakeChannel()
    async with post(house, channel) as office:
        await put(office, NewOutbound(to=CHAT, text="👍", kind=OutboundKind.REACTION, about="41"))
        await office.until_nothing_is_due()
    assert channel.reactions == [(CHAT, "41", "👍")]


async def test_an_edit_that_must_wait_is_tried_again(house: House) -> None:
    channel = FakeChannel()
    async with post(house, channel) as office:
        await put(office, NewOutbound(to=CHAT, text="one"), "first")
        await office.until_nothing_is_due()
        channel.fail_next(TryLater("slow down", after=5))
        await put(office, NewOutbound(to=CHAT, text="two", kind=OutboundKind.EDIT, about="1"), "second")
        await house.clock.asleep()
        await house.clock.advance(5)
        await office.until_nothing_is_due()
    assert channel.edits == [(CHAT, "sent-1", "two")]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (NewOutbound(to=CHAT, text="x", kind=OutboundKind.EDIT, about="77"), "not delivered"),
        (NewOutbound(to=CHAT, text="x", kind=OutboundKind.EDIT, about="../1"), "no such message"),
        (NewOutbound(to=CHAT, text="x" * 5000, kind=OutboundKind.EDIT, about="1"), "too long"),
        (NewOutbound(to=CHAT, text=" ", kind=OutboundKind.EDIT, about="1"), "empty"),
    ],
    ids=["never sent", "no number", "too long", "empty"],
)
async def test_an_edit_that_cannot_be_made_is_told_to_the_agent(house: House, row: NewOutbound, reason: str) -> None:
    channel = FakeChannel()
    async with post(house, channel) as office:
        await put(office, NewOutbound(to=CHAT, text="one"), "first")
        await put(office, row, "second")
        await office.until_nothing_is_due()
    assert [reason in each.reason for each in await house.mailbox.untold()] == [True]
    assert channel.edits == []


async def test_what_a_channel_cannot_do_is_told_to_the_agent(house: House) -> None:
    async with post(house, PlainChannel()) as office:  # type: ignore[arg-type]  # as above
        await put(office, NewOutbound(to=CHAT, text="👍", kind=OutboundKind.REACTION, about="41"), "one")
        await put(office, NewOutbound(to=CHAT, text="x", kind=OutboundKind.EDIT, about="1"), "two")
        await office.until_nothing_is_due()
    reasons = [each.reason for each in await house.mailbox.untold()]
    assert reasons == ["the channel fake has no reactions", "the channel fake cannot change what was sent"]


@pytest.mark.parametrize("kind", [OutboundKind.MESSAGE, OutboundKind.REACTION])
async def test_what_goes_to_a_chat_that_has_moved_follows_it(house: House, kind: OutboundKind) -> None:
    channel = FakeChannel()
    channel.fail_next(ChatMoved("new"))
    async with post(house, channel) as office:
        await put(office, NewOutbound(to=CHAT, text="👍", kind=kind, about="41"))
        await office.until_nothing_is_due()
    reached: list[Address] = [message.to for message in channel.outbox] + [to for to, _, _ in channel.reactions]
    assert (reached, office.moves) == ([NEW], [(CHAT, "new")])


async def test_a_chat_that_moves_on_and_on_is_given_up(house: House) -> None:
    channel = FakeChannel()
    channel.fail_next(ChatMoved("new"), ChatMoved("newer"), Refused("and the notice, too"))
    async with post(house, channel) as office:
        await put(office, NewOutbound(to=CHAT, text="hello"))
        await office.until_nothing_is_due()
    assert [each.reason for each in await house.mailbox.untold()] == ["the chat moved to new, and at once to newer"]
