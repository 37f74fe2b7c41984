"""What tests of an action need: a host that writes down what it is asked, and the contract that every action keeps."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from nanoclaw_core.errors import ActionRefused, NanoClawError
from nanoclaw_core.filenames import clean_name, media_type
from nanoclaw_core.gateway.parameters import read_arguments, tool_of
from nanoclaw_core.models import AgentGroup, OutboundFile, OutboundKind, Sent
from nanoclaw_core.ports import Action, ActionCall

_AGENT: Final = AgentGroup(id="a1", name="Andy", folder="main", is_main=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What an action has queued: `about` is the message that it edits or reacts to, `files` are names and contents."""

    kind: OutboundKind
    text: str
    to: str
    about: str = ""
    choices: tuple[str, ...] = ()
    files: tuple[tuple[str, bytes], ...] = ()


class FakeActionHost:
    """An `ActionHost`: `said` is all that was queued, of calls with the same key once. `chats` are the destinations."""

    def __init__(self, chats: Sequence[str] = ("family",), here: str = "this chat") -> None:
        self.said: list[Said] = []
        self.chats = tuple(chats)
        self.here = here
        self._key = "call-1"
        self._known: dict[str, int] = {}

    def call(self, key: str = "call-1") -> ActionCall:
        """A call with this key; one at a time."""
        self._key = key
        return ActionCall(agent_group=_AGENT, session_id="session-1", key=key, host=self)

    async def carry_out(self, action: Action[Any], arguments: Mapping[str, Any], key: str = "call-1") -> str:
        """Call an action as an agent does, with JSON; a `pathlib.Path` among the arguments is a file that is handed over.

        Raises:
            NanoClawError: it refused. msgspec.ValidationError: the arguments are not its own.
        """
        given = {name: _given(value) for name, value in arguments.items()}
        return await action.handler(self.call(key), read_arguments(action, given))

    async def send(self, text: str, to: str | None = None, *, files: Sequence[OutboundFile] = ()) -> Sent:
        contents = tuple((file.name, file.path.read_bytes()) for file in files)
        if not text.strip() and not contents:
            raise ActionRefused("There is nothing to send: the text is empty.")
        return self._queue(Said(kind=OutboundKind.MESSAGE, text=text, to=self._name(to), files=contents))

    async def edit(self, message_id: str, text: str) -> Sent:
        if not re.fullmatch(r"s\d+", message_id):
            raise ActionRefused(f"There is no message of yours with the id {message_id!r}.")
        queued = self._queue(Said(kind=OutboundKind.EDIT, text=text, to=self.here, about=message_id))
        return Sent(to=queued.to, id=message_id)

    async def react(self, message_id: str, emoji: str) -> str:
        if not message_id.isdecimal():
            raise ActionRefused(f"You heard no message with the id {message_id!r}.")
        return self._queue(Said(kind=OutboundKind.REACTION, text=emoji, to=self.here, about=message_id)).to

    async def ask(self, question: str, choices: Sequence[str], to: str | None = None) -> Sent:
        if not 2 <= len(set(choices)) <= 10:
            raise ActionRefused("A question needs 2 to 10 different options.")
        return self._queue(Said(kind=OutboundKind.MESSAGE, text=question, to=self._name(to), choices=tuple(choices)))

    def _name(self, to: str | None) -> str:
        if to is not None and to not in self.chats:
            raise ActionRefused(f"There is no destination {to!r}. Known: {', '.join(self.chats) or 'none'}.")
        return to or self.here

    def _queue(self, said: Said) -> Sent:
        if self._key not in self._known:
            self.said.append(said)
            self._known[self._key] = len(self.said)
        number = self._known[self._key]
        return Sent(to=self.said[number - 1].to, id=f"s{number}")


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

    def test_an_agent_can_see_how_it_is_called(self, action: Action[Any]) -> None:
        tool = tool_of(action)
        assert re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]{0,47}", action.name)
        assert action.description.strip()
        assert json.loads(json.dumps(tool.schema))["type"] == "object"

    def test_every_parameter_is_described(self, action: Action[Any]) -> None:
        fields = tool_of(action).schema["properties"]
        assert [name for name, field in fields.items() if not field.get("description", "").strip()] == []

    async def test_a_call_is_answered(self, action: Action[Any], arguments: Mapping[str, Any], host: FakeActionHost) -> None:
        assert (await host.carry_out(action, arguments)).strip()

    async def test_an_argument_that_it_does_not_know_is_named(self, action: Action[Any], arguments: Mapping[str, Any]) -> None:
        with pytest.raises(msgspec.ValidationError, match="no_such_parameter"):
            read_arguments(action, {**arguments, "no_such_parameter": 1})

    async def test_what_it_refuses_it_gives_a_reason_for(
        self, action: Action[Any], refused: Sequence[Mapping[str, Any]], host: FakeActionHost
    ) -> None:
        for number, arguments in enumerate(refused):
            with pytest.raises((NanoClawError, msgspec.ValidationError)) as refusal:
                await host.carry_out(action, arguments, f"refused-{number}")
            assert str(refusal.value).strip()
        assert host.said == []

    async def test_with_the_same_key_it_says_nothing_twice(
        self, action: Action[Any], arguments: Mapping[str, Any], host: FakeActionHost
    ) -> None:
        """Only what calls itself idempotent is run again after a host died in it, and must then not do twice what it did."""
        await host.carry_out(action, arguments)
        said = list(host.said)
        if action.idempotent:
            await host.carry_out(action, arguments)
        assert host.said == said


def _given(value: object) -> object:
    """What the gateway makes of a file that was handed over."""
    if isinstance(value, Path):
        name = clean_name(value.name)
        return {"name": name, "path": str(value), "size": value.stat().st_size, "media_type": media_type(name)}
    return [_given(each) for each in value] if isinstance(value, list | tuple) else value
