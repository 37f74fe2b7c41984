"""What goes out, and what becomes of it when Telegram does not take it."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from nanoclaw_core import Address, ChatMoved, OutboundMessage, OutcomeUnknown, Progress, Refused, TryLater
from nanoclaw_core.testing import FakeClock
from nanoclaw_telegram.channel import TelegramChannel
from tests.peers.host import Host
from tests.peers.telegram import Drop, Garbage, Refusal, TelegramPeer
from tests.peers.telegram_chats import ADA, CLUB, FAMILY, FORUM, HOME, Json

PRIVATE = Address(channel="telegram", chat=str(HOME["id"]))
GROUP = Address(channel="telegram", chat=str(FAMILY["id"]))


def words(text: str, to: Address = PRIVATE, **more: Any) -> OutboundMessage:
    return OutboundMessage(to=to, text=text, key="s:1:0", **more)


def shown(platform: TelegramPeer, message_id: str, chat: Json = HOME) -> Json:
    """A message as people see it now."""
    return platform.chats.messages[chat["id"], int(message_id)]


# --- texts ----------------------------------------------------------------------------------------------------------------


async def test_markdown_becomes_entities_and_links_get_no_previews(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    receipt = await telegram.send(words("**Hello** [you](https://a.example)"))
    message = shown(platform, receipt.message_id)
    assert message["text"] == "Hello you"
    assert [mark["type"] for mark in message["entities"]] == ["bold", "text_link"]
    assert platform.called("sendMessage")[0]["link_preview_options"] == {"is_disabled": True}


async def test_what_telegram_cannot_show_is_sent_as_it_is(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    platform.script("sendMessage", Refusal(code=400, description="Bad Request: can't parse entities: no idea"))
    receipt = await telegram.send(words("**Hello**"))
    assert shown(platform, receipt.message_id)["text"] == "**Hello**"


async def test_a_full_part_of_signs_that_count_twice_goes_out_whole(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    receipt = await telegram.send(words("🤖" * 2048))
    assert shown(platform, receipt.message_id)["text"] == "🤖" * 2048


async def test_an_answer_answers_its_message_even_when_that_is_gone(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    asked = platform.say("Who?")
    receipt = await telegram.send(words("Me", reply_to=str(asked["message_id"])))
    assert shown(platform, receipt.message_id)["reply_to_message"]["text"] == "Who?"
    receipt = await telegram.send(words("Me", reply_to="99.edit1001"))
    assert "reply_to_message" not in shown(platform, receipt.message_id)


async def test_a_thread_is_answered_in_its_topic(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    platform.say("hi", chat=FORUM, message_thread_id=7, is_topic_message=True)
    topic = Address(channel="telegram", chat=str(FORUM["id"]), thread="7")
    receipt = await telegram.send(words("hello", topic))
    assert shown(platform, receipt.message_id, FORUM)["message_thread_id"] == 7
    await telegram.typing(topic, Progress(note="reading"))
    assert platform.chats.actions[0]["message_thread_id"] == "7"


async def test_sending_needs_no_running_channel_and_leaves_nothing_open(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel
) -> None:
    await telegram.send(words("before"))
    async with host.running(telegram):
        await telegram.send(words("during"))
    await telegram.send(words("after"))
    assert [data["text"] for data in platform.called("sendMessage")] == ["before", "during", "after"]


async def test_a_sender_outlives_a_channel_that_ends(platform: TelegramPeer, host: Host, telegram: TelegramChannel) -> None:
    held = platform.hold("sendMessage")
    async with anyio.create_task_group() as tasks:
        async with host.running(telegram):
            tasks.start_soon(telegram.send, words("hello"))
            await platform.sent(1)
        held.set()
    assert len(platform.chats.messages) == 1


# --- refusals and doubts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("close", "reason"), [("kick", "bot was kicked"), ("block", "blocked by the user"), ("delete", "Chat not found")]
)
async def test_a_chat_that_is_closed_refuses(
    platform: TelegramPeer, telegram: TelegramChannel, close: str, reason: str
) -> None:
    getattr(platform.chats, close)(FAMILY)
    with pytest.raises(Refused, match=reason):
        await telegram.send(words("hello", GROUP))


async def test_a_bot_that_is_removed_in_mid_answer_is_refused_the_rest(
    platform: TelegramPeer, telegram: TelegramChannel
) -> None:
    await telegram.send(words("part 1", GROUP))
    platform.chats.kick(FAMILY)
    with pytest.raises(Refused):
        await telegram.send(words("part 2", GROUP))


async def test_a_group_that_moved_says_where_to(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    new = platform.chats.upgrade(CLUB)
    with pytest.raises(ChatMoved) as raised:
        await telegram.send(words("hello", Address(channel="telegram", chat=str(CLUB["id"]))))
    assert raised.value.chat == str(new["id"])
    await telegram.send(words("hello", Address(channel="telegram", chat=raised.value.chat)))


@pytest.mark.parametrize("chat", ["", "chat-1", "4x2"])
async def test_a_chat_that_is_none_is_refused(telegram: TelegramChannel, chat: str) -> None:
    with pytest.raises(Refused, match="no chat on Telegram"):
        await telegram.send(words("hello", Address(channel="telegram", chat=chat)))


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (Refusal(code=500, description="Internal Server Error"), TryLater),
        (Refusal(code=502, description="Bad Gateway"), TryLater),
        (Garbage(status=502), TryLater),
        (Garbage(status=503), TryLater),
        (Refusal(code=401, description="Unauthorized"), TryLater),
        (Refusal(code=413, description="Request Entity Too Large"), Refused),
        (Garbage(status=413), Refused),
        (Refusal(code=404, description="Not Found: method not found"), Refused),
        (Garbage(effect=True), OutcomeUnknown),
        (Garbage(status=504, effect=True), OutcomeUnknown),
        (Garbage(body=b'{"ok":true}', effect=True), OutcomeUnknown),
        (Garbage(body=b'{"ok":false,"description":"no"}'), Refused),
        (Drop(), OutcomeUnknown),
        (Drop(effect=True), OutcomeUnknown),
    ],
)
async def test_what_became_of_a_message_is_told_as_exactly_as_it_is_known(
    platform: TelegramPeer, telegram: TelegramChannel, failure: Refusal | Garbage | Drop, error: type[Exception]
) -> None:
    platform.script("sendMessage", failure)
    with pytest.raises(error):
        await telegram.send(words("hello"))
    assert len(platform.called("sendMessage")) == 1


async def test_what_never_left_can_be_tried_again(host: Host, settings: dict[str, str]) -> None:
    settings["TELEGRAM_API_URL"] = "http://127.0.0.1:9"
    with pytest.raises(TryLater, match="cannot be reached"):
        await TelegramChannel(host.context(settings)).send(words("hello"))


async def test_a_token_that_is_none_lets_messages_wait(host: Host, settings: dict[str, str]) -> None:
    settings["TELEGRAM_BOT_TOKEN"] = "nonsense"
    with pytest.raises(TryLater, match="BotFather"):
        await TelegramChannel(host.context(settings)).send(words("hello"))


async def test_a_pause_that_telegram_asks_for_holds_up_one_chat(
    platform: TelegramPeer, host: Host, settings: dict[str, str], nanoclaw_clock: FakeClock
) -> None:
    telegram = TelegramChannel(host.context(settings, nanoclaw_clock))
    platform.script("sendMessage", Refusal(code=429, description="Too Many Requests: retry after 30", retry_after=30))
    for _ in range(2):  # the second time, nobody asks Telegram
        with pytest.raises(TryLater) as raised:
            await telegram.send(words("hello", GROUP))
        assert raised.value.after == pytest.approx(30)
    await telegram.send(words("hello"))
    assert len(platform.called("sendMessage")) == 2
    await nanoclaw_clock.advance(30)
    await telegram.send(words("hello", GROUP))


async def test_too_many_requests_without_a_pause_leave_that_to_the_host(
    platform: TelegramPeer, telegram: TelegramChannel
) -> None:
    platform.script("sendMessage", Refusal(code=429, description="Too Many Requests"))
    with pytest.raises(TryLater) as raised:
        await telegram.send(words("hello"))
    assert raised.value.after is None
    await telegram.send(words("hello"))


# --- changes --------------------------------------------------------------------------------------------------------------


async def test_an_edit_gives_a_message_another_text(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    receipt = await telegram.send(words("helo"))
    await telegram.edit(PRIVATE, receipt.message_id, "**hello**")
    assert shown(platform, receipt.message_id)["text"] == "hello"
    await telegram.edit(PRIVATE, receipt.message_id, "**hello**")  # the same again is fine


async def test_an_edit_of_what_is_not_the_bots_or_gone_is_refused(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    for message_id in (str(platform.say("mine")["message_id"]), "99", "nonsense"):
        with pytest.raises(Refused):
            await telegram.edit(PRIVATE, message_id, "yours")


async def test_an_edit_in_doubt_is_tried_again(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    receipt = await telegram.send(words("helo"))
    platform.script("editMessageText", Drop(effect=True))
    with pytest.raises(TryLater):
        await telegram.edit(PRIVATE, receipt.message_id, "hello")
    await telegram.edit(PRIVATE, receipt.message_id, "hello")


async def test_an_answer_takes_the_place_of_its_preview(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    preview = await telegram.draft(GROUP, "I th", "key")
    assert preview is not None
    receipt = await telegram.send(words("I *think*", GROUP, replaces=preview))
    assert receipt.message_id == preview
    assert shown(platform, preview, FAMILY)["text"] == "I think"
    assert len(platform.chats.messages) == 1


async def test_an_answer_whose_preview_is_gone_is_sent(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    receipt = await telegram.send(words("I think", GROUP, replaces="99"))
    assert shown(platform, receipt.message_id, FAMILY)["text"] == "I think"


async def test_the_bot_reacts_and_takes_it_back(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    said = platform.say("look")
    message_id, key = str(said["message_id"]), (HOME["id"], said["message_id"])
    await telegram.react(PRIVATE, message_id, "❤️")
    assert platform.chats.bot_reactions[key] == [{"type": "emoji", "emoji": "❤"}]
    await telegram.react(PRIVATE, message_id, "")
    assert platform.chats.bot_reactions[key] == []


async def test_an_emoji_that_bots_may_not_react_with_is_refused_with_those_they_may(telegram: TelegramChannel) -> None:
    with pytest.raises(Refused, match=r"only with .*👍"):
        await telegram.react(PRIVATE, "1", "🥨")


async def test_typing_is_shown(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    await telegram.typing(PRIVATE, Progress(note="reading"))
    assert platform.chats.actions[0]["action"] == "typing"


async def test_a_message_named_by_an_earlier_bot_is_found_by_its_number(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel
) -> None:
    host.cursor = "1:1001:0"
    receipt = await telegram.send(words("helo"))
    number, bot = receipt.message_id.split(".")
    assert bot == "bot1"
    await telegram.edit(PRIVATE, receipt.message_id, "hello")
    assert shown(platform, number)["text"] == "hello"


async def test_a_message_of_an_earlier_bot_is_not_taken_for_one_of_this_bots(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel
) -> None:
    host.cursor = "1:1001:0"
    receipt = await telegram.send(words("mine"))
    theirs = receipt.message_id.partition(".")[0]
    with pytest.raises(Refused, match="knows no message"):
        await telegram.edit(PRIVATE, theirs, "yours")
    answer = await telegram.send(words("hello", reply_to=theirs))
    assert "reply_to_message" not in shown(platform, answer.message_id.partition(".")[0])


async def test_a_message_of_a_person_can_be_answered_after_it_was_edited(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel
) -> None:
    said = platform.say("helo", sender=ADA)
    async with host.running(telegram):
        await host.received()
        platform.edit(said, text="hello")
        edit = (await host.received(2))[1]
        receipt = await telegram.send(words("Hello!", reply_to=edit.message_id))
    assert shown(platform, receipt.message_id)["reply_to_message"]["message_id"] == said["message_id"]
