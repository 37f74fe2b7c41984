"""Nothing is answered twice and nothing is lost, whatever the platform repeats and whenever the host ends."""

from __future__ import annotations

import anyio

from nanoclaw_core.testing import Reply, ScriptedModel
from tests.spine.spine import Spine, routed


async def test_a_repeated_message_id_is_one_message_also_after_a_restart(spine: Spine) -> None:
    async with spine.host():
        assert await spine.chat.say("hello", message_id="m1")
        assert not await spine.chat.say("hello", message_id="m1")
        await spine.settled()
    async with spine.host() as host:
        assert not await spine.chat.say("hello", message_id="m1")
        assert await spine.chat.say("again", message_id="m2")
        await spine.settled(2)
        await routed(host)
    assert [message.text for message in spine.chat.outbox] == ["You said: hello", "You said: again"]


async def test_the_same_id_in_another_chat_is_another_message(spine: Spine) -> None:
    async with spine.host() as host:
        await spine.wire(host, chat="chat-2")
        await spine.chat.say("hello", message_id="m1")
        await spine.chat.say("hello", message_id="m1", chat="chat-2")
        await spine.settled(2)
    assert {message.to.chat for message in spine.chat.outbox} == {"chat-1", "chat-2"}


async def test_what_was_accepted_but_not_routed_is_answered_at_the_next_start(spine: Spine) -> None:
    async with spine.built() as host, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: spine.chat.run(host.receive, task_status=anyio.TASK_STATUS_IGNORED))
        await spine.chat.say("hello")
        tasks.cancel_scope.cancel()
    async with spine.host():
        await spine.settled()
    assert await spine.texts(1) == ["You said: hello"]


async def test_what_waits_for_a_worker_is_answered_at_the_next_start(spine: Spine) -> None:
    spine.runtime.unavailable = True
    async with spine.host() as host:
        await spine.chat.say("hello")
        await routed(host)
    spine.runtime.unavailable = False
    async with spine.host():
        await spine.settled()
    assert [message.text for message in spine.chat.outbox if message.text.startswith("You said")] == ["You said: hello"]


async def test_a_turn_that_ran_when_the_host_ended_is_answered_once_by_the_next(spine: Spine, model: ScriptedModel) -> None:
    model.script(Reply.text("never", after=anyio.Event()))
    async with spine.host():
        await spine.chat.say("hello")
        await model.wait_for(1)
    async with spine.host():
        await spine.settled()
        await spine.chat.say("again")
        await spine.settled(2)
    assert [message.text for message in spine.chat.outbox] == ["You said: hello", "You said: again"]


async def test_an_answer_that_nobody_could_deliver_is_delivered_by_the_next_host(spine: Spine) -> None:
    from nanoclaw_core.errors import TryLater

    spine.chat.fail_next(TryLater("the platform is down", after=3600))
    async with spine.host():
        await spine.chat.say("hello")
        await spine.chat.tried(1)
    async with spine.host():
        await spine.settled()
    assert [message.text for message in spine.chat.outbox] == ["You said: hello"]


async def test_the_conversation_goes_on_in_the_next_host(spine: Spine, model: ScriptedModel) -> None:
    async with spine.host():
        await spine.chat.say("my name is Ada")
        await spine.settled()
    async with spine.host():
        await spine.chat.say("who am I?")
        await spine.settled(2)
    assert "my name is Ada" in str(model.calls[-1].json["messages"])
