"""What a real host leaves behind tells what became of each message, also after it was killed in mid-turn."""

from __future__ import annotations

from functools import partial

import anyio
from anyio import to_thread

from nanoclaw_core.history.outcomes import Stuck, newest, stuck
from nanoclaw_core.history.timeline import timeline
from nanoclaw_core.testing import Reply, ScriptedModel
from tests.spine.spine import Spine


async def states(spine: Spine) -> list[str]:
    found = await to_thread.run_sync(newest, spine.home, 20)
    return [outcome.state for each in found for outcome in each.outcomes]


async def test_an_answered_message_has_its_whole_way_while_the_host_runs_and_after(spine: Spine) -> None:
    async with spine.host():
        await spine.chat.say('!tool mcp__nanoclaw__send_message {"text": "half way"}')
        await spine.settled()
        assert await states(spine) == ["delivered"]
    found = await to_thread.run_sync(timeline, spine.home, 1)
    kinds = [each.kind for each in found.moments]
    assert {"sent", "accepted", "queued", "routed", "worker", "pushed", "turn", "said", "part", "delivered"} <= set(kinds)
    assert "a message goes to fake chat-1: half way" in [each.text for each in found.moments]
    assert kinds.index("accepted") < kinds.index("pushed") < kinds.index("turn")
    assert found.turns[0][1].usage.model_calls == 2
    assert found.faults == ()


async def test_a_message_whose_host_was_killed_in_mid_turn_is_worked_on_and_later_stuck(
    spine: Spine, model: ScriptedModel
) -> None:
    never = anyio.Event()
    model.script(Reply.text("late", after=never))
    async with spine.killed_host():
        await spine.chat.say("hello")
        await model.wait_for(1)
    assert await states(spine) == ["working"]
    now = spine.clock.time()
    assert await to_thread.run_sync(stuck, spine.home, now) == Stuck()
    assert len((await to_thread.run_sync(stuck, spine.home, now + 3601)).messages) == 1
    never.set()
    async with spine.host():
        await spine.settled()
    assert await states(spine) == ["delivered"]
    assert (await to_thread.run_sync(partial(stuck, spine.home), now + 9999)).messages == ()


async def test_a_message_that_nobody_hears_says_why(spine: Spine) -> None:
    async with spine.host() as host:
        await spine.wire(host, "quiet", pattern="^never$")
        await spine.chat.say("hello", chat="quiet")
        await spine.chat.say("hello")
        await spine.settled()
    assert await states(spine) == ["ignored", "delivered"]
    found = await to_thread.run_sync(timeline, spine.home, 1)
    assert found.moments[-1].text.endswith("Andy now listens for the pattern ^never$")
