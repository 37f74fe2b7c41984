"""An answer is shown while it is being written, and nothing of that is left but the answer."""

from __future__ import annotations

import anyio
import pytest

from nanoclaw_core.builtins import demo
from nanoclaw_core.errors import TryLater
from nanoclaw_core.testing import FakeStreamingChannel, Reply, ScriptedModel
from nanoclaw_core.workers import preview
from tests.spine.spine import Spine, doing, routed, until

SEND = "mcp__nanoclaw__send_message"


@pytest.fixture
def chat(spine: Spine, monkeypatch: pytest.MonkeyPatch) -> FakeStreamingChannel:
    """A chat that can show previews, and a host that does not pause between two of them."""
    monkeypatch.setattr(preview, "PAUSE", 0.0)
    spine.chat = channel = FakeStreamingChannel()
    return channel


def then(text: str, tool: str, arguments: dict[str, str]) -> Reply:
    """Say `text`, and call a tool in the same breath."""
    (call,) = demo.call(tool, arguments).blocks
    return Reply(answer=demo.Answer(blocks=({"type": "text", "text": text}, call), stop_reason="tool_use"))


async def test_a_preview_is_shown_and_the_answer_takes_its_place(
    spine: Spine, chat: FakeStreamingChannel, model: ScriptedModel
) -> None:
    first, second = anyio.Event(), anyio.Event()
    model.script(Reply.stream("It is", first, " forty", second, "-two."))
    async with spine.host():
        await chat.say("six times seven?")
        assert await chat.drafted(1) == ["It is"]
        first.set()
        assert await chat.drafted(2) == ["It is", "It is forty"]
        second.set()
        await spine.settled()
    assert chat.screen == {"preview-1": "It is forty-two."}
    assert [(message.text, message.replaces) for message in chat.outbox] == [("It is forty-two.", "preview-1")]
    assert {draft.key for draft in chat.drafts} == {chat.drafts[0].key}
    assert [draft.message_id for draft in chat.drafts][:2] == [None, "preview-1"]


async def test_the_next_answer_has_a_preview_of_its_own(spine: Spine, chat: FakeStreamingChannel, model: ScriptedModel) -> None:
    events = [anyio.Event() for _ in range(2)]
    model.script(*(Reply.stream("Once", event, " upon a time.") for event in events))
    async with spine.host():
        for number, event in enumerate(events, start=1):
            await chat.say("a story")
            await chat.drafted(number)
            event.set()
            await spine.settled(number)
    assert chat.screen == {"preview-1": "Once upon a time.", "preview-2": "Once upon a time."}
    assert chat.drafts[0].key != chat.drafts[1].key


async def test_what_is_internal_or_meant_for_others_is_never_shown(
    spine: Spine, chat: FakeStreamingChannel, model: ScriptedModel
) -> None:
    events = [anyio.Event() for _ in range(3)]
    model.script(
        Reply.stream(
            "One <inter",
            events[0],
            "nal>a secret</internal> two `",
            events[1],
            '<internal>` <message to="book-club">a',
            events[2],
            " surprise</message> three",
        )
    )
    async with spine.host() as host:
        await spine.wire(host, chat="chat-2", name="Book Club")
        await chat.say("hello")
        for number, event in enumerate(events, start=1):
            await chat.drafted(number)
            event.set()
        await spine.settled()
    assert [draft.text for draft in chat.drafts][:3] == ["One", "One  two", "One  two `<internal>`"]
    assert not any(word in draft.text for draft in chat.drafts for word in ("secret", "surprise", "three"))
    assert [(message.to.chat, message.text, message.replaces) for message in chat.outbox] == [
        ("chat-1", "One  two `<internal>`", "preview-1"),
        ("chat-2", "a surprise", None),
        ("chat-1", "three", None),
    ]


async def test_what_is_said_before_a_tool_stands_until_the_answer_is_begun(
    spine: Spine, chat: FakeStreamingChannel, model: ScriptedModel
) -> None:
    looked, begun = anyio.Event(), anyio.Event()
    model.script(then("Let me look.", "Bash", {"command": "true"}), Reply.stream(looked, "It is", begun, " four."))
    async with spine.host():
        await chat.say("two and two?")
        assert await chat.drafted(1) == ["Let me look."]
        looked.set()
        assert (await chat.drafted(2))[1] == "It is"
        begun.set()
        await spine.settled()
    assert chat.screen == {"preview-1": "It is four."}


async def test_what_an_agent_sends_meanwhile_takes_the_place_of_the_preview(
    spine: Spine, chat: FakeStreamingChannel, model: ScriptedModel
) -> None:
    """Else the answer would appear above it."""
    sent, begun = anyio.Event(), anyio.Event()
    call = Reply.tool(SEND, {"text": "This will take a while."}, after=sent)
    model.script(then("Let me look.", "Bash", {"command": "true"}), call, Reply.stream("It is", begun, " four."))
    async with spine.host():
        await chat.say("two and two?")
        await chat.drafted(1)
        sent.set()
        await chat.drafted(2)
        begun.set()
        await spine.settled()
    assert chat.screen == {"preview-1": "This will take a while.", "preview-2": "It is four."}
    assert chat.drafts[0].key != chat.drafts[1].key


async def test_a_preview_of_which_nothing_comes_is_taken_away(
    spine: Spine, chat: FakeStreamingChannel, model: ScriptedModel
) -> None:
    seen = anyio.Event()
    model.script(
        Reply.tool(SEND, {"text": "yo"}),
        then("Anything else?", "Bash", {"command": "true"}),
        Reply.text("<internal>no</internal>", after=seen),
    )
    async with spine.host():
        await chat.say("hello")
        await chat.drafted(1)
        seen.set()
        await spine.settled()
    assert chat.screen == {"sent-1": "yo"}
    assert (chat.drafts[-1].text, chat.drafts[-1].message_id) == ("", "preview-1")


async def test_a_turn_that_fails_leaves_the_reason_in_its_place(
    spine: Spine, chat: FakeStreamingChannel, model: ScriptedModel
) -> None:
    seen = anyio.Event()
    refusal = Reply(status=400, body=b'{"type": "error", "error": {"type": "x", "message": "y"}}', after=seen)
    model.script(then("Let me look.", "Bash", {"command": "true"}), refusal)
    async with spine.host():
        await chat.say("hello")
        await chat.drafted(1)
        seen.set()
        await spine.settled()
    (text,) = chat.screen.values()
    assert text.startswith("⚠️ I could not answer.")


async def test_a_turn_that_is_stopped_leaves_no_half_answer(
    spine: Spine, chat: FakeStreamingChannel, model: ScriptedModel
) -> None:
    model.script(Reply.stream("It is", anyio.Event(), " forty-two."))
    async with spine.host():
        await chat.say("six times seven?")
        await chat.drafted(1)
        await chat.say("/stop")
        await spine.settled(2)
    assert list(chat.screen.values()) == ["(Stopped.)"]


async def test_the_preview_of_a_host_that_was_killed_is_gone_on_with_by_the_next(
    spine: Spine, chat: FakeStreamingChannel, model: ScriptedModel
) -> None:
    begun = anyio.Event()
    model.script(Reply.stream("It is", anyio.Event()), Reply.stream("It is forty", begun, "-two."))
    async with spine.killed_host():
        await chat.say("six times seven?")
        await chat.drafted(1)
        await until(lambda: spine.files_holding("preview-1"))  # noted, for the host to come
    async with spine.host():
        await chat.drafted(2)
        begun.set()
        await spine.settled()
    assert chat.screen == {"preview-1": "It is forty-two."}
    assert {draft.key for draft in chat.drafts} == {chat.drafts[0].key}


async def test_the_preview_of_a_worker_that_died_is_replaced_once(
    spine: Spine, chat: FakeStreamingChannel, model: ScriptedModel
) -> None:
    model.script(Reply.stream("It is", anyio.Event()), Reply.text("It is forty-two."))
    async with spine.host() as host, spine.no_pauses(host):
        await chat.say("six times seven?")
        await chat.drafted(1)
        spine.runtime.kill_all()
        await spine.settled()
    assert chat.screen == {"preview-1": "It is forty-two."}


async def test_a_platform_that_is_away_gets_no_preview_before_what_was_said_earlier(
    spine: Spine, chat: FakeStreamingChannel, model: ScriptedModel
) -> None:
    begun = anyio.Event()
    chat.fail_next(TryLater("away", after=3600))
    model.script(Reply.text("one"), Reply.stream("two", begun, "."))
    async with spine.host() as host:
        await chat.say("first")
        await chat.tried(1)
        await chat.say("second")
        await routed(host)
        await model.wait_for(2)
        begun.set()
        await until(lambda: doing(host) == ["idle"])
        assert not any(draft.text.startswith("two") for draft in chat.drafts)
        host.delivery.wake_chat("fake", "chat-1")
        assert [message.text for message in await chat.sent(2)] == ["one", "two."]


async def test_a_chat_that_shows_no_previews_costs_nothing(spine: Spine, model: ScriptedModel) -> None:
    async with spine.host():
        await spine.chat.say("hello")
        await spine.settled()
    (document,) = spine.runtime.documents
    assert document["options"]["stream"] is False
    assert [call.json["stream"] for call in model.calls] == [False]
