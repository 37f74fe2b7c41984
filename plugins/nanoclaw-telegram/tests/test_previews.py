"""An answer can be watched while it is written, and never at the cost of the answer."""

from __future__ import annotations

import pytest

from nanoclaw_core import Address, OutboundMessage, OutcomeUnknown
from nanoclaw_core.testing import FakeClock
from nanoclaw_telegram.channel import TelegramChannel
from nanoclaw_telegram.previews import DRAFT_INTERVAL, EDIT_INTERVAL
from tests.peers.host import Host
from tests.peers.telegram import Drop, Refusal, TelegramPeer
from tests.peers.telegram_chats import FAMILY, HOME

PRIVATE = Address(channel="telegram", chat=str(HOME["id"]))
GROUP = Address(channel="telegram", chat=str(FAMILY["id"]))


@pytest.fixture
def telegram(host: Host, settings: dict[str, str], nanoclaw_clock: FakeClock) -> TelegramChannel:
    return TelegramChannel(host.context(settings, nanoclaw_clock))


async def test_in_a_private_chat_it_is_a_draft(
    platform: TelegramPeer, telegram: TelegramChannel, nanoclaw_clock: FakeClock
) -> None:
    for text in ("I", "I **think**"):
        assert await telegram.draft(PRIVATE, text, "key") is None
        await nanoclaw_clock.advance(DRAFT_INTERVAL)
    assert [draft["text"] for draft in platform.chats.drafts] == ["I", "I think"]
    assert len({draft["draft_id"] for draft in platform.chats.drafts}) == 1
    assert platform.chats.messages == {}


async def test_each_answer_has_a_draft_of_its_own(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    await telegram.draft(PRIVATE, "I", "key-1")
    await telegram.draft(PRIVATE, "You", "key-2")
    assert len({draft["draft_id"] for draft in platform.chats.drafts}) == 2


async def test_in_a_group_it_is_a_message_that_is_edited(
    platform: TelegramPeer, telegram: TelegramChannel, nanoclaw_clock: FakeClock
) -> None:
    message_id = await telegram.draft(GROUP, "I", "key")
    assert message_id is not None
    await nanoclaw_clock.advance(EDIT_INTERVAL)
    assert await telegram.draft(GROUP, "I think", "key", message_id) == message_id
    (message,) = platform.chats.messages.values()
    assert message["text"] == "I think"


@pytest.mark.parametrize(("to", "interval"), [(PRIVATE, DRAFT_INTERVAL), (GROUP, EDIT_INTERVAL)], ids=["private", "group"])
async def test_what_comes_too_soon_is_left_out(
    platform: TelegramPeer, telegram: TelegramChannel, nanoclaw_clock: FakeClock, to: Address, interval: float
) -> None:
    message_id = await telegram.draft(to, "I", "key")
    for text in ("I t", "I th", "I thi"):
        assert await telegram.draft(to, text, "key", message_id) == message_id
    assert len(platform.calls) == 1
    await nanoclaw_clock.advance(interval)
    await telegram.draft(to, "I think", "key", message_id)
    await nanoclaw_clock.advance(interval)
    await telegram.draft(to, "I think", "key", message_id)  # nothing new
    assert len(platform.calls) == 2


async def test_previews_leave_room_for_answers(
    platform: TelegramPeer, telegram: TelegramChannel, nanoclaw_clock: FakeClock
) -> None:
    for number in range(40):
        await telegram.draft(GROUP, f"answer {number}", f"key-{number}")
    assert 0 < len(platform.calls) < 15
    await telegram.send(OutboundMessage(to=GROUP, text="the answer", key="s:1:0"))
    assert platform.calls[-1].data["text"] == "the answer"


async def test_a_server_that_knows_no_drafts_gets_messages(
    platform: TelegramPeer, telegram: TelegramChannel, nanoclaw_clock: FakeClock
) -> None:
    platform.script("sendMessageDraft", Refusal(code=404, description="Not Found: method not found"))
    assert await telegram.draft(PRIVATE, "I", "key") is None
    await nanoclaw_clock.advance(EDIT_INTERVAL)
    assert await telegram.draft(PRIVATE, "I think", "key") is not None


async def test_a_preview_that_somebody_deleted_does_not_come_back(
    platform: TelegramPeer, telegram: TelegramChannel, nanoclaw_clock: FakeClock
) -> None:
    message_id = await telegram.draft(GROUP, "I", "key")
    platform.chats.messages.clear()
    for text in ("I t", "I th", "I thi"):
        await nanoclaw_clock.advance(EDIT_INTERVAL)
        assert await telegram.draft(GROUP, text, "key", message_id) == message_id
    assert [call.method for call in platform.calls] == ["sendMessage", "editMessageText"]


async def test_a_preview_of_which_nothing_came_is_taken_away(platform: TelegramPeer, telegram: TelegramChannel) -> None:
    message_id = await telegram.draft(GROUP, "I", "key")
    assert platform.chats.messages
    for _ in range(2):  # a second time is fine
        assert await telegram.draft(GROUP, "", "key", message_id) is None
    assert platform.chats.messages == {}
    await telegram.draft(PRIVATE, "I", "key-2")
    assert await telegram.draft(PRIVATE, "", "key-2") is None


async def test_a_preview_in_doubt_is_not_followed_by_another(
    platform: TelegramPeer, telegram: TelegramChannel, nanoclaw_clock: FakeClock
) -> None:
    platform.script("sendMessage", Drop(effect=True))
    with pytest.raises(OutcomeUnknown):
        await telegram.draft(GROUP, "I", "key")
    await nanoclaw_clock.advance(EDIT_INTERVAL)
    assert await telegram.draft(GROUP, "I think", "key") is None
    assert len(platform.chats.messages) == 1
