"""An action that Claude Code calls is carried out once, also when its container is killed before the result arrives."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from nanoclaw_core.ports import Action, ActionCall
from nanoclaw_core.testing import Reply, ScriptedModel
from tests.container.house import Person, container_of, docker, living_host

pytestmark = pytest.mark.container

COUNT = "mcp__nanoclaw__count"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What is counted."""

    kind: str


@dataclass
class Counter:
    """Appends a line to `file`, and then, at the first one, kills the container that asked for it."""

    file: Path
    caller: Callable[[], Person]

    def action(self) -> Action[Kind]:
        return Action(name="count", description="Count.", parameters=Kind, handler=self._count)

    async def _count(self, call: ActionCall, parameters: Kind) -> str:
        with self.file.open("a") as file:
            file.write(f"{parameters.kind}\n")
        if (number := len(self.lines)) == 1:
            await to_thread.run_sync(docker, "kill", container_of(self.caller()))
        return f"That makes {number}."

    @property
    def lines(self) -> list[str]:
        return self.file.read_text().splitlines()


def results(request: Any) -> list[str]:
    """What tools have answered, in the conversation that `request` holds."""
    blocks = [block for message in request["messages"] for block in message["content"] if isinstance(block, dict)]
    return [block["content"][0]["text"] for block in blocks if block["type"] == "tool_result"]


async def test_a_call_whose_container_is_killed_has_one_effect_and_its_result_reaches_the_next(
    nanoclaw_scripted_model: ScriptedModel, tmp_path: Path
) -> None:
    """Claude Code forgets a call that has no result, and the model makes it again, with an id of its own."""
    model, people = nanoclaw_scripted_model, list[Person]()
    counter = Counter(tmp_path / "counted", lambda: people[0])
    variables = {"ANTHROPIC_API_KEY": "none", "ANTHROPIC_BASE_URL": model.url}
    async with living_host(variables, actions=[counter.action()]) as person:
        people.append(person)
        model.script(*[Reply.tool(COUNT, {"kind": "sheep"}) for _ in range(3)], Reply.text("done"))
        assert await person.ask("count, and then once more") == ["done"]
    assert counter.lines == ["sheep", "sheep"]  # the first, and the one that was meant
    first, again, *_, last = [call.json for call in model.calls]
    assert results(again) == []
    assert [text.rpartition("\n")[2] for text in results(last)] == ["That makes 1.", "That makes 2."]
    told = '<call tool="count" outcome="done"><arguments>{&quot;kind&quot;:&quot;sheep&quot;}</arguments>'
    assert [told in str(request["messages"]) for request in (first, again, last)] == [False, True, True]
