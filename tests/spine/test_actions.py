"""An action has its effect once, whoever dies while it is called; and whoever goes on is told what was done."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import anyio
import pytest

from nanoclaw_core.host import Host
from nanoclaw_core.mailbox import Mailbox
from nanoclaw_core.ports import Action, ActionCall
from nanoclaw_core.testing import Reply, ScriptedModel
from tests.spine.spine import Spine, until

COUNT = "mcp__nanoclaw__count"
SEND = "mcp__nanoclaw__send_message"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is counted."""

    kind: str = "sheep"


@dataclass
class Counter:
    """An action whose effects can be counted; `accident` befalls the first one, when it has happened."""

    accident: Callable[[], None] = lambda: None
    counted: list[str] = field(default_factory=list)

    def action(self) -> Action[Kind]:
        return Action(name="count", description="Count.", parameters=Kind, handler=self._count)

    async def _count(self, call: ActionCall, parameters: Kind) -> str:
        self.counted.append(parameters.kind)
        if len(self.counted) == 1:
            self.accident()
        return f"That makes {len(self.counted)}."


@pytest.fixture
def counter(spine: Spine) -> Counter:
    counter = Counter()
    spine.actions = [counter.action()]
    return counter


def results(model: ScriptedModel) -> list[str]:
    """What the tools answered, as the last request shows it."""
    messages = model.calls[-1].json["messages"]
    blocks = [block for message in messages for block in message["content"] if isinstance(message["content"], list)]
    return [block["content"] for block in blocks if block["type"] == "tool_result"]


def notes(model: ScriptedModel) -> list[bool]:
    """Which of the requests speak of calls before a cut."""
    return ["<done_before>" in str(call.json["messages"]) for call in model.calls]


async def answered(spine: Spine, *texts: str) -> None:
    """All is said, once."""
    assert await spine.settled() == [(("message-1",), "answered")]
    assert [message.text for message in spine.chat.outbox] == list(texts)


@pytest.mark.parametrize("moment", ["in the handler", "when the outcome is stored"])
async def test_a_worker_that_dies_before_it_hears_of_its_call_has_a_successor_that_does(
    spine: Spine, model: ScriptedModel, counter: Counter, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Mailbox.end_call

    async def store_and_kill(self: Mailbox, key: str, result: str, is_error: bool) -> bool:
        done = await store(self, key, result, is_error)
        if len(counter.counted) == 1:
            spine.runtime.kill_all()
        return done

    if moment == "in the handler":
        counter.accident = spine.runtime.kill_all
    else:
        monkeypatch.setattr(Mailbox, "end_call", store_and_kill)
    model.script(*[Reply.tool(COUNT, {"kind": "sheep"}) for _ in range(2)], Reply.text("done"))
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("count")
        await answered(spine, "done")
    assert counter.counted == ["sheep"]
    (result,) = results(model)
    assert result.endswith("That makes 1.")
    assert notes(model) == [False, True, True]
    told = str(model.calls[1].json["messages"])
    assert (
        '<call tool="count" outcome="done"><arguments>{&quot;kind&quot;:&quot;sheep&quot;}</arguments>'
        "<result>That makes 1.</result></call>"
    ) in told


async def test_a_second_call_that_is_meant_is_carried_out(spine: Spine, model: ScriptedModel, counter: Counter) -> None:
    counter.accident = spine.runtime.kill_all
    model.script(*[Reply.tool(COUNT, {"kind": "sheep"}) for _ in range(3)], Reply.text("done"))
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("count twice")
        await answered(spine, "done")
    assert [text.rpartition("\n")[2] for text in results(model)] == ["That makes 1.", "That makes 2."]
    assert counter.counted == ["sheep"] * 2


async def test_a_call_that_the_conversation_holds_is_not_taken_for_the_next_one(
    spine: Spine, model: ScriptedModel, counter: Counter
) -> None:
    """The first result arrived, and the worker died later, while the model was asked what comes next."""
    model.script(Reply.tool(COUNT, {}), Reply.hang(), Reply.tool(COUNT, {}), Reply.text("done"))
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("count twice")
        await model.wait_for(2)
        spine.runtime.kill_all()
        await answered(spine, "done")
    assert results(model) == ["That makes 1.", "That makes 2."]
    assert counter.counted == ["sheep"] * 2


async def test_other_arguments_are_another_call(spine: Spine, model: ScriptedModel, counter: Counter) -> None:
    counter.accident = spine.runtime.kill_all
    model.script(*[Reply.tool(COUNT, {"kind": kind}) for kind in ("sheep", "goats")], Reply.text("done"))
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("count")
        await answered(spine, "done")
    assert counter.counted == ["sheep", "goats"]


async def test_words_that_a_dead_worker_sent_arrive_once_and_count_as_the_answer(
    spine: Spine, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Mailbox.add_outbound

    async def queue_and_kill(self: Mailbox, key: str, row: Any, **options: Any) -> bool:
        if done := await queue(self, key, row, **options):
            spine.runtime.kill_all()
        return done

    monkeypatch.setattr(Mailbox, "add_outbound", queue_and_kill)
    words = {"text": "1 < 2"}
    model.script(*[Reply.tool(SEND, words) for _ in range(2)], Reply.text("<internal>all is said</internal>"))
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("speak")
        await answered(spine, "1 < 2")
    assert '<said to="family">1 &lt; 2</said>' in str(model.calls[1].json["messages"])


async def test_a_successor_that_has_nothing_to_be_told_is_told_nothing(spine: Spine, model: ScriptedModel) -> None:
    model.script(Reply.hang(), Reply.text("done"))
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("hello")
        await model.wait_for(1)
        spine.runtime.kill_all()
        await answered(spine, "done")
    assert notes(model) == [False, False]


async def test_a_host_that_dies_in_the_handler_leaves_a_call_of_unknown_outcome(spine: Spine, model: ScriptedModel) -> None:
    began, leave = anyio.Event(), anyio.Event()
    counted: list[str] = []

    async def count(call: ActionCall, _: Kind) -> str:
        counted.append(call.key)
        began.set()
        await leave.wait()
        return "never heard"

    spine.actions = [Action(name="count", description="Count.", parameters=Kind, handler=count)]
    model.script(Reply.tool(COUNT, {}), Reply.text("done"))
    async with spine.killed_host():
        await spine.chat.say("count")
        await began.wait()
    async with spine.host():
        await answered(spine, "done")
        leave.set()
    (result,) = results(model)
    assert "whether it had an effect is not known" in result
    assert len(counted) == 1


async def test_a_call_of_unknown_outcome_is_told_to_the_successor(spine: Spine, model: ScriptedModel) -> None:
    """First the host dies in the handler, then its worker, before it has asked again."""
    began, leave = anyio.Event(), anyio.Event()

    async def count(call: ActionCall, _: Kind) -> str:
        began.set()
        await leave.wait()
        return "never heard"

    spine.actions = [Action(name="count", description="Count.", parameters=Kind, handler=count)]
    model.script(Reply.tool(COUNT, {}), Reply.text("done"))
    async with spine.killed_host():
        await spine.chat.say("count")
        await began.wait()
    spine.runtime.kill_all()
    async with spine.host():
        await answered(spine, "done")
        leave.set()
    assert '<call tool="count" outcome="unknown"><arguments>{}</arguments></call>' in str(model.calls[-1].json["messages"])


async def test_a_request_that_arrives_twice_is_carried_out_once(spine: Spine, model: ScriptedModel, counter: Counter) -> None:
    async with spine.host() as host:
        await spine.chat.say("hello")
        await spine.settled()
        answers = [await post(host, "toolu_1") for _ in range(2)]
    assert answers == ["That makes 1."] * 2
    assert counter.counted == ["sheep"]


async def post(host: Host, call_id: str) -> str:
    """Call the action from inside the only worker, as its engine does."""
    (shift,) = host.pool.shifts
    assert shift.life is not None
    path = host.settings.home / "workers" / shift.life.worker_id / "gateway.sock"
    params = {"name": "count", "arguments": {}, "_meta": {"claudecode/toolUseId": call_id}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as client,
        client.post("http://gateway/mcp", json=message) as answer,
    ):
        return str((await answer.json())["result"]["content"][0]["text"])


async def test_the_tools_of_a_turn_are_kept_for_whoever_asks_later(spine: Spine, model: ScriptedModel) -> None:
    model.script(Reply.tool("Bash", {"command": "echo hi"}), Reply.text("done"))
    async with spine.host() as host:
        await spine.chat.say("hello")
        await answered(spine, "done")
        (shift,) = host.pool.shifts
        assert shift.life is not None
        worker = shift.life.worker_id
        with closing(sqlite3.connect(host.settings.home / shift.session.folder / "outbound.db")) as connection:
            query = "SELECT about, detail FROM steps WHERE kind = 'tool'"
            await until(lambda: connection.execute(query).fetchall())
            assert connection.execute(query).fetchall() == [(worker, "Bash: echo hi")]
