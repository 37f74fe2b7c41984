"""The bot keeps to Telegram's limits, and no chat waits for another."""

from __future__ import annotations

import anyio
import pytest

from nanoclaw_core import TryLater
from nanoclaw_core.testing import FakeClock
from nanoclaw_telegram.pacing import Pace


@pytest.fixture
def pace(nanoclaw_clock: FakeClock) -> Pace:
    return Pace(nanoclaw_clock)


def waits(pace: Pace, chat: str, count: int) -> list[float]:
    return [round(max(0.0, pace.take(chat)), 2) for _ in range(count)]


def test_a_few_messages_go_out_at_once_then_one_per_second(pace: Pace) -> None:
    assert waits(pace, "42", 7) == [0, 0, 0, 0, 0, 1, 2]


def test_a_group_gets_twenty_in_the_first_minute(pace: Pace) -> None:
    assert waits(pace, "-5", 19)[14:] == [0, 3, 6, 9, 12]


async def test_a_silence_makes_room_again(pace: Pace, nanoclaw_clock: FakeClock) -> None:
    waits(pace, "42", 5)
    await nanoclaw_clock.advance(5)
    assert waits(pace, "42", 5) == [0] * 5


def test_no_chat_waits_for_another_until_there_are_very_many(pace: Pace) -> None:
    waits(pace, "1", 8)
    assert waits(pace, "2", 1) == [0]
    assert max(waits(pace, str(chat), 1)[0] for chat in range(3, 40)) > 0


async def test_a_turn_is_waited_for(pace: Pace, nanoclaw_clock: FakeClock) -> None:
    waits(pace, "42", 5)
    over = anyio.Event()

    async def turn() -> None:
        await pace.turn("42")
        over.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(turn)
        await nanoclaw_clock.asleep()
        await nanoclaw_clock.advance(0.9)
        assert not over.is_set()
        await nanoclaw_clock.advance(0.2)
        assert over.is_set()


async def test_a_long_pause_that_telegram_asked_for_is_handed_on(pace: Pace, nanoclaw_clock: FakeClock) -> None:
    pace.hold("42", 30)
    with pytest.raises(TryLater) as raised:
        await pace.turn("42")
    assert raised.value.after == pytest.approx(30)
    await pace.turn("43")
    await nanoclaw_clock.advance(30)
    await pace.turn("42")


def test_previews_leave_room_for_answers(pace: Pace) -> None:
    count = 0
    while pace.has_room("-5"):
        pace.take("-5")
        count += 1
    assert 5 <= count < 15
    assert waits(pace, "-5", 1) == [0]


async def test_chats_of_long_ago_are_forgotten(pace: Pace, nanoclaw_clock: FakeClock) -> None:
    for chat in range(1500):
        await nanoclaw_clock.advance(0.1)
        pace.hold(str(chat), 1)
    assert len(pace._due) < 1100
