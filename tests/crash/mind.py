"""The model of a crash test: it does what each numbered message asks for, step by step, and answers with the number.

A message reads `#7 bash count say`: append 7 to a file with Bash, call the action `count`, say "note 7" with `send_message`;
then the answer is "reply 7". What was done is read off the request alone, so that it does not matter who died in between. A
call whose result is an error is made again, as a model that wants its work done would.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from nanoclaw_core.builtins import demo

STEPS: Final = ("bash", "count", "say")
MOST_TRIES: Final = 4
COUNTER: Final = "counted"  # the file that Bash appends to, in the agent's workspace

Json = dict[str, Any]  # Any: JSON of the Messages API

_ASKED: Final = re.compile(r"#(\d+)((?: [a-z]+)*)")
_CALL: Final = re.compile(r"toolu_crash_(\d+)_([a-z]+)_\w+")
_TOOLS: Final = {"bash": "Bash", "count": "mcp__nanoclaw__count", "say": "mcp__nanoclaw__send_message"}


@dataclass(frozen=True, kw_only=True)
class Thought:
    """What the model answers, and what it is about: the message and the step, empty for the last words."""

    answer: demo.Answer
    number: int | None = None
    step: str = ""


@dataclass(kw_only=True)
class _Record:
    """The calls of one step of one message."""

    tries: int = 0
    is_done: bool = False


@dataclass(kw_only=True)
class _Open:
    records: dict[tuple[int, str], _Record] = field(default_factory=dict)

    def of(self, number: int, step: str) -> _Record:
        return self.records.setdefault((number, step), _Record())


def text_of(number: int, steps: tuple[str, ...]) -> str:
    """The message that asks for these steps."""
    return " ".join((f"#{number}", *steps))


def think(request: Mapping[str, Any]) -> Thought:
    """The answer to a request of the Messages API."""
    if not request.get("tools"):
        return Thought(answer=demo.reply_to(request))
    turn = demo._open_turn(request.get("messages") or [])
    offered = {tool["name"] for tool in request["tools"] if tool.get("name")}
    done = _done(turn)
    heard = _heard(turn)
    for number, steps in heard.items():
        for step in steps:
            record = done.of(number, step)
            if not record.is_done and record.tries < MOST_TRIES:
                return Thought(answer=_call(number, step, offered, done), number=number, step=step)
    words = [f"reply {number}" for number in heard] or ["I heard nothing."]
    return Thought(answer=demo.say(", ".join(words)), number=next(reversed(heard), None))


def _heard(turn: list[Json]) -> dict[int, list[str]]:
    """The numbered messages of the turn and their steps, each once."""
    asked = (match for text in demo._heard(turn) for match in _ASKED.finditer(text))
    return {int(match[1]): [step for step in match[2].split() if step in STEPS] for match in asked}


def _done(turn: list[Json]) -> _Open:
    found = _Open()
    for block in (block for message in turn for block in demo._blocks(message)):
        if block.get("type") == "tool_use" and (call := _CALL.fullmatch(str(block.get("id")))):
            found.of(int(call[1]), call[2]).tries += 1
        elif block.get("type") == "tool_result" and (call := _CALL.fullmatch(str(block.get("tool_use_id")))):
            found.of(int(call[1]), call[2]).is_done |= not block.get("is_error")
    return found


def _call(number: int, step: str, offered: set[str], done: _Open) -> demo.Answer:
    name = _TOOLS[step]
    if name not in offered and demo._SEARCH in offered and not done.of(number, f"search{step}").is_done:
        return demo.call(demo._SEARCH, {"query": f"select:{name}"}, call_id=_id(number, f"search{step}"))
    words: Json
    match step:
        case "bash":
            words = {"command": f"echo {number} >> {COUNTER}; sleep 0.3", "description": "Append the number"}
        case "count":
            words = {"number": number}
        case _:
            words = {"text": f"note {number}"}
    return demo.call(name, words, call_id=_id(number, step))


def _id(number: int, step: str) -> str:
    return f"toolu_crash_{number}_{step}_{uuid.uuid4().hex[:12]}"
