"""The host as an action sees it: one that writes down what it is asked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nanoclaw_core.errors import ActionRefused
from nanoclaw_core.filenames import clean_name, media_type
from nanoclaw_core.gateway.parameters import read_arguments
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


def _given(value: object) -> object:
    """What the gateway makes of a file that was handed over."""
    if isinstance(value, Path):
        name = clean_name(value.name)
        return {"name": name, "path": str(value), "size": value.stat().st_size, "media_type": media_type(name)}
    return [_given(each) for each in value] if isinstance(value, list | tuple) else value
