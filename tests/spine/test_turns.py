"""Turns: follow-ups, several sessions, places that are scarce, and where an agent's words go."""

from __future__ import annotations

import anyio

from nanoclaw_core.testing import Reply, ScriptedModel
from tests.spine.spine import Spine, doing, routed, until

NO_ANSWER = "(The agent has finished without an answer.)"


async def test_follow_ups_into_a_running_turn_are_answered_in_order_and_once(spine: Spine, model: ScriptedModel) -> None:
    go = anyio.Event()
    model.script(Reply.text("One.", after=go))
    async with spine.host() as host:
        for number in (1, 2, 3):
            await spine.chat.say(f"message {number}")
            await model.wait_for(1)
        await routed(host)
        go.set()
        await until(lambda: sum(len(ids) for _, ids, _ in spine.chat.settlements) == 3)
        settled = [message_id for _, ids, _ in spine.chat.settlements for message_id in ids]
        assert settled == ["message-1", "message-2", "message-3"]
        await until(lambda: doing(host) == ["idle"])
    # Whether the last two share a turn is a matter of which reaches the engine before the first one ends.
    said = "\n\n".join(message.text for message in spine.chat.outbox)
    assert said == "One.\n\nYou said: message 2\n\nYou said: message 3"


async def test_two_chats_are_answered_side_by_side(spine: Spine, model: ScriptedModel) -> None:
    go = anyio.Event()
    model.script(Reply.text("a", after=go), Reply.text("b", after=go))
    async with spine.host() as host:
        await spine.wire(host, chat="chat-2")
        await spine.chat.say("one")
        await spine.chat.say("two", chat="chat-2")
        await model.wait_for(2)
        assert doing(host) == ["working", "working"]
        go.set()
        await spine.settled(2)
    assert {message.to.chat for message in spine.chat.outbox} == {"chat-1", "chat-2"}


async def test_with_one_place_sessions_are_served_in_the_order_of_asking(spine: Spine, model: ScriptedModel) -> None:
    go = anyio.Event()
    model.script(Reply.text("first", after=go))
    async with spine.host(max_turns=1) as host:
        for chat in ("chat-2", "chat-3"):
            await spine.wire(host, chat=chat)
        await spine.chat.say("one")
        await model.wait_for(1)
        for chat in ("chat-2", "chat-3"):
            await spine.chat.say("me too", chat=chat)
            await routed(host)
        go.set()
        await spine.settled(3)
        assert [message.to.chat for message in spine.chat.outbox] == ["chat-1", "chat-2", "chat-3"]


async def test_every_idle_worker_gives_way_when_several_sessions_wait_for_memory(spine: Spine) -> None:
    chats = [f"chat-{number}" for number in range(2, 5)]
    async with spine.host(max_turns=2, max_memory=512) as host:
        for chat in chats:
            await spine.wire(host, chat=chat)
        await spine.chat.say("hello")
        await spine.chat.say("hello", chat="chat-2")
        await spine.settled(2)
        await until(lambda: doing(host) == ["idle", "idle"])
        await spine.chat.say("hello", chat="chat-3")
        await spine.chat.say("hello", chat="chat-4")
        await spine.settled(4)


async def test_an_idle_worker_ends_after_its_time(spine: Spine) -> None:
    async with spine.host(idle_timeout=900.0) as host:
        await spine.chat.say("hello")
        await spine.settled()
        await until(lambda: doing(host) == ["idle"])
        await spine.clock.advance(899)
        assert doing(host) == ["idle"]
        await spine.clock.advance(1)
        await until(lambda: not doing(host))
        assert not await spine.runtime.containers({})


async def test_words_for_another_chat_arrive_there(spine: Spine) -> None:
    async with spine.host() as host:
        await spine.wire(host, chat="chat-2", name="Book Club")
        await spine.chat.say('done <message to="book-club">We meet at 7</message>')
        await spine.settled()
    assert [(message.to.chat, message.text) for message in spine.chat.outbox] == [
        ("chat-1", "You said: done"),
        ("chat-2", "We meet at 7"),
    ]


async def test_words_for_nobody_are_seen_in_the_chat_that_is_answered(spine: Spine, model: ScriptedModel) -> None:
    model.script(Reply.text('<message to="grandma">Happy birthday</message>'))
    async with spine.host():
        await spine.chat.say("congratulate her")
        (text,) = await spine.texts(1)
    assert "no destination “grandma”; known: family" in text
    assert "Happy birthday" in text


async def test_an_answer_that_is_all_internal_is_said_to_be_none(spine: Spine, model: ScriptedModel) -> None:
    model.script(Reply.text("<internal>nothing to add</internal>"))
    async with spine.host():
        await spine.chat.say("fine")
        await spine.settled()
    assert [message.text for message in spine.chat.outbox] == [NO_ANSWER]


async def test_send_message_arrives_before_the_answer(spine: Spine) -> None:
    async with spine.host():
        await spine.chat.say('!tool send_message {"text": "yo"}')
        await spine.settled()
    assert [message.text for message in spine.chat.outbox] == ["yo", "Message sent to this chat (id s1)."]


async def test_after_send_message_an_internal_answer_needs_no_notice(spine: Spine, model: ScriptedModel) -> None:
    call = Reply.tool("mcp__nanoclaw__send_message", {"text": "yo"})
    model.script(call, Reply.text("<internal>all is said</internal>"))
    async with spine.host():
        await spine.chat.say("hello")
        await spine.settled()
    assert [message.text for message in spine.chat.outbox] == ["yo"]


async def test_a_call_that_is_repeated_after_a_crash_is_carried_out_once(spine: Spine, model: ScriptedModel) -> None:
    """Also across hosts, and the internal answer of the second worker needs no notice then, either."""
    call = Reply.tool("mcp__nanoclaw__send_message", {"text": "yo"})
    model.script(call, Reply.text("never", after=anyio.Event()))
    async with spine.host():
        await spine.chat.say("hello")
        await model.wait_for(2)
        await spine.texts(1)
    model.script(call, Reply.text("<internal>all is said</internal>"))
    async with spine.host():
        await spine.settled()
    assert [message.text for message in spine.chat.outbox] == ["yo"]


async def test_send_message_to_the_own_chat_by_name_stays_in_the_thread(spine: Spine) -> None:
    async with spine.host():
        await spine.chat.say('!tool send_message {"text": "yo", "to": "family"}', thread="t1")
        await spine.settled()
    assert [(message.to.thread, message.text) for message in spine.chat.outbox] == [
        ("t1", "yo"),
        ("t1", "Message sent to family (id s1)."),
    ]


async def test_a_call_that_is_refused_tells_the_agent_what_there_is(spine: Spine) -> None:
    async with spine.host():
        await spine.chat.say('!tool send_message {"text": "yo", "to": "grandma"}')
        assert "no destination 'grandma'. Known: family" in (await spine.texts(1))[0]


async def test_a_worker_at_rest_is_paused_and_wakes_for_the_next_message(spine: Spine) -> None:
    async with spine.host() as host:
        await spine.chat.say("hello")
        await spine.settled()
        await until(lambda: doing(host) == ["idle"])
        await spine.clock.advance(host.pool._desk.terms.pause_after)
        await until(lambda: doing(host) == ["paused"])
        (container,) = await spine.runtime.living()
        assert container.paused
        await spine.chat.say("again")
        assert (await spine.texts(2))[1] == "You said: again"
    assert len(spine.runtime.specs) == 1


# --- /stop ----------------------------------------------------------------------------------------------------------------


async def test_stop_interrupts_the_model_and_the_conversation_goes_on(spine: Spine, model: ScriptedModel) -> None:
    model.script(Reply.hang(300), Reply.text("here I am"))
    async with spine.host():
        await spine.chat.say("write a book")
        await model.wait_for(1)
        await spine.chat.say("/stop")
        assert await spine.settled(2) == [(("message-1",), "interrupted"), (("message-2",), "answered")]
        assert await spine.texts(1) == ["(Stopped.)"]
        await spine.chat.say("are you there?")
        assert (await spine.texts(2))[1] == "here I am"
    assert len(spine.runtime.specs) == 1


async def test_stop_interrupts_a_command(spine: Spine, model: ScriptedModel) -> None:
    model.script(Reply.tool("Bash", {"command": "echo began > mark; sleep 1000"}))
    async with spine.host():
        await spine.chat.say("wait")
        await until((spine.home / "groups" / "main" / "mark").exists)
        await spine.chat.say("/stop")
        await spine.settled(2)
        assert await spine.texts(1) == ["(Stopped.)"]


async def test_stop_when_nothing_runs_says_so(spine: Spine) -> None:
    async with spine.host():
        await spine.chat.say("/stop")
        assert await spine.settled() == [(("message-1",), "answered")]
        assert await spine.texts(1) == ["(Nothing is running.)"]
    assert spine.runtime.specs == []
