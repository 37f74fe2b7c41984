"""What a conversation costs is in the books, a used-up budget is told in the chat, and `/usage` is answered by the host."""

from __future__ import annotations

from functools import partial
from typing import Any

import anyio
import pytest

from nanoclaw_core.host import Host
from nanoclaw_core.models import InboundKind
from nanoclaw_core.store import spending
from nanoclaw_core.store.spending import Total
from nanoclaw_core.testing import Reply, ScriptedModel
from tests.spine.spine import Spine, routed, until


async def totals(host: Host, by: str = "agent") -> list[Total]:
    return await host.database.read(partial(spending.totals, by=by))


async def budget(host: Host, **limits: Any) -> None:
    await host.operations["budget.set"]({"agent": "Andy", **limits})


async def test_every_call_of_a_turn_is_in_the_books_of_its_agent_and_session(spine: Spine, model: ScriptedModel) -> None:
    async with spine.host() as host:
        await spine.chat.say("hello")
        await spine.settled()
        (total,) = await totals(host)
        assert (total.key, total.calls, total.incomplete) == ("Andy", len(model.calls), 0)
        assert total.input_tokens > 0
        assert total.output_tokens > 0
        (session,) = await totals(host, "session")
        assert session.key


async def test_a_used_up_budget_ends_the_turn_at_once_and_is_told_in_the_chat(spine: Spine, model: ScriptedModel) -> None:
    async with spine.host() as host:
        await budget(host, per_day=1, unit="tokens")
        await spine.chat.say("hello")
        await spine.settled()
        calls = len(model.calls)
        await spine.chat.say("again")
        (notice,) = (text for text in await spine.texts(3) if "could not" in text)  # beside the warning
        assert notice.startswith("⚠️ I could not answer. NanoClaw’s budget: Andy has used up what it may spend in a day")
        assert "no credit" not in notice
        assert len(model.calls) == calls
        await budget(host, per_day=1_000_000, unit="tokens")
        await spine.chat.say("and now")
        assert (await spine.texts(4))[3].endswith("You said: and now")


async def test_the_owner_is_told_when_the_share_is_reached(spine: Spine, model: ScriptedModel) -> None:
    async with spine.host() as host:
        await budget(host, per_day=1, unit="tokens", warn_percent=10)
        await spine.chat.say("hello")
        texts = await spine.texts(2)
        assert any("Andy has spent" in text and "that its budget allows today" in text for text in texts)


async def test_usage_is_answered_by_the_host_without_a_worker(spine: Spine) -> None:
    async with spine.host() as host:
        await spine.chat.say("/usage")
        assert (await spine.texts(1))[0] == "**Andy** today: nothing\nLast 30 days: nothing"
        assert await spine.settled() == [(("message-1",), "answered")]
        assert spine.runtime.documents == []
        await spine.chat.say("hello")
        await spine.settled(2)
        await until(lambda: not any(account.holds for account in host.ledger._accounts.values()))
        await budget(host, per_day=5_000_000_000, unit="usd")
        await spine.chat.say("/usage@andy_bot")
        text = (await spine.texts(3))[2]
        assert "today: $0.00 (1 call" in text  # the demo is free, whatever model it is asked for
        assert "Budget: $0.00 of $5.00 today" in text


async def test_usage_is_no_business_of_a_chat_that_nobody_wired_nor_of_a_button(spine: Spine) -> None:
    async with spine.host() as host:
        await spine.chat.say("/usage", chat="strangers")
        await spine.chat.say("/usage", kind=InboundKind.ANSWER, about="1")
        await routed(host)
        await spine.chat.say("hello")
        await spine.settled()
    assert [message.text for message in spine.chat.outbox if "today" in message.text] == []


@pytest.mark.parametrize("reply", [Reply.hang(80), Reply.hang(300)], ids=["before its usage", "after it"])
async def test_a_turn_that_is_stopped_is_in_the_books_as_incomplete(spine: Spine, model: ScriptedModel, reply: Reply) -> None:
    model.script(reply)
    async with spine.host() as host:
        await spine.chat.say("hello")
        await model.wait_for(1)
        await spine.chat.say("/stop")
        await model.wait_for_abandoned()
        with anyio.fail_after(30):
            while not (found := await totals(host)):  # noqa: ASYNC110  # nobody announces it
                await anyio.sleep(0.001)
        assert (found[0].calls, found[0].incomplete) == (1, 1)
