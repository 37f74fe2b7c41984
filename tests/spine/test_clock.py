"""A wall clock that is set while the host runs, or was wrong when the machine booted: nothing expires, overtakes or stalls."""

from __future__ import annotations

import pytest

from nanoclaw_core.errors import TryLater
from nanoclaw_core.testing import FakeClock
from tests.spine.spine import Spine

HOUR, YEAR = 3600.0, 365 * 86400.0


@pytest.mark.parametrize("jump", [-HOUR, YEAR, -1_800_000_000.0])
async def test_a_conversation_goes_on_in_order_whatever_the_clock_is_set_to(spine: Spine, jump: float) -> None:
    async with spine.host() as host:
        for number in range(3):
            await spine.chat.say(f"message {number}")
            await spine.settled(number + 1)
            spine.clock.jump(jump)
            jump = -jump
        assert (await host.status())["uptime"] < HOUR
    assert [message.text for message in spine.chat.outbox] == [f"You said: message {number}" for number in range(3)]


async def test_an_answer_does_not_expire_because_the_clock_leapt_forward(spine: Spine) -> None:
    spine.chat.fail_next(TryLater("the platform is down", after=60))
    async with spine.host():
        await spine.chat.say("hello")
        await spine.chat.tried(1)
        spine.clock.jump(YEAR)
        while not spine.chat.outbox:
            await spine.clock.advance(60)
        assert await spine.texts(1) == ["You said: hello"]


async def test_a_host_that_boots_in_1970_answers_and_goes_on_when_the_time_is_known(spine: Spine) -> None:
    spine.clock = FakeClock(time=5.0)
    async with spine.host():
        await spine.chat.say("early")
        await spine.settled(1)
        spine.clock.jump(1_800_000_000.0)
        await spine.chat.say("late")
        await spine.settled(2)
    assert [message.text for message in spine.chat.outbox] == ["You said: early", "You said: late"]
