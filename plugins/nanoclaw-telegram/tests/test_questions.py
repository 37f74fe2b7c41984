"""A question with buttons is decided once, and whoever presses is told."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from nanoclaw_core import Address, Choice, OutboundMessage, Question, Refused
from nanoclaw_telegram.channel import TelegramChannel
from tests.peers.host import Host
from tests.peers.telegram import Refusal, TelegramPeer
from tests.peers.telegram_chats import BEN, BOT, FAMILY, Json

GROUP = Address(channel="telegram", chat=str(FAMILY["id"]))
ASKED = OutboundMessage(to=GROUP, text="May I *really*?", key="s:1:0")
QUESTION = Question(id="approval-12", choices=(Choice(id="yes", label="Yes"), Choice(id="no", label="No")))


def shown(platform: TelegramPeer, message_id: str) -> Json:
    return platform.chats.messages[FAMILY["id"], int(message_id)]


def labels(message: Json) -> list[list[str]]:
    return [[button["text"] for button in row] for row in message["reply_markup"]["inline_keyboard"]]


async def test_a_question_is_answered_by_a_button(platform: TelegramPeer, host: Host, telegram: TelegramChannel) -> None:
    receipt = await telegram.ask(ASKED, QUESTION)
    message = shown(platform, receipt.message_id)
    assert (message["text"], labels(message)) == ("May I really?", [["Yes", "No"]])
    async with host.running(telegram):
        query = platform.press(message, "approval-12:yes", sender=BEN)
        (answer,) = await host.received()
        await platform.wait_for(lambda: platform.chats.answers[query])
    assert (answer.about, answer.text, answer.sender.name, answer.address) == ("approval-12", "yes", "Ben", GROUP)
    assert abs(answer.sent_at - time.time()) < 60


async def test_only_the_first_press_counts_and_the_second_is_told(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel
) -> None:
    receipt = await telegram.ask(ASKED, QUESTION)
    message = shown(platform, receipt.message_id)
    async with host.running(telegram):
        queries = [platform.press(message, f"approval-12:{choice}") for choice in ("yes", "no")]
        await platform.wait_for(lambda: all(platform.chats.answers[query] for query in queries))
    assert len(host.messages) == 1
    said = [(platform.chats.answers[query] or {}).get("text") for query in queries]
    assert said == [None, "This was answered already."]


async def test_a_button_that_nobody_knows_is_told(platform: TelegramPeer, host: Host, telegram: TelegramChannel) -> None:
    async with host.running(telegram):
        query = platform.press(platform.chats.add(FAMILY, sender=BOT, text="old"), "something")
        await platform.wait_for(lambda: platform.chats.answers[query])
    assert host.messages == []
    assert "not in use" in (platform.chats.answers[query] or {})["text"]


async def test_a_press_that_telegram_has_given_up_stops_nothing(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel
) -> None:
    platform.script("answerCallbackQuery", Refusal(code=400, description="Bad Request: query is too old"))
    buttons = {"inline_keyboard": [[{"text": "Yes", "callback_data": "q:yes"}]]}
    async with host.running(telegram):
        platform.press(platform.say("old", chat=FAMILY, reply_markup=buttons), "q:yes")
        platform.say("hello")
        assert len(await host.received(3)) == 3


async def test_an_answered_question_shows_the_answer_in_place_of_its_buttons(
    platform: TelegramPeer, telegram: TelegramChannel
) -> None:
    receipt = await telegram.ask(ASKED, QUESTION)
    await telegram.answered(GROUP, receipt.message_id, "✓ Yes (Ben)")
    message = shown(platform, receipt.message_id)
    assert message["text"] == "May I really?\n\n✓ Yes (Ben)"
    assert [mark["type"] for mark in message["entities"]] == ["italic"]
    assert "reply_markup" not in message
    await telegram.answered(GROUP, receipt.message_id, "✓ Yes (Ben)")  # again is fine


async def test_a_question_of_an_earlier_host_is_known_again_when_its_button_is_pressed(
    platform: TelegramPeer, host: Host, settings: dict[str, str]
) -> None:
    receipt = await TelegramChannel(host.context(settings)).ask(ASKED, QUESTION)
    later = TelegramChannel(host.context(settings))
    async with host.running(later):
        platform.press(shown(platform, receipt.message_id), "approval-12:yes")
        await host.received()
        await platform.confirmed()
        await later.answered(GROUP, receipt.message_id, "✓ Yes")
    assert shown(platform, receipt.message_id)["text"] == "May I really?\n\n✓ Yes"


async def test_a_question_that_is_not_known_any_more_loses_its_buttons_and_is_answered(
    platform: TelegramPeer, host: Host, settings: dict[str, str]
) -> None:
    receipt = await TelegramChannel(host.context(settings)).ask(ASKED, QUESTION)
    later = TelegramChannel(host.context(settings))
    for _ in range(2):
        await later.answered(GROUP, receipt.message_id, "✓ Yes")
    assert "reply_markup" not in shown(platform, receipt.message_id)
    (answer,) = [data for data in platform.called("sendMessage") if data["text"] == "✓ Yes"]
    assert answer["reply_parameters"]["message_id"] == int(receipt.message_id)


async def test_a_question_takes_the_place_of_its_preview(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    preview = await telegram.draft(GROUP, "May", "key")
    receipt = await telegram.ask(replace(ASKED, replaces=preview), QUESTION)
    assert receipt.message_id == preview
    assert labels(shown(platform, receipt.message_id)) == [["Yes", "No"]]


async def test_long_labels_get_a_line_each(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    choices = (Choice(id="a", label="Allow it this once"), Choice(id="b", label="No"))
    receipt = await telegram.ask(ASKED, Question(id="q", choices=choices))
    assert labels(shown(platform, receipt.message_id)) == [["Allow it this once"], ["No"]]


async def test_the_longest_ids_fit_into_a_button(telegram: TelegramChannel) -> None:
    await telegram.ask(ASKED, Question(id="q" * 40, choices=(Choice(id="yyyy", label="Yes"),)))


async def test_a_question_in_a_closed_chat_is_refused(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    platform.chats.kick(FAMILY)
    with pytest.raises(Refused):
        await telegram.ask(ASKED, QUESTION)
