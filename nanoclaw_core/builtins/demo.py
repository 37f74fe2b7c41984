"""A model without a model: it repeats what it hears and calls the tools it is told to, so that nobody needs a key to begin.

The provider `demo` answers the Messages API inside the host. The real Claude Code in a real container talks to it:

    hello                    is answered "You said: hello"
    !bash COMMAND            calls Claude Code's Bash tool and repeats what it printed
    !tool NAME JSON          calls any tool with that input; `send_message` is short for `mcp__nanoclaw__send_message`

Texts are repeated as they were written, before the host escaped them. A text such as `<message to="x">…</message>` therefore
works as an address in the answer: that is how to try addressing without a key.
"""

from __future__ import annotations

import html
import json
import re
import uuid
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from nanoclaw_core.hookspecs import hookimpl
from nanoclaw_core.models import ModelRequest
from nanoclaw_core.ports import ModelResponse, Provider, ProviderContext, ProviderFactory

MODEL: Final = "demo"
Json = dict[str, Any]  # Any: JSON of a format that we do not own

_REMINDER: Final = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_FOLDED_IN: Final = "The user sent a new message while you were working:"
_MESSAGE: Final = re.compile(r"<message\b[^>]*>(.*?)</message>", re.DOTALL)
_QUOTE: Final = re.compile(r"^\s*<quoted_message\b[^>]*>.*?</quoted_message>\n?", re.DOTALL)
_INTERRUPTED: Final = "[Request interrupted by user"
_OUR_CALL: Final = re.compile(r"toolu_demo_(\d+)_\w+")
_SHORT_NAME: Final = "mcp__nanoclaw__{}"
_SEARCH: Final = "ToolSearch"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the model says: blocks of the Messages API, and why it stopped."""

    blocks: tuple[Json, ...]
    stop_reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A tool call that a person asked for."""

    tool: str
    input: Json


def say(*texts: str) -> Answer:
    return Answer(blocks=({"type": "text", "text": "\n\n".join(texts)},), stop_reason="end_turn")


def call(tool: str, tool_input: Json, *, call_id: str | None = None) -> Answer:
    block = {"type": "tool_use", "id": call_id or f"toolu_{uuid.uuid4().hex}", "name": tool, "input": tool_input}
    return Answer(blocks=(block,), stop_reason="tool_use")


def reply_to(request: Mapping[str, Any]) -> Answer:
    """What the demo model answers to a request of the Messages API, from the request alone.

    Every message since the last answer is answered, in order, each tool in a call of its own; then all answers come together.
    """
    if not request.get("tools"):  # Claude Code asks on its own behalf: a title, a summary of a web page
        return say(_harmless(request))
    open_turn = _open_turn(request.get("messages") or [])
    answers: list[str] = []
    for index, text in enumerate(_heard(open_turn)):
        step = _take(index, text, request, open_turn)
        if isinstance(step, Answer):
            return step
        answers.append(step)
    return say(*(answers or ["I heard nothing."]))


def _take(index: int, text: str, request: Mapping[str, Any], open_turn: Sequence[Json]) -> Answer | str:
    """Answer one message with words, or with the call that has to come first."""
    wanted = _directive(text)
    if isinstance(wanted, str):
        return wanted
    results = _results(index, open_turn)
    offered = {tool.get("name") for tool in request["tools"] if isinstance(tool, dict)}
    for name in (wanted.tool, _SHORT_NAME.format(wanted.tool)):
        if name in results:
            return results[name]
        if name in offered:
            return call(name, wanted.input, call_id=_call_id(index))
    if _SEARCH in offered and _SEARCH not in results:  # Claude Code may keep tools back until they are looked for
        query = f"select:{wanted.tool},{_SHORT_NAME.format(wanted.tool)}"
        return call(_SEARCH, {"query": query}, call_id=_call_id(index))
    return f"There is no tool named {wanted.tool}. There are: {', '.join(sorted(filter(None, offered)))}."


def _directive(text: str) -> Call | str:
    """The call that `text` asks for, or the words that answer it."""
    command, _, rest = text.strip().partition(" ")
    if command == "!bash" and rest.strip():
        return Call(tool="Bash", input={"command": rest.strip(), "description": "What the person asked for"})
    if command != "!tool" or not rest.strip():
        return f"You said: {text}"
    name, _, raw = rest.strip().partition(" ")
    try:
        tool_input = json.loads(raw or "{}")
    except ValueError as error:
        return f"The input of {name} is no JSON: {error}"
    return Call(tool=name, input=tool_input) if isinstance(tool_input, dict) else f"The input of {name} must be a JSON object."


def _open_turn(messages: Sequence[Json]) -> list[Json]:
    """The messages since the last answer: what comes after words without a tool call, or after an interruption."""
    start = 0
    for position, message in enumerate(messages):
        blocks = _blocks(message)
        answers = message.get("role") == "assistant" and all(block.get("type") != "tool_use" for block in blocks)
        if answers or any(str(block.get("text", "")).startswith(_INTERRUPTED) for block in blocks):
            start = position + 1
    return list(messages[start:])


def _heard(messages: Iterable[Json]) -> list[str]:
    """The texts of people, in order. Where the host wrapped messages, only those count: Claude Code adds words of its own."""
    texts = [text for message in messages for text in _spoken(message)]
    wrapped = [html.unescape(_QUOTE.sub("", body)) for text in texts for body in _MESSAGE.findall(text)]
    return wrapped or [text.strip() for text in texts if text.strip()]


def _spoken(message: Json) -> Iterator[str]:
    """What may come from people: words of the user, and what Claude Code says they wrote while it was at work."""
    for text in _texts(message):
        if message.get("role") == "user":
            yield _REMINDER.sub("", text)
        for aside in [text] if message.get("role") == "system" else _REMINDER.findall(text):
            yield from aside.split(_FOLDED_IN)[1:]


def _texts(message: Json) -> list[str]:
    return [str(block.get("text", "")) for block in _blocks(message) if block.get("type") == "text"]


def _blocks(message: Json) -> list[Json]:
    content = message.get("content") or []
    return [{"type": "text", "text": content}] if isinstance(content, str) else [b for b in content if isinstance(b, dict)]


def _call_id(index: int) -> str:
    """The number of the message that asked is in the id, so that results find their way back without any memory here."""
    return f"toolu_demo_{index}_{uuid.uuid4().hex}"


def _results(index: int, messages: Iterable[Json]) -> dict[str, str]:
    """What the tools answered that were called for message `index`, by tool."""
    called: dict[str, str] = {}
    answered: dict[str, str] = {}
    for block in (block for message in messages for block in _blocks(message)):
        if block.get("type") == "tool_use" and (ours := _OUR_CALL.fullmatch(str(block.get("id")))) and int(ours[1]) == index:
            called[str(block["id"])] = str(block.get("name"))
        elif block.get("type") == "tool_result" and block.get("tool_use_id") in called:
            answered[called[block["tool_use_id"]]] = _printed(block)
    return answered


def _printed(result: Json) -> str:
    return _REMINDER.sub("", "\n".join(_texts(result))).strip() or "(no output)"


def _harmless(request: Mapping[str, Any]) -> str:
    """Words for a request without tools; JSON with them in every field, where JSON was asked for."""
    words = "A conversation with the demo model"
    schema = ((request.get("output_config") or {}).get("format") or request.get("output_format") or {}).get("schema")
    return json.dumps(dict.fromkeys(schema.get("properties", {}), words)) if isinstance(schema, dict) else words


# --- the shape of the Messages API ----------------------------------------------------------------------------------------


def message(request: Mapping[str, Any], answer: Answer) -> Json:
    """`answer` as one message, for a request that does not want a stream."""
    usage = {
        "input_tokens": count_tokens(request),
        "output_tokens": sum(len(json.dumps(block)) for block in answer.blocks) // 4 + 1,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
    }
    return {
        "id": f"msg_{uuid.uuid4().hex}",
        "type": "message",
        "role": "assistant",
        "model": str(request.get("model") or MODEL),
        "content": list(answer.blocks),
        "stop_reason": answer.stop_reason,
        "stop_sequence": None,
        "usage": usage,
    }


def events(request: Mapping[str, Any], answer: Answer) -> Iterator[bytes]:
    """`answer` as server-sent events, one at a time (https://docs.anthropic.com/en/docs/build-with-claude/streaming)."""
    whole = message(request, answer)
    yield _event("message_start", message={**whole, "content": [], "stop_reason": None})
    for index, block in enumerate(answer.blocks):
        if block["type"] == "text":
            empty, delta = {**block, "text": ""}, {"type": "text_delta", "text": block["text"]}
        else:
            empty, delta = {**block, "input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
        yield _event("content_block_start", index=index, content_block=empty)
        yield _event("content_block_delta", index=index, delta=delta)
        yield _event("content_block_stop", index=index)
    stop = {"stop_reason": answer.stop_reason, "stop_sequence": None}
    yield _event("message_delta", delta=stop, usage={"output_tokens": whole["usage"]["output_tokens"]})
    yield _event("message_stop")


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def count_tokens(request: Mapping[str, Any]) -> int:
    """A guess at the size of a request: four bytes to a token."""
    return len(json.dumps(request)) // 4


class Demo:
    """The provider `demo`."""

    paths = frozenset({"/v1/messages", "/v1/messages/count_tokens"})

    @asynccontextmanager
    async def respond(self, request: ModelRequest) -> AsyncIterator[ModelResponse]:
        document = json.loads(request.body)
        if request.path.endswith("/count_tokens"):
            yield _json({"input_tokens": count_tokens(document)})
        elif document.get("stream"):
            headers = {"content-type": "text/event-stream"}
            yield ModelResponse(status=200, headers=headers, chunks=_each(events(document, reply_to(document))))
        else:
            yield _json(message(document, reply_to(document)))

    async def models(self) -> Sequence[str]:
        return [MODEL]


def _json(document: Json) -> ModelResponse:
    headers = {"content-type": "application/json"}
    return ModelResponse(status=200, headers=headers, chunks=_each([json.dumps(document).encode()]))


async def _each(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def create(_context: ProviderContext) -> Provider:
    return Demo()


@hookimpl
def nanoclaw_providers() -> Iterable[ProviderFactory]:
    return [ProviderFactory(name="demo", summary="Repeats what you say and runs `!bash COMMAND`: no key needed", create=create)]
