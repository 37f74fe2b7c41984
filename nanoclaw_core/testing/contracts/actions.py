"""The contract of what an agent may ask of the host."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

from nanoclaw_core.errors import NanoClawError
from nanoclaw_core.gateway.parameters import read_arguments, tool_of
from nanoclaw_core.ports import Action
from nanoclaw_core.testing.actions import FakeActionHost
from nanoclaw_core.testing.contracts.report import capability, not_claimed


@pytest.mark.anyio
class ActionContract:
    """The rules of an `Action`. Inherit, name the class Test…, and supply the fixtures `action` and `arguments`.

    Perhaps also `refused`, arguments with which it must refuse, and `host`. A `pathlib.Path` among the arguments is a file.
    """

    @pytest.fixture
    def action(self) -> Action[Any]:
        raise NotImplementedError("a fixture `action` that returns the action under test")

    @pytest.fixture
    def arguments(self) -> Mapping[str, Any]:
        raise NotImplementedError("a fixture `arguments` that returns arguments as an agent would give them")

    @pytest.fixture
    def refused(self) -> Sequence[Mapping[str, Any]]:
        """Arguments of the right types which the action has to refuse."""
        return ()

    @pytest.fixture
    def host(self) -> FakeActionHost:
        return FakeActionHost()

    @capability("description")
    def test_an_agent_can_see_how_it_is_called(self, action: Action[Any]) -> None:
        tool = tool_of(action)
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,47}", action.name)
        assert action.description.strip()
        assert json.loads(json.dumps(tool.schema))["type"] == "object"

    @capability("description")
    def test_every_parameter_is_described(self, action: Action[Any]) -> None:
        fields = tool_of(action).schema["properties"]
        assert [name for name, field in fields.items() if not field.get("description", "").strip()] == []

    @capability("calls")
    async def test_a_call_is_answered(self, action: Action[Any], arguments: Mapping[str, Any], host: FakeActionHost) -> None:
        assert (await host.carry_out(action, arguments)).strip()

    @capability("calls")
    async def test_an_argument_that_it_does_not_know_is_named(self, action: Action[Any], arguments: Mapping[str, Any]) -> None:
        with pytest.raises(msgspec.ValidationError, match="no_such_parameter"):
            read_arguments(action, {**arguments, "no_such_parameter": 1})

    @capability("refusals")
    async def test_what_it_refuses_it_gives_a_reason_for(
        self, action: Action[Any], refused: Sequence[Mapping[str, Any]], host: FakeActionHost
    ) -> None:
        if not refused:
            not_claimed("this test names nothing that is `refused`")
        for number, arguments in enumerate(refused):
            with pytest.raises((NanoClawError, msgspec.ValidationError)) as refusal:
                await host.carry_out(action, arguments, f"refused-{number}")
            assert str(refusal.value).strip()
        assert host.said == []

    @capability("repetition")
    async def test_with_the_same_key_it_says_nothing_twice(
        self, action: Action[Any], arguments: Mapping[str, Any], host: FakeActionHost
    ) -> None:
        """Only what calls itself idempotent is run again after a host died in it, and must then not do twice what it did."""
        await host.carry_out(action, arguments)
        said = list(host.said)
        if action.idempotent:
            await host.carry_out(action, arguments)
        assert host.said == said
