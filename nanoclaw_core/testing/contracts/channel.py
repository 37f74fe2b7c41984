"""The rules of the `Channel` port, one capability after the other."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import anyio
import pytest

from nanoclaw_core.delivery.split import split
from nanoclaw_core.errors import MessageTooLong, OutcomeUnknown, Refused, TryLater
from nanoclaw_core.models import (
    Address,
    Choice,
    InboundKind,
    Missed,
    OutboundFile,
    OutboundMessage,
    Progress,
    Question,
    Receipt,
)
from nanoclaw_core.ports import (
    AskingChannel,
    Channel,
    ChannelContext,
    EditingChannel,
    FetchingChannel,
    ReactingChannel,
    SettlingChannel,
    StreamingChannel,
    TypingChannel,
)
from nanoclaw_core.testing.contracts.belongings import Belongings
from nanoclaw_core.testing.contracts.inbox import Inbox, connected, eventually
from nanoclaw_core.testing.contracts.platform import Platform, Trouble
from nanoclaw_core.testing.contracts.report import capability, not_claimed

_numbers = count(1)
_EMOJI = "a\u200bb \U0001f469\u200d\U0001f469\u200d\U0001f467 \U0001f1e9\U0001f1ea"


@pytest.mark.anyio
class ChannelContract:
    """Inherit, name the class Test…, and supply the fixture `platform` and the method `make_channel`.

    What a channel says that it can do, by a Protocol or in its `Capabilities`, its platform must be able to show: otherwise the
    test fails. What it does not say is reported as not claimed.
    """

    @pytest.fixture
    def platform(self) -> Platform:
        raise NotImplementedError("a fixture `platform` that returns the stand-in for the platform's servers")

    def make_channel(self, platform: Any, context: ChannelContext) -> Channel:  # Any: the author's own `Platform`
        """The channel under test, as its factory makes it; called again where a test needs another life of it."""
        raise NotImplementedError("a method `make_channel` that returns the channel under test")

    @pytest.fixture
    def inbox(self, platform: Platform) -> Inbox:
        return Inbox(platform.present)

    @pytest.fixture
    async def channel(self, platform: Platform, inbox: Inbox) -> Channel:
        """Made where an event loop runs, as the host does it."""
        return self.make_channel(platform, inbox.context())

    # --- receiving --------------------------------------------------------------------------------------------------------

    @capability("receive")
    async def test_what_a_person_writes_is_received_unchanged(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        text = "Grüße, שלום, 👋🏽\n/not a command <b>&amp;</b>"
        async with connected(channel, inbox):
            await platform.say(text)
            (message,) = await inbox.received(1)
        assert message.text == text

    @capability("receive")
    async def test_a_message_says_where_it_is_from(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        async with connected(channel, inbox):
            await platform.say("hello")
            (message,) = await inbox.received(1)
        assert all((message.address.channel, message.message_id, message.sender.handle))
        assert message.address.chat == platform.chat
        assert not message.sender.is_own
        assert not message.is_group

    @capability("receive")
    async def test_messages_are_received_in_order(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        async with connected(channel, inbox):
            for number in range(5):
                await platform.say(f"number {number}")
            messages = await inbox.received(5)
        assert [message.text for message in messages] == [f"number {number}" for number in range(5)]
        assert len({message.message_id for message in messages}) == 5

    @capability("receive")
    async def test_a_repeated_message_keeps_its_id(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        async with connected(channel, inbox):
            for text in ("once", "once", "twice"):
                await platform.say(text, message_id="41" if text == "once" else "42")
            messages = await inbox.received(2)
        assert [message.text for message in messages] == ["once", "twice"]

    @capability("receive")
    async def test_a_message_that_is_too_long_does_not_stop_the_channel(
        self, channel: Channel, platform: Platform, inbox: Inbox
    ) -> None:
        inbox.too_long.add("a whole book")
        async with connected(channel, inbox):
            with suppress(MessageTooLong):  # a platform in this process hears of it directly
                await platform.say("a whole book")
            await platform.say("a short note")
            (message,) = await inbox.received(1)
        assert message.text == "a short note"

    @capability("restart")
    async def test_it_can_run_again_after_it_was_cancelled(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        for number, text in enumerate(("before", "after"), 1):
            async with connected(channel, inbox):
                await platform.say(text)
                messages = await inbox.received(number)
        assert [message.text for message in messages] == ["before", "after"]

    @capability("nothing is lost")
    async def test_a_message_that_the_host_died_on_comes_again(
        self, channel: Channel, platform: Platform, inbox: Inbox
    ) -> None:
        if channel.capabilities.missed is Missed.LOST:
            not_claimed("the channel documents that messages are lost (Capabilities.missed)")
        inbox.dying = True
        async with connected(channel, inbox), anyio.create_task_group() as tasks:
            tasks.start_soon(platform.say, "important")
            await inbox.arrived.wait()
            tasks.cancel_scope.cancel()
        inbox.dying = False
        async with connected(self.make_channel(platform, inbox.context()), inbox):
            (message,) = await inbox.received(1)
        assert message.text == "important"

    @capability("nothing is lost")
    async def test_what_is_written_while_no_host_runs_is_received_once(
        self, channel: Channel, platform: Platform, inbox: Inbox
    ) -> None:
        if channel.capabilities.missed is Missed.LOST:
            not_claimed("the channel documents that messages are lost (Capabilities.missed)")
        async with connected(channel, inbox):
            await platform.say("before")
            await inbox.received(1)
        await platform.say("meanwhile")
        async with connected(self.make_channel(platform, inbox.context()), inbox):
            await platform.say("after")
            messages = await inbox.received(3)
        assert [message.text for message in messages] == ["before", "meanwhile", "after"]

    @capability("groups")
    async def test_groups_and_mentions_are_what_the_platform_says(
        self, channel: Channel, platform: Platform, inbox: Inbox
    ) -> None:
        self._need(platform, "say_in_group")
        async with connected(channel, inbox):
            await platform.say_in_group("good morning", mention=False)
            await platform.say_in_group("good morning to you", mention=True)
            first, second = await inbox.received(2)
        assert (first.is_group, first.is_mention) == (True, False)
        assert (second.is_group, second.is_mention) == (True, True)

    @capability("own echoes")
    async def test_its_own_messages_are_marked_or_dropped(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        self._need(platform, "echo")
        async with connected(channel, inbox):
            await platform.echo("I said this myself")
            await platform.say("and I this")
            (message,) = await inbox.received(1)
        assert message.text == "and I this"

    @capability("replies")
    async def test_an_answer_to_a_message_says_to_which(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        self._need(platform, "reply")
        async with connected(channel, inbox):
            receipt = await channel.send(self._message(platform, "a question"))
            await platform.reply("an answer", receipt.message_id)
            (message,) = await inbox.received(1)
        assert message.reply_to is not None
        assert message.reply_to.message_id == receipt.message_id
        assert message.is_mention

    # --- sending ----------------------------------------------------------------------------------------------------------

    @capability("send")
    async def test_each_part_that_is_sent_has_a_receipt_of_its_own(
        self, channel: Channel, platform: Platform, inbox: Inbox
    ) -> None:
        async with connected(channel, inbox):
            receipts = [await channel.send(self._message(platform, f"part {number}")) for number in (1, 2)]
            await eventually(lambda: len(platform.messages) == 2)
        assert [message.text for message in platform.messages] == ["part 1", "part 2"]
        assert [message.id for message in platform.messages] == [receipt.message_id for receipt in receipts]
        assert len({receipt.message_id for receipt in receipts} - {""}) == 2

    @capability("send")
    async def test_a_part_of_the_greatest_length_goes_out_whole(
        self, channel: Channel, platform: Platform, inbox: Inbox
    ) -> None:
        text = "x" * channel.capabilities.max_length
        async with connected(channel, inbox):
            await channel.send(self._message(platform, text))
            await eventually(lambda: platform.messages)
        assert platform.messages[0].text == text

    @capability("send")
    async def test_a_long_answer_in_parts_loses_no_word(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        able = channel.capabilities
        words = [f"word-{number}" for number in range(min(able.max_length * 3 // 10, 4000))]
        middle = len(words) // 2
        text = f"# Title\n\n{' '.join(words[:middle])}\n\n```python\n{chr(10).join(words[middle:])}\n```\n"
        parts = split(text, able.max_length, able.length_unit)
        async with connected(channel, inbox):
            for part in parts:
                await self._send(channel, self._message(platform, part))
            await eventually(lambda: len(platform.messages) == len(parts))
        assert re.findall(r"word-\d+", "\n".join(message.text for message in platform.messages)) == words

    @capability("send")
    async def test_a_text_that_looks_like_markup_and_is_none_arrives(
        self, channel: Channel, platform: Platform, inbox: Inbox
    ) -> None:
        texts = [
            "**bold",
            "[a](b",
            "`",
            "```",
            "_ * ~ | > # + - = { } . !",
            "<b>&lt;</i>",
            "a\u200bb 👩‍👩‍👧‍👦 \U0001f1e9\U0001f1ea",
        ]
        async with connected(channel, inbox):
            for text in texts:
                await self._send(channel, self._message(platform, f"begin {text} end"))
            await eventually(lambda: len(platform.messages) == len(texts))
        shown = [message.text for message in platform.messages]
        assert [text for text in shown if not (text.startswith("begin") and text.endswith("end"))] == []

    @capability("send")
    async def test_what_answers_a_message_is_shown_as_its_answer(
        self, channel: Channel, platform: Platform, inbox: Inbox
    ) -> None:
        self._need(platform, "reply")
        async with connected(channel, inbox):
            message_id = await platform.say("hello")
            await inbox.received(1)
            await channel.send(replace(self._message(platform, "hello yourself"), reply_to=message_id))
            await eventually(lambda: platform.messages)
        assert platform.messages[0].reply_to == message_id

    @capability("threads")
    async def test_a_thread_stays_a_thread(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        self._claimed(platform, channel.capabilities.threads, "Capabilities.threads", "say_in_thread")
        async with connected(channel, inbox):
            await platform.say_in_thread("in here", "77")
            (message,) = await inbox.received(1)
            assert message.address.thread == "77"
            await channel.send(OutboundMessage(to=message.address, text="yes", key="k"))
            await eventually(lambda: platform.messages)
        assert platform.messages[0].thread == "77"

    @capability("typing")
    async def test_typing_is_shown(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        self._claimed(platform, isinstance(channel, TypingChannel), "typing", "typings")
        assert isinstance(channel, TypingChannel)
        async with connected(channel, inbox):
            address = await self._address(platform, inbox)
            await channel.typing(address, Progress(note="reading"))
            await eventually(lambda: platform.typings)

    @capability("settled")
    async def test_the_end_of_an_answer_can_be_shown(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        if not isinstance(channel, SettlingChannel):
            not_claimed("settled")
        assert isinstance(channel, SettlingChannel)
        async with connected(channel, inbox):
            address = await self._address(platform, inbox)
            await channel.settled(address, ("41",), "answered")

    # --- trouble ----------------------------------------------------------------------------------------------------------

    @capability("rate limits")
    async def test_a_rate_limit_delays_and_loses_nothing(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        self._need(platform, "limit")
        async with connected(channel, inbox):
            await platform.limit(0.2)
            message, pause = self._message(platform, "patience"), None
            try:
                await channel.send(message)
            except TryLater as later:
                pause = later.after
                assert platform.messages == [], "shown, and to be sent again"
                await self._send(channel, message)
            await eventually(lambda: platform.messages)
        assert [shown.text for shown in platform.messages] == ["patience"]
        assert pause is None or pause >= 0.2

    @capability("trouble")
    @pytest.mark.parametrize("kind", list(Trouble))
    async def test_trouble_neither_loses_nor_doubles_a_message(
        self, channel: Channel, platform: Platform, inbox: Inbox, kind: Trouble
    ) -> None:
        """The host sends again after `TryLater`, and after `OutcomeUnknown` only where the platform knows the key."""
        self._need(platform, "trouble")
        message = self._message(platform, "once")
        async with connected(channel, inbox):
            await platform.trouble(kind)
            try:
                await channel.send(message)
            except TryLater:
                assert platform.messages == [] or channel.capabilities.idempotent_send, "shown, and to be sent again"
                await self._send(channel, message)
            except OutcomeUnknown:
                if channel.capabilities.idempotent_send:
                    await self._send(channel, message)
            await self._send(channel, self._message(platform, "next"))
            await eventually(lambda: platform.messages and platform.messages[-1].text == "next")
        assert [shown.text for shown in platform.messages].count("once") <= 1
        if kind is Trouble.CUT_AFTER or channel.capabilities.idempotent_send:
            assert [shown.text for shown in platform.messages] == ["once", "next"]

    @capability("trouble")
    async def test_a_chat_that_is_closed_to_the_bot_is_refused(
        self, channel: Channel, platform: Platform, inbox: Inbox
    ) -> None:
        self._need(platform, "remove")
        async with connected(channel, inbox):
            await platform.remove()
            with pytest.raises(Refused):
                await channel.send(self._message(platform, "anybody there?"))

    @capability("reconnect")
    async def test_a_broken_connection_is_made_again(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        self._need(platform, "disconnect")
        async with connected(channel, inbox):
            await platform.say("one")
            await inbox.received(1)
            await platform.disconnect()
            await platform.say("two")
            messages = await inbox.received(2)
            await self._send(channel, self._message(platform, "three"))
        assert [message.text for message in messages] == ["one", "two"]
        assert [shown.text for shown in platform.messages] == ["three"]

    @capability("revoked")
    async def test_a_revoked_credential_ends_the_channel_for_good(
        self, channel: Channel, platform: Platform, inbox: Inbox
    ) -> None:
        self._need(platform, "revoke")
        async with connected(channel, inbox):
            await platform.revoke()
            await eventually(lambda: inbox.revoked)

    # --- more than text ---------------------------------------------------------------------------------------------------

    @capability("files in")
    async def test_a_file_that_a_person_sends_can_be_fetched(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        self._claimed(platform, isinstance(channel, FetchingChannel), "fetch", "send_file")
        assert isinstance(channel, FetchingChannel)
        content = os.urandom(100_000)
        async with connected(channel, inbox):
            await platform.send_file("notes.bin", content, "as promised")
            (message,) = await inbox.received(1)
            (file,) = message.files
            fetched = b"".join([chunk async for chunk in channel.fetch(file)])
        assert (file.name, message.text) == ("notes.bin", "as promised")
        assert file.size in (None, len(content))
        assert fetched == content

    @capability("files in")
    async def test_a_file_that_nobody_has_is_refused(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        self._claimed(platform, isinstance(channel, FetchingChannel), "fetch", "send_file")
        assert isinstance(channel, FetchingChannel)
        async with connected(channel, inbox):
            await platform.send_file("notes.bin", b"x", "as promised")
            (message,) = await inbox.received(1)
            gone = replace(message.files[0], reference="no-such-file")
            with pytest.raises((Refused, TryLater)):
                _ = [chunk async for chunk in channel.fetch(gone)]

    @capability("files out")
    async def test_files_are_sent_whole_with_their_names(
        self, channel: Channel, platform: Platform, inbox: Inbox, tmp_path: Path
    ) -> None:
        able = channel.capabilities
        if not able.max_file_size:
            not_claimed("Capabilities.max_file_size")
        files = [_file(tmp_path, f"report-{number}.pdf", os.urandom(50_000)) for number in range(able.files_at_once)]
        text = "Here they are." if able.max_caption >= len("Here they are.") else ""
        async with connected(channel, inbox):
            await channel.send(replace(self._message(platform, text), files=tuple(files)))
            await eventually(lambda: sum(len(shown.files) for shown in platform.messages) == len(files))
        sent = [file for shown in platform.messages for file in shown.files]
        assert sent == [(file.name, file.path.read_bytes()) for file in files]
        assert [shown.text for shown in platform.messages if shown.text] == ([text] if text else [])

    @capability("edits")
    async def test_an_edit_of_a_person_names_the_message(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        self._need(platform, "edit")
        async with connected(channel, inbox):
            message_id = await platform.say("teh")
            await platform.edit(message_id, "the")
            first, second = await inbox.received(2)
        assert (second.kind, second.about, second.text) == (InboundKind.EDIT, first.message_id, "the")

    @capability("edits")
    async def test_what_was_sent_can_be_changed(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        if not isinstance(channel, EditingChannel):
            not_claimed("edit")
        assert isinstance(channel, EditingChannel)
        async with connected(channel, inbox):
            message = self._message(platform, "teh")
            receipt = await channel.send(message)
            for _ in range(2):  # the same again is no error
                await channel.edit(message.to, receipt.message_id, "the")
            await eventually(lambda: platform.messages[0].text == "the")
        assert len(platform.messages) == 1

    @capability("reactions")
    async def test_a_reaction_of_a_person_names_the_message(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        self._need(platform, "react")
        async with connected(channel, inbox):
            receipt = await channel.send(self._message(platform, "Shall I?"))
            await platform.react(receipt.message_id, "👍")
            (message,) = await inbox.received(1)
        assert (message.kind, message.about, message.text) == (InboundKind.REACTION, receipt.message_id, "👍")

    @capability("reactions")
    async def test_an_emoji_can_be_put_under_a_message(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        self._claimed(platform, isinstance(channel, ReactingChannel), "react", "reactions")
        assert isinstance(channel, ReactingChannel)
        async with connected(channel, inbox):
            message_id = await platform.say("hello")
            (message,) = await inbox.received(1)
            await channel.react(message.address, message_id, "👍")
            await eventually(lambda: platform.reactions.get(message_id) == "👍")
            await channel.react(message.address, message_id, "")
            await eventually(lambda: not platform.reactions.get(message_id))

    @capability("buttons")
    async def test_a_button_decides_once(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        self._claimed(platform, isinstance(channel, AskingChannel), "ask", "press")
        assert isinstance(channel, AskingChannel)
        choices = tuple(Choice(id=str(number), label=f"{label} {'x' * 40}") for number, label in enumerate(["Yes", "No"], 1))
        question = Question(id="s" * 16 + ":" + "9" * 12, choices=choices)
        async with connected(channel, inbox):
            message = self._message(platform, "Shall I?")
            receipt = await channel.ask(message, question)
            assert platform.messages[0].buttons == tuple(choice.label for choice in choices)
            for choice in (choices[1], choices[0]):
                await platform.press(receipt.message_id, choice.label)
            await platform.say("done")
            messages = await inbox.received(2)
            await channel.answered(message.to, receipt.message_id, choices[1].label)
            await eventually(lambda: not platform.messages[0].buttons)
        answers = [each for each in messages if each.kind is InboundKind.ANSWER]
        assert [(each.about, each.text) for each in answers] == [(question.id, "2")]
        assert choices[1].label in platform.messages[0].text

    @capability("previews")
    async def test_a_preview_gives_way_to_the_answer(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        if not isinstance(channel, StreamingChannel):
            not_claimed("draft")
        assert isinstance(channel, StreamingChannel)
        async with connected(channel, inbox):
            message, shown = self._message(platform, "The answer is 42."), None
            for text in ("The", "The answer", "The answer is"):
                shown = await channel.draft(message.to, text, "turn-1", shown)
            await self._send(channel, replace(message, replaces=shown))
            await eventually(lambda: platform.messages and platform.messages[-1].text == message.text)
        assert [each.text for each in platform.messages] == [message.text]

    @capability("previews")
    async def test_a_preview_of_which_nothing_comes_is_taken_away(
        self, channel: Channel, platform: Platform, inbox: Inbox
    ) -> None:
        """And an answer that was to replace it arrives all the same."""
        if not isinstance(channel, StreamingChannel):
            not_claimed("draft")
        assert isinstance(channel, StreamingChannel)
        async with connected(channel, inbox):
            message = self._message(platform, "It is 42.")
            if (shown := await channel.draft(message.to, "A preview", "turn-1")) is not None:
                await channel.draft(message.to, "", "turn-1", shown)
                await eventually(lambda: all("preview" not in each.text for each in platform.messages))
                await self._send(channel, replace(message, replaces=shown))
                await eventually(lambda: platform.messages and platform.messages[-1].text == message.text)
        if shown is None:  # out here: what ends a test within a task group ends it as a failure
            not_claimed("previews that stay")

    # --- the end ----------------------------------------------------------------------------------------------------------

    @capability("clean end")
    async def test_nothing_is_left_when_it_is_cancelled(self, channel: Channel, platform: Platform, inbox: Inbox) -> None:
        before = Belongings()
        async with connected(channel, inbox):
            await platform.say("hello")
            await inbox.received(1)
            await channel.send(self._message(platform, "hello yourself"))
        await eventually(lambda: not Belongings().more_than(before))

    # --- what the tests share ---------------------------------------------------------------------------------------------

    def _need(self, platform: Platform, name: str) -> None:
        if not platform.can(name):
            not_claimed(f"the platform of this test has no `{name}`")

    def _claimed(self, platform: Platform, is_claimed: bool, claim: str, name: str) -> None:
        """Go on when the channel claims it, and its platform can show it."""
        if not is_claimed:
            not_claimed(claim)
        if not platform.can(name):
            pytest.fail(f"the channel has {claim}, but the platform of this test has no `{name}`")

    async def _address(self, platform: Platform, inbox: Inbox) -> Address:
        """The private chat, as the channel itself says it."""
        known = len(inbox.messages)
        await platform.say("I am here")
        return (await inbox.received(known + 1))[-1].address

    def _message(self, platform: Platform, text: str) -> OutboundMessage:
        to = Address(channel="under-test", chat=platform.chat)
        return OutboundMessage(to=to, text=text, key=f"contract-{next(_numbers)}")

    async def _send(self, channel: Channel, message: OutboundMessage) -> Receipt:
        """Send as the host does: again after the pause that the platform asks for."""
        while True:
            try:
                return await channel.send(message)
            except TryLater as later:
                await anyio.sleep(min(later.after or 0.05, 5))


def _file(folder: Path, name: str, content: bytes) -> OutboundFile:
    (folder / name).write_bytes(content)
    return OutboundFile(name=name, path=folder / name, size=len(content), media_type="application/pdf")
