"""The model refuses, breaks off or says nothing: the chat is told what to do, and the next message is answered."""

from __future__ import annotations

import anyio
import pytest

from nanoclaw_core.testing import Reply, ScriptedModel
from tests.spine.spine import Spine

#: How often the engine of these tests tries a call whose connection breaks.
_TRIES = 10


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Reply.error(401, "authentication_error", "invalid x-api-key"), "refused the credential"),
        (Reply.error(402, "billing_error", "credit balance is too low"), "no credit left"),
        (Reply.error(429, "rate_limit_error", "slow down", {"retry-after": "30"}), "in a few minutes"),
        (Reply.error(500, "api_error", "internal server error"), "fault of its own"),
        (Reply.error(529, "overloaded_error", "overloaded"), "overloaded"),
    ],
    ids=["401", "402", "429", "500", "529"],
)
async def test_a_refusal_is_told_in_the_chat_and_the_next_message_is_answered(
    spine: Spine, model: ScriptedModel, refusal: Reply, words: str
) -> None:
    model.script(refusal)
    async with spine.host():
        await spine.chat.say("hello")
        (notice,) = await spine.texts(1)
        assert "I could not answer" in notice
        assert words in notice
        assert await spine.settled() == [(("message-1",), "model")]
        await spine.chat.say("again")
        await spine.settled(2)
    assert spine.chat.outbox[1].text.endswith("You said: again")
    assert len(spine.chat.outbox) == 2


async def test_a_refused_credential_is_told_at_once_with_who_must_act(spine: Spine, model: ScriptedModel) -> None:
    """Claude Code would try for more than a minute, in silence, were it not told to stop."""
    model.script(Reply.error(401, "authentication_error", "invalid x-api-key", {"x-should-retry": "true"}))
    async with spine.host():
        await spine.chat.say("hello")
        assert "must set a valid key" in (await spine.texts(1))[0]
    assert len(model.calls) == 1


@pytest.mark.parametrize("trouble", [Reply.cut(40), Reply.malformed()], ids=["half", "malformed"])
async def test_an_answer_that_breaks_off_is_tried_again_and_then_told(
    spine: Spine, model: ScriptedModel, trouble: Reply
) -> None:
    model.script(*[trouble] * _TRIES)
    async with spine.host():
        await spine.chat.say("hello")
        assert "could not be reached" in (await spine.texts(1))[0]
        await spine.chat.say("again")
        assert (await spine.texts(2))[1].endswith("You said: again")
    assert len(model.calls) == _TRIES + 1


async def test_a_model_that_says_nothing_is_given_up(spine: Spine, model: ScriptedModel) -> None:
    model.script(Reply.hang(until=anyio.Event()))
    async with spine.host(model_silence=0.2):
        await spine.chat.say("hello")
        assert "did not answer in time" in (await spine.texts(1))[0]
        await model.wait_for_abandoned()
        await spine.chat.say("again")
        assert (await spine.texts(2))[1].endswith("You said: again")


async def test_a_model_that_cannot_be_reached_is_told(spine: Spine) -> None:
    spine.variables |= {"ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
    async with spine.host():
        await spine.chat.say("hello")
        assert "could not be reached" in (await spine.texts(1))[0]


async def test_no_test_can_reach_a_real_model(spine: Spine) -> None:
    spine.variables |= {"ANTHROPIC_API_KEY": "sk-test"}
    async with spine.host():
        await spine.chat.say("hello")
        assert "NANOCLAW_REFUSE_REAL_MODELS" in (await spine.texts(1))[0]
