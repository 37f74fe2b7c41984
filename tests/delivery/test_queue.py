"""Delivery: order, retries, and the end of what cannot be sent."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest

from nanoclaw_core.errors import OutcomeUnknown, Refused, TryLater
from nanoclaw_core.mailbox import MailboxUnusable, NewOutbound
from nanoclaw_core.models import Capabilities, OutboundMessage, Receipt
from nanoclaw_core.store import sessions
from nanoclaw_core.testing import FakeChannel
from tests.delivery.office import post
from tests.house import CHAT, House


async def test_rows_are_sent_in_their_order(house: House, nanoclaw_channel: FakeChannel) -> None:
    async with post(house, nanoclaw_channel) as office:
        await office.put("one", "two", "three")
        assert [message.text for message in await nanoclaw_channel.sent(3)] == ["one", "two", "three"]


async def test_a_long_row_is_sent_in_parts(house: House) -> None:
    channel = FakeChannel(capabilities=Capabilities(max_length=64))
    async with post(house, channel) as office:
        await office.put("word " * 40)
        await office.until_nothing_is_due()
    assert "".join(message.text for message in channel.outbox).replace(" ", "") == "word" * 40
    assert len({message.key for message in channel.outbox}) == len(channel.outbox) > 1


async def test_a_row_that_must_wait_is_tried_again_and_keeps_its_place(house: House, nanoclaw_channel: FakeChannel) -> None:
    nanoclaw_channel.fail_next(TryLater("rate limit", after=30))
    async with post(house, nanoclaw_channel) as office:
        await office.put("one", "two")
        await nanoclaw_channel.tried(1)
        await house.clock.asleep()
        await house.clock.advance(29)
        assert len(nanoclaw_channel.attempts) == 1
        await house.clock.advance(1)
        assert [message.text for message in await nanoclaw_channel.sent(2)] == ["one", "two"]


async def test_a_waiting_chat_holds_up_no_other_chat(house: House, nanoclaw_channel: FakeChannel) -> None:
    nanoclaw_channel.fail_next(TryLater("away", after=3600))
    async with post(house, nanoclaw_channel) as office:
        await office.put("stuck")
        await nanoclaw_channel.tried(1)
        await office.put("free", to=replace(CHAT, chat="chat-2"))
        assert [message.text for message in await nanoclaw_channel.sent(1)] == ["free"]


async def test_a_chat_that_can_be_reached_again_is_tried_at_once(house: House, nanoclaw_channel: FakeChannel) -> None:
    nanoclaw_channel.fail_next(TryLater("away", after=3600))
    async with post(house, nanoclaw_channel) as office:
        await office.put("hello")
        await house.clock.asleep()
        office.delivery.wake_chat("fake", CHAT.chat)
        assert [message.text for message in await nanoclaw_channel.sent(1)] == ["hello"]


async def test_an_error_that_an_idempotent_channel_did_not_foresee_is_tried_again(house: House) -> None:
    channel = FakeChannel(capabilities=Capabilities(idempotent_send=True))
    channel.fail_next(RuntimeError("a bug in the plugin"))
    async with post(house, channel) as office:
        await office.put("hello")
        await house.clock.asleep()
        await house.clock.advance(1)
        assert [message.text for message in await channel.sent(1)] == ["hello"]


async def test_a_refused_row_is_reported_and_the_next_one_goes_on(house: House, nanoclaw_channel: FakeChannel) -> None:
    nanoclaw_channel.fail_next(Refused("the chat is gone"))
    async with post(house, nanoclaw_channel) as office:
        await office.put("one", "two")
        notice = "(A message for this chat could not be delivered: the chat is gone)"
        assert [message.text for message in await nanoclaw_channel.sent(2)] == [notice, "two"]
        await office.until_nothing_is_due()
    assert [(event.name, event.data["reason"]) for event in office.told if event.name == "delivery.failed"] == [
        ("delivery.failed", "the chat is gone")
    ]


async def test_after_the_deadline_a_row_is_given_up_visibly(house: House, nanoclaw_channel: FakeChannel) -> None:
    nanoclaw_channel.fail_next(*[TryLater("down", after=40 * 3600)] * 3)
    async with post(house, nanoclaw_channel) as office:
        await office.put("late")
        for count in (1, 2):
            await nanoclaw_channel.tried(count)
            await house.clock.asleep()
            await house.clock.advance(40 * 3600)
        await office.until_nothing_is_due()
    (given_up,) = (event for event in office.told if event.name == "delivery.failed")
    assert "gave up after 72 hours" in given_up.data["reason"]


async def test_what_waits_on_a_patient_channel_never_expires(house: House) -> None:
    channel = FakeChannel(capabilities=Capabilities(patient=True))
    channel.fail_next(*[TryLater("nobody is there", after=40 * 3600)] * 3)
    async with post(house, channel) as office:
        await office.put("welcome back")
        for count in (1, 2, 3):
            await channel.tried(count)
            await house.clock.asleep()
            await house.clock.advance(40 * 3600)
        assert [message.text for message in await channel.sent(1)] == ["welcome back"]


@pytest.mark.parametrize("error", [OutcomeUnknown("connection lost"), RuntimeError("a bug in the plugin")])
async def test_a_part_of_unknown_fate_is_not_repeated_but_said(
    house: House, nanoclaw_channel: FakeChannel, error: Exception
) -> None:
    nanoclaw_channel.fail_next(error)
    async with post(house, nanoclaw_channel) as office:
        await office.put("perhaps")
        sent = await nanoclaw_channel.sent(1)
    assert "may not have arrived" in sent[0].text
    assert [message.text for message in nanoclaw_channel.attempts].count("perhaps") == 1


async def test_the_parts_after_one_of_unknown_fate_are_still_sent(house: House) -> None:
    channel = FakeChannel(capabilities=Capabilities(max_length=64))
    channel.fail_next(OutcomeUnknown("connection lost"))
    async with post(house, channel) as office:
        await office.put("first " * 12 + "second " * 12)
        await office.until_nothing_is_due()
    texts = [message.text for message in channel.outbox]
    assert len(channel.attempts) == len(texts) + 1
    assert re.match(r"(first |second )+\(A message before this one", " ".join(" ".join(texts).split()))


async def test_a_host_that_ends_right_after_sending_has_noted_what_it_sent(house: House) -> None:
    ended = anyio.CancelScope()

    class Last(FakeChannel):
        async def send(self, message: OutboundMessage) -> Receipt:
            ended.cancel()
            return await super().send(message)

    with ended:
        async with post(house, Last()) as office:
            await office.put("hello")
            await anyio.sleep_forever()
    assert not await house.mailbox.due()


async def test_a_host_that_ends_right_after_a_refusal_for_now_tries_again_later(house: House) -> None:
    ended = anyio.CancelScope()

    class Last(FakeChannel):
        async def send(self, message: OutboundMessage) -> Receipt:
            ended.cancel()
            raise TryLater("not now")

    with ended:
        async with post(house, Last()) as office:
            await office.put("hello")
            await anyio.sleep_forever()
    (row,) = await house.mailbox.due()
    assert not (await house.mailbox.receipt(row.seq)).in_flight


@pytest.mark.parametrize("idempotent", [True, False])
async def test_after_a_crash_in_mid_send_only_an_idempotent_channel_repeats(house: House, idempotent: bool) -> None:
    channel = FakeChannel(capabilities=Capabilities(idempotent_send=idempotent))
    await house.mailbox.add_outbound("k", NewOutbound(to=CHAT, text="hello"))
    await house.mailbox.sending((await house.mailbox.due())[0].seq, 0)  # and then the host dies
    async with post(house, channel) as office:
        office.delivery.wake(house.session.id)
        sent = await channel.sent(1)
    assert (sent[0].text == "hello") is idempotent


async def test_a_channel_that_hangs_is_given_up_after_a_minute(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging(FakeChannel):
        async def send(self, message: object) -> object:  # type: ignore[override]
            await anyio.sleep_forever()
            raise AssertionError

    monkeypatch.setattr("nanoclaw_core.delivery.queue.SEND_TIMEOUT", 0.01)
    async with post(house, Hanging()) as office:
        await office.put("hello")
        while not office.told:
            await anyio.lowlevel.checkpoint()
    assert "no answer within" in office.told[0].data["reason"]


async def test_a_row_for_a_channel_that_is_not_running_waits(house: House) -> None:
    async with post(house) as office:
        await office.put("hello")
        await house.clock.asleep()
    assert [row.text for row in await house.mailbox.due()] == ["hello"]


async def test_a_mailbox_that_cannot_be_read_is_tried_again_after_growing_pauses_whoever_asks(
    house: House, nanoclaw_channel: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[float] = []

    async def fail() -> None:
        tries.append(house.clock.monotonic())
        raise MailboxUnusable(Path("inbound.db"), "the disk is broken")

    with monkeypatch.context() as broken:
        broken.setattr(house.mailbox, "due", fail)
        async with post(house, nanoclaw_channel) as office:
            await house.clock.asleep()
            for _ in range(10):
                office.delivery.wake(house.session.id)
                await house.clock.advance(1)
                await house.clock.asleep()
            assert tries == [0, 1, 3, 7]
            broken.undo()
            await office.put("hello")
            await house.clock.advance(10)
            assert [message.text for message in await nanoclaw_channel.sent(1)] == ["hello"]


async def test_a_notice_that_no_mailbox_can_hold_is_said_once_and_harms_nobody(
    house: House, nanoclaw_channel: FakeChannel
) -> None:
    nanoclaw_channel.fail_next(RuntimeError("a bug in the plugin"))
    async with post(house, nanoclaw_channel) as office:
        for text in ("lost", "heard"):
            await office.delivery.say(CHAT, text)
        await office.delivery.say(replace(CHAT, channel="unknown"), "nobody is there")
    assert [message.text for message in nanoclaw_channel.outbox] == ["heard"]


async def test_the_end_of_a_lane_looks_at_no_other_session(
    house: House, nanoclaw_channel: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with post(house, nanoclaw_channel) as office:
        monkeypatch.setattr(sessions, "attention", lambda _: 1 / 0)
        await office.put("bye")
        while await house.database.read(partial(sessions.marks, session_id=house.session.id)):
            await anyio.lowlevel.checkpoint()
    assert not await house.mailbox.due()


async def test_a_session_with_nothing_left_is_settled(house: House, nanoclaw_channel: FakeChannel) -> None:
    async with post(house, nanoclaw_channel) as office:
        await office.put("bye")
        while await house.database.read(sessions.attention):
            await anyio.lowlevel.checkpoint()
    assert nanoclaw_channel.outbox[0].text == "bye"


async def test_a_session_is_settled_also_when_its_host_died_right_after_the_last_receipt(house: House) -> None:
    assert await house.database.read(sessions.attention)
    async with post(house):
        while await house.database.read(sessions.attention):
            await anyio.lowlevel.checkpoint()
