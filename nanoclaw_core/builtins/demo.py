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
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import anyio.to_thread
import msgspec

from nanoclaw_core.errors import ModelUnavailable
from nanoclaw_core.hookspecs import hookimpl
from nanoclaw_core.models import ModelRequest
from nanoclaw_core.ports import ModelResponse, Provider, ProviderContext, ProviderFactory

MODEL: Final = "demo"
Json = dict[str, Any]  # Any: JSON of a format that we do not own

_REMINDER: Final = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_REMINDER_END: Final = "</system-reminder>"
_FOLDED_IN: Final = "The user sent a new message while you were working:"
_MESSAGE: Final = re.compile(r"<message\b[^<>]*>(.*?)</message>", re.DOTALL)
_MESSAGE_END: Final = "</message>"
_QUOTE: Final = re.compile(r"^\s*<quoted_message\b[^>]*>.*?</quoted_message>\n?", re.DOTALL)
_INTERRUPTED: Final = "[Request interrupted by user"
_OUR_CALL: Final = re.compile(r"toolu_demo_(\d{1,9})_\w+")
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
    offered = {tool["name"] for tool in request["tools"] if tool.get("name")}
    results = _results(open_turn)
    answers: list[str] = []
    for index, text in enumerate(_heard(open_turn)):
        step = _take(index, text, offered, results)
        if isinstance(step, Answer):
            return step
        answers.append(step)
    return say(*(answers or ["I heard nothing."]))


def _take(index: int, text: str, offered: Set[str], results: Mapping[tuple[int, str], str]) -> Answer | str:
    """Answer one message with words, or with the call that has to come first."""
    wanted = _directive(text)
    if isinstance(wanted, str):
        return wanted
    for name in (wanted.tool, _SHORT_NAME.format(wanted.tool)):
        if (index, name) in results:
            return results[index, name]
        if name in offered:
            return call(name, wanted.input, call_id=_call_id(index))
    if _SEARCH in offered and (index, _SEARCH) not in results:  # Claude Code may keep tools back until they are looked for
        query = f"select:{wanted.tool},{_SHORT_NAME.format(wanted.tool)}"
        return call(_SEARCH, {"query": query}, call_id=_call_id(index))
    return f"There is no tool named {wanted.tool}. There are: {', '.join(sorted(offered))}."


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
    except RecursionError:
        return f"The input of {name} is nested too deeply."
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
    wrapped = [html.unescape(_QUOTE.sub("", body)) for text in texts for body in _MESSAGE.findall(_closed(text, _MESSAGE_END))]
    return wrapped or [text.strip() for text in texts if text.strip()]


def _spoken(message: Json) -> Iterator[str]:
    """What may come from people: words of the user, and what Claude Code says they wrote while it was at work."""
    for text in _texts(message):
        if message.get("role") == "user":
            yield _without_reminders(text)
        for aside in [text] if message.get("role") == "system" else _REMINDER.findall(_closed(text, _REMINDER_END)):
            yield from aside.split(_FOLDED_IN)[1:]


def _texts(message: Json) -> list[str]:
    return [str(block.get("text", "")) for block in _blocks(message) if block.get("type") == "text"]


def _blocks(message: Json) -> list[Json]:
    content = message.get("content") or []
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []


def _call_id(index: int) -> str:
    """The number of the message that asked is in the id, so that results find their way back without any memory here."""
    return f"toolu_demo_{index}_{uuid.uuid4().hex}"


def _results(messages: Iterable[Json]) -> dict[tuple[int, str], str]:
    """What the tools answered that were called, by the number of the message that asked and the tool."""
    called: dict[str, tuple[int, str]] = {}
    answered: dict[tuple[int, str], str] = {}
    for block in (block for message in messages for block in _blocks(message)):
        if block.get("type") == "tool_use" and (ours := _OUR_CALL.fullmatch(str(block.get("id")))):
            called[str(block["id"])] = int(ours[1]), str(block.get("name"))
        elif block.get("type") == "tool_result" and (asked := called.get(str(block.get("tool_use_id")))):
            answered[asked] = _printed(block)
    return answered


def _printed(result: Json) -> str:
    return _without_reminders("\n".join(_texts(result))).strip() or "(no output)"


def _without_reminders(text: str) -> str:
    closed = _closed(text, _REMINDER_END)
    return _REMINDER.sub("", closed) + text[len(closed) :]


def _closed(text: str, end: str) -> str:
    """`text` up to the last `end`. Beyond it every opened tag would be searched in vain, each through the whole rest."""
    return text[: text.rfind(end) + len(end)] if end in text else ""


def _harmless(request: Mapping[str, Any]) -> str:
    """Words for a request without tools; JSON with them in every field, where JSON was asked for."""
    words = "A conversation with the demo model"
    schema = ((request.get("output_config") or {}).get("format") or request.get("output_format") or {}).get("schema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return json.dumps(dict.fromkeys(properties, words)) if isinstance(properties, dict) else words


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
            empty, delta = {**block, "text": ""}, text_delta(index, block["text"])
        else:
            empty, written = {**block, "input": {}}, {"type": "input_json_delta", "partial_json": json.dumps(block["input"])}
            delta = _event("content_block_delta", index=index, delta=written)
        yield _event("content_block_start", index=index, content_block=empty)
        yield delta
        yield _event("content_block_stop", index=index)
    stop = {"stop_reason": answer.stop_reason, "stop_sequence": None}
    yield _event("message_delta", delta=stop, usage={"output_tokens": whole["usage"]["output_tokens"]})
    yield _event("message_stop")


def text_delta(index: int, text: str) -> bytes:
    """The event that goes on with the text of a block."""
    return _event("content_block_delta", index=index, delta={"type": "text_delta", "text": text})


def _event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def count_tokens(request: Mapping[str, Any]) -> int:
    """A guess at the size of a request: four bytes to a token."""
    return len(json.dumps(request)) // 4


class _Message(msgspec.Struct):
    role: str
    content: str | list[Json] | None = None


class _Format(msgspec.Struct):
    schema: Json | None = None


class _Settings(msgspec.Struct):
    format: _Format | None = None


class _Tool(msgspec.Struct):
    name: str | None = None


class _Request(msgspec.Struct):
    """As much of the Messages API as is looked at here."""

    messages: list[_Message] = []
    tools: list[_Tool] | None = None
    output_config: _Settings | None = None
    output_format: _Format | None = None
    stream: bool | None = None


class Demo:
    """The provider `demo`."""

    paths = frozenset({"/v1/messages", "/v1/messages/count_tokens"})

    def __init__(self) -> None:
        self._turn = anyio.CapacityLimiter(1)

    @asynccontextmanager
    async def respond(self, request: ModelRequest) -> AsyncIterator[ModelResponse]:
        """In a thread, because a conversation can be long."""
        yield await anyio.to_thread.run_sync(_respond, request, limiter=self._turn)

    async def models(self) -> Sequence[str]:
        return [MODEL]


def _respond(request: ModelRequest) -> ModelResponse:
    try:
        return _answer(request.path, json.loads(request.body))
    except (ValueError, RecursionError) as error:
        reason = str(error)
    # Not raised from the error, whose traceback would keep the whole conversation.
    raise ModelUnavailable(f"The demo model cannot read this request: {reason}", status=400, retry=False)


def _answer(path: str, document: Json) -> ModelResponse:
    msgspec.convert(document, _Request)
    if path.endswith("/count_tokens"):
        return _json({"input_tokens": count_tokens(document)})
    answer = reply_to(document)
    if document.get("stream"):
        headers = {"content-type": "text/event-stream"}
        return ModelResponse(status=200, headers=headers, chunks=_each(list(events(document, answer))))
    return _json(message(document, answer))


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
