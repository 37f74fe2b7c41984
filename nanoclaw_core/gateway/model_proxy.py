"""The way to the model: requests are checked here, get their credential from the provider, and answers stream back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any, Final

from aiohttp import web

from nanoclaw_core.errors import ModelUnavailable, NanoClawError
from nanoclaw_core.gateway import documents
from nanoclaw_core.gateway.caller import Caller
from nanoclaw_core.gateway.refusals import cut, refusal
from nanoclaw_core.ledger.books import Ledger, Wish
from nanoclaw_core.ledger.tally import Tally
from nanoclaw_core.models import ModelRequest
from nanoclaw_core.ports import ActionCalls, ModelResponse, Provider

#: As much as the Messages API itself takes; images make requests long. A million tokens of text have far fewer parts.
MOST_BYTES: Final = 32 * 1024 * 1024
SHAPE: Final = documents.Shape(quotes=1_000_000, bare=1_000_000)

#: What a request may hold at its top level (https://docs.anthropic.com/en/api/messages, and what Claude Code sends).
ALLOWED_KEYS: Final = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "max_tokens", "metadata", "stream", "stop_sequences"}
    | {"temperature", "top_k", "top_p", "thinking", "context_management", "output_config", "output_format"}
    | {"cache_control", "service_tier", "speed", "inference_geo", "diagnostics", "safeguards", "data_flow"}
)
#: Tools that Claude Code itself carries out, inside the sandbox. The search only looks through the request's own tools.
_LOCAL_TOOL: Final = re.compile(r"(?:bash|text_editor|memory|computer|tool_search_tool(?:_\w+)?)_\d{8}")
#: Any other type that ends with a date is a tool that the provider carries out, outside of the sandbox.
_DATED_TYPE: Final = re.compile(r"\w+_\d{8}")
#: Betas whose only use is an exit, or a credential of the worker's own.
_REFUSED_BETA: Final = re.compile(
    r"(?:code-execution|mcp-|web-fetch|web-search|files-api|skills|advisor|oauth|oidc|managed-agents|environments"
    r"|message-batches|message-threads)"
)
_PASSED_ON: Final = re.compile(
    r"accept|content-type|user-agent|anthropic-(?:version|beta)|x-app|x-stainless-[\w-]+|x-claude-code-[\w-]+"
)
_DROPPED_FROM_ANSWER: Final = frozenset(
    {"connection", "content-length", "keep-alive", "proxy-authenticate", "proxy-authorization"}
    | {"set-cookie", "te", "trailer", "transfer-encoding", "upgrade"}
)
#: A question that costs nothing.
_FREE: Final = "/count_tokens"


class RequestForbidden(Exception):
    """A request would make the provider reach out to somewhere, past the sandbox."""


class ModelProxy:
    """Answers the provider's paths, and only those. Without a `ledger`, nobody counts what that takes."""

    def __init__(self, provider: Provider, calls: ActionCalls, ledger: Ledger | None = None) -> None:
        self._provider = provider
        self._calls = calls
        self._ledger = ledger

    async def serve(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Check, send, and stream the answer back; leaving early cancels the provider's work."""
        async with caller.body(request, MOST_BYTES) as body:
            try:
                asked, wish = await caller.work(_checked, request, body)
            except RequestForbidden as error:
                caller.complaints.warn("model.request_forbidden", reason=str(error))
                return refusal(403, f"NanoClaw does not pass this on: {error}")
            except documents.TooIntricate as error:
                return refusal(413, str(error))
            except (ValueError, RecursionError):
                return refusal(400, "the body must be a JSON object")
            await self._note_heard(asked, caller)
            return await self._ask(request, asked, wish, caller)

    async def _note_heard(self, asked: ModelRequest, caller: Caller) -> None:
        """Tell which calls of earlier workers this conversation holds: Claude Code leaves out those without a result."""
        try:
            if caller.unheard is None:
                caller.unheard = await self._calls.unheard(caller.identity)
            if heard := {key for key in caller.unheard if _result_of(key) in asked.body}:
                await self._calls.heard(caller.identity, heard)
                caller.unheard -= heard
        except NanoClawError as error:  # the model can be asked all the same
            caller.complaints.warn("action.calls_unknown", reason=str(error))

    async def _ask(self, request: web.Request, asked: ModelRequest, wish: Wish, caller: Caller) -> web.StreamResponse:
        answer: web.StreamResponse | None = None
        try:
            async with self._counted(asked, wish, caller) as tally, self._provider.respond(asked) as response:
                if response.status < 300:  # what is refused costs nothing
                    tally.begin(_content_type(response))
                answer = web.StreamResponse(status=response.status, headers=_answer_headers(response))
                await answer.prepare(request)
                async for chunk in response.chunks:
                    try:
                        await answer.write(chunk)
                    finally:  # it was paid for, also when nobody takes it any more
                        tally.hear(chunk)
                tally.end()
        except ModelUnavailable as error:
            return self._give_up(request, answer, caller, error)
        except ConnectionError as error:
            return self._give_up(request, answer, caller, ModelUnavailable(f"The connection broke: {error}"))
        return answer

    def _counted(self, asked: ModelRequest, wish: Wish, caller: Caller) -> AbstractAsyncContextManager[Tally]:
        if self._ledger is None or asked.path.endswith(_FREE):
            return nullcontext(Tally())
        return self._ledger.call(caller.identity, wish)

    def _give_up(
        self, request: web.Request, answer: web.StreamResponse | None, caller: Caller, reason: ModelUnavailable
    ) -> web.StreamResponse:
        caller.complaints.warn("model.unavailable", status=reason.status, reason=str(reason))
        if answer is None or not answer.prepared:
            return refusal(reason.status, str(reason), retry=reason.retry)
        cut(request)
        return answer


def _result_of(key: str) -> bytes:
    """How `_checked` writes that a result is that of the call `key`; inside of a text, the quotation marks are escaped."""
    return b'"tool_use_id":' + json.dumps(key, ensure_ascii=False).encode()


def _checked(request: web.Request, body: bytearray) -> tuple[ModelRequest, Wish]:
    """The request as the provider may see it, and what it wishes for.

    The body is written anew, so that no parser reads it differently.
    """
    document = documents.read(body, SHAPE)
    body.clear()  # the new one takes its place
    if not isinstance(document, dict):
        raise ValueError("no object")
    check(document)
    asked = ModelRequest(
        path=request.path,
        query="beta=true" if request.query.get("beta") == "true" else "",
        headers=_passed_on(request.headers),
        body=json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"),
    )
    return asked, Wish.of(document, len(asked.body))


def check(document: Mapping[str, Any]) -> None:  # Any: JSON of a format that we do not own
    """Let a request pass whose work happens at the model and in the sandbox only.

    Raises:
        RequestForbidden: it names what would reach elsewhere.
    """
    for key in document:
        if key not in ALLOWED_KEYS:
            raise RequestForbidden(f"the field {key!r:.80} could reach servers outside of the sandbox")
    tools = document.get("tools") or []
    for tool in tools if isinstance(tools, list) else [tools]:
        _check_tool(tool)
    for block in _objects([document.get("messages"), document.get("system")]):
        _check_block(block)


def _check_tool(tool: object) -> None:
    kind = tool.get("type") if isinstance(tool, dict) else "unknown"
    if kind not in (None, "custom") and not (isinstance(kind, str) and _LOCAL_TOOL.fullmatch(kind)):
        raise RequestForbidden(f"the tool {kind!r:.80} runs on the provider's servers, outside of the sandbox")


def _check_block(block: Mapping[str, Any]) -> None:
    kind, source = block.get("type"), block.get("source")
    if isinstance(kind, str) and _DATED_TYPE.fullmatch(kind):
        _check_tool(block)
    if kind == "container_upload" or "file_id" in block:
        raise RequestForbidden("a file id names a file outside of the sandbox")
    if isinstance(source, dict) and (source.get("type") in ("url", "file") or "url" in source or "file_id" in source):
        raise RequestForbidden("content of a URL or a file id is fetched outside of the sandbox")


def _objects(value: object) -> Iterator[dict[str, Any]]:
    """Every JSON object in `value`, but none inside the input of a tool call, which is mere data."""
    pending = [value]
    while pending:
        match pending.pop():
            case list() as items:
                pending.extend(items)
            case dict() as block:
                yield block
                data = "input" if block.get("type") == "tool_use" else None
                pending.extend(inner for key, inner in block.items() if key != data)


def _passed_on(headers: Mapping[str, str]) -> dict[str, str]:
    kept = {name.lower(): value for name, value in headers.items() if _PASSED_ON.fullmatch(name.lower())}
    betas = [beta.strip() for beta in kept.pop("anthropic-beta", "").split(",")]
    if allowed := [beta for beta in betas if beta and not _REFUSED_BETA.match(beta)]:
        kept["anthropic-beta"] = ",".join(allowed)
    return kept


def _content_type(response: ModelResponse) -> str:
    return next((value for name, value in response.headers.items() if name.lower() == "content-type"), "")


def _answer_headers(response: ModelResponse) -> dict[str, str]:
    headers = {name: value for name, value in response.headers.items() if name.lower() not in _DROPPED_FROM_ANSWER}
    if response.status in (401, 403):  # else Claude Code asks ten times more, in silence
        headers = {name: value for name, value in headers.items() if name.lower() != "x-should-retry"}
        headers["x-should-retry"] = "false"
    return headers
