"""An answer of the real Claude Code is seen while a slow model writes it."""

from __future__ import annotations

from functools import partial

import anyio
import pytest

from nanoclaw_core.testing import FakeStreamingChannel, Reply, ScriptedModel
from tests.container.house import living_host
from tests.container.test_spine import claude
from tests.spine.spine import wire

pytestmark = pytest.mark.container


async def test_an_answer_is_shown_before_its_end_and_replaced_once(nanoclaw_scripted_model: ScriptedModel) -> None:
    chat, seen = FakeStreamingChannel(), anyio.Event()
    nanoclaw_scripted_model.script(Reply.stream("It is <internal>hard", seen, "</internal>forty-two."))
    async with living_host(claude(nanoclaw_scripted_model), channels=[chat]) as person:
        await person.host.database.write(partial(wire, chat="chat-1", name="Family"))
        await chat.say("six times seven?")
        assert await chat.drafted(1) == ["It is"]
        seen.set()
        await chat.settlement()
    assert chat.screen == {"preview-1": "It is forty-two."}
    assert [message.replaces for message in chat.outbox] == ["preview-1"]
