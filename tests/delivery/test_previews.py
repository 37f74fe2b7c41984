"""Previews of answers: what is shown, what is noted, and what takes their place."""

from __future__ import annotations

import anyio
import pytest

from nanoclaw_core.delivery import previews
from nanoclaw_core.delivery.previews import Previews
from nanoclaw_core.errors import OutcomeUnknown, Refused, TryLater
from nanoclaw_core.mailbox import NewRow
from nanoclaw_core.mailbox.records import NewOutbound
from nanoclaw_core.models import Capabilities, LengthUnit, Push, TurnEnd
from nanoclaw_core.testing import FakeChannel, FakeStreamingChannel
from tests.delivery.office import post
from tests.house import CHAT, House


async def a_turn_runs(house: House) -> None:
    row = NewRow(
        id="r1", address=CHAT, message_id="m1", sender_id="fake:ada", sender_name="Ada", text="six times seven?", sent_at=1.0
    )
    await house.mailbox.add_rows([row])
    await house.mailbox.record_push(Push(uuid="u1", text="…"), ["r1"], "w1")


async def it_ends(house: House, *texts: str) -> None:
    end = TurnEnd(id="w1-1", covered=("u1",), text="", conversation="")
    await house.mailbox.end_turn(end, [NewOutbound(to=CHAT, text=text) for text in texts], "answered")


def shown_by(channel: FakeChannel) -> Previews:
    return Previews({channel.name: channel})


async def test_each_preview_is_shown_in_place_of_the_one_before_and_noted(house: House) -> None:
    channel = FakeStreamingChannel()
    assert await shown_by(channel).show(house.mailbox, CHAT, "It", "k", "") == "It"
    assert await house.mailbox.preview(CHAT) == "preview-1"
    assert await shown_by(channel).show(house.mailbox, CHAT, "It is", "k", "It") == "It is"  # also by another host
    assert channel.screen == {"preview-1": "It is"}


async def test_the_same_words_are_not_shown_again(house: House) -> None:
    channel = FakeStreamingChannel(capabilities=Capabilities(max_length=80))
    shown = await shown_by(channel).show(house.mailbox, CHAT, "word " * 40, "k", "")
    assert await shown_by(channel).show(house.mailbox, CHAT, "word " * 50, "k", shown) == shown
    assert len(channel.drafts) == 1


async def test_a_preview_is_cut_to_what_the_platform_takes_and_its_code_is_closed(house: House) -> None:
    channel = FakeStreamingChannel(capabilities=Capabilities(max_length=80, length_unit=LengthUnit.UTF16))
    shown = await shown_by(channel).show(house.mailbox, CHAT, "```py\n" + "🤖" * 100, "k", "")
    assert shown.endswith("🤖\n```")
    assert len(shown.encode("utf-16-le")) // 2 <= 80


async def test_a_channel_without_previews_shows_none(house: House) -> None:
    channel = FakeChannel()
    assert not shown_by(channel).streams(CHAT)
    assert await shown_by(channel).show(house.mailbox, CHAT, "It", "k", "") == ""


async def test_a_platform_whose_previews_go_by_themselves_has_none_to_replace(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def draft(*_: object) -> None: ...

    channel = FakeStreamingChannel()
    monkeypatch.setattr(channel, "draft", draft)
    assert await shown_by(channel).show(house.mailbox, CHAT, "It", "k", "") == "It"
    assert await house.mailbox.preview(CHAT) is None


async def test_a_call_that_hangs_is_cut(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(previews, "_TIMEOUT", 0.01)
    channel = FakeStreamingChannel()
    channel.draft_takes = anyio.Event()
    with pytest.raises(OutcomeUnknown):
        await shown_by(channel).show(house.mailbox, CHAT, "It", "k", "")


async def test_only_the_first_part_of_the_answer_takes_the_place_of_the_preview(house: House) -> None:
    channel = FakeStreamingChannel(capabilities=Capabilities(max_length=80))
    await a_turn_runs(house)
    await shown_by(channel).show(house.mailbox, CHAT, "word", "k", "")
    await it_ends(house, "word " * 40, "and another")
    async with post(house, channel) as office:
        await office.until_nothing_is_due()
    assert [message.replaces for message in channel.outbox] == ["preview-1", None, None, None]
    assert len(channel.screen) == 4


async def test_a_part_that_is_tried_again_replaces_it_still(house: House) -> None:
    channel = FakeStreamingChannel()
    channel.fail_next(TryLater("busy", after=0))
    await a_turn_runs(house)
    await shown_by(channel).show(house.mailbox, CHAT, "It", "k", "")
    await it_ends(house, "It is")
    async with post(house, channel) as office:
        await office.until_nothing_is_due()
    assert [message.replaces for message in channel.attempts] == ["preview-1", "preview-1"]


@pytest.mark.parametrize("failure", [None, TryLater("busy", after=0), Refused("it is gone")], ids=["works", "later", "refused"])
async def test_a_preview_of_which_nothing_came_is_taken_away_before_the_chat_is_settled(
    house: House, failure: Exception | None
) -> None:
    channel = FakeStreamingChannel()
    await a_turn_runs(house)
    await shown_by(channel).show(house.mailbox, CHAT, "It", "k", "")
    await it_ends(house)
    if failure:
        channel.fail_next_draft(failure)
    async with post(house, channel) as office:
        await office.until_nothing_is_due()
    assert len(channel.settlements) == 1
    assert channel.outbox == []
    assert (channel.screen == {}) is not isinstance(failure, Refused)
    assert await house.mailbox.preview(CHAT) is None
