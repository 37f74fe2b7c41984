"""Agents that speak unasked, or without end."""

from __future__ import annotations

import anyio
import pytest

from nanoclaw_core.errors import TryLater
from nanoclaw_core.models import TurnEnd
from nanoclaw_core.store import sessions
from nanoclaw_core.testing import Reply, ScriptedModel
from nanoclaw_core.workers import speech
from tests.spine.spine import Spine


async def test_words_that_nobody_asked_for_go_to_the_chat_that_was_answered_last_and_once(spine: Spine) -> None:
    """Claude Code speaks by itself when a command in the background has ended; such an end covers no push."""
    async with spine.host() as host:
        await spine.chat.say("hello")
        await spine.settled()
        (worker,) = host.pool.shifts
        assert worker.life is not None
        end = TurnEnd(id=f"{worker.life.worker_id}-99", covered=(), text="The build is done.", conversation="")
        for _ in range(2):
            await host.pool.turn_ended(worker.life.worker_id, end)
        assert await spine.texts(2) == ["You said: hello", "The build is done."]
        await spine.chat.say("thanks")
        assert (await spine.texts(3))[2] == "You said: thanks"


@pytest.mark.parametrize("way", ["unasked", "send_message"])
async def test_words_outside_of_a_turn_survive_the_host(spine: Spine, way: str) -> None:
    async with spine.host() as host:
        await spine.chat.say("hello")
        await spine.settled()
        while await host.database.read(sessions.attention):  # noqa: ASYNC110  # nothing announces it
            await anyio.sleep(0.001)
        (worker,) = host.pool.shifts
        assert worker.life is not None
        spine.chat.fail_next(TryLater("away", after=3600))
        if way == "unasked":
            end = TurnEnd(id=f"{worker.life.worker_id}-99", covered=(), text="By the way.", conversation="")
            await host.pool.turn_ended(worker.life.worker_id, end)
        else:
            await host.pool.actions.host(worker.life.identity, "a call in the background").send("By the way.")
        await spine.chat.tried(2)
    async with spine.host():
        assert await spine.texts(2) == ["You said: hello", "By the way."]


async def test_an_agent_that_is_not_heard_is_stopped_from_filling_the_disk(
    spine: Spine, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speech, "MAX_UNDELIVERED", 2)
    call = "mcp__nanoclaw__send_message"
    model.script(
        *[Reply.tool(call, {"text": f"message {number}", "to": "nowhere"}) for number in range(4)], Reply.text("enough")
    )
    async with spine.host() as host:
        await spine.wire(host, chat="chat-2", name="nowhere")
        spine.chat.fail_next(TryLater("nobody is there", after=3600))
        await spine.chat.say("talk")
        assert await spine.texts(1) == ["enough"]
        (session,) = await host.database.read(sessions.sessions)
        due = await (await host.mailboxes.open(session)).due()
        assert [row.text for row in due if row.to.chat == "chat-2"] == ["message 0", "message 1"]
    assert "2 messages of yours have not been delivered" in str(model.calls[-1].json)
