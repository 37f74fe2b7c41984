"""The host's actions as MCP tools: streamable HTTP, without sessions, in plain JSON.

The few methods that Claude Code uses are written out here, because importing the MCP SDK costs a host a second and 50 MB.
The format: https://modelcontextprotocol.io/specification/2025-11-25.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web
from anyio import to_thread

import nanoclaw_core
from nanoclaw_core.errors import NanoClawError
from nanoclaw_core.gateway import documents
from nanoclaw_core.gateway.caller import Caller, Complaints
from nanoclaw_core.gateway.courtesy import finish
from nanoclaw_core.gateway.parameters import Handed, Json, Tool, read_arguments, text_of, tools_of
from nanoclaw_core.gateway.uploads import sizes_of
from nanoclaw_core.models import clean_text
from nanoclaw_core.ports import Action, ActionCall, ActionCalls, Outcome
from nanoclaw_core.supervise import survive

MOST_BYTES: Final = 1024 * 1024
SHAPE: Final = documents.Shape(quotes=100_000, bare=100_000)
VERSIONS: Final = ("2025-11-25", "2025-06-18", "2025-03-26")
_CALL_ID: Final = "claudecode/toolUseId"
_PARSE_ERROR, _INVALID_REQUEST, _METHOD_NOT_FOUND, _INVALID_PARAMS = -32700, -32600, -32601, -32602


class RpcError(Exception):
    """An error of the protocol itself, which the engine hears and the model does not."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class McpServer:
    """Answers POST /mcp for every worker."""

    def __init__(self, actions: Sequence[Action[Any]], calls: ActionCalls) -> None:
        self._tools = tools_of(actions)
        self._calls = calls

    async def serve(self, request: web.Request, caller: Caller) -> web.StreamResponse:
        """Answer one JSON-RPC message; an action that was begun is carried through, even if the worker hangs up."""
        try:
            async with caller.body(request, MOST_BYTES) as body:
                message = await caller.work(_parse, body)
        except RpcError as error:
            return _failure(None, error, status=400)
        if "id" not in message:
            return web.Response(status=202)
        try:
            result = await self._answer(message, caller)
        except RpcError as error:
            return _failure(message["id"], error)
        return web.json_response({"jsonrpc": "2.0", "id": message["id"], "result": result})

    async def _answer(self, message: Json, caller: Caller) -> Json:
        parameters = message.get("params") or {}
        if not isinstance(parameters, dict):
            raise RpcError(_INVALID_PARAMS, "params must be an object")
        match message["method"]:
            case "initialize":
                return _introduction(parameters)
            case "ping":
                return {}
            case "tools/list":
                return {"tools": [tool.listed for tool in self._tools.values()]}
            case "tools/call":
                return await self._call(parameters, caller)
            case method:
                raise RpcError(_METHOD_NOT_FOUND, f"there is no method {method!r:.80}")

    async def _call(self, parameters: Json, caller: Caller) -> Json:
        name = parameters.get("name")
        tool = self._tools.get(name) if isinstance(name, str) else None
        if tool is None:
            raise RpcError(_INVALID_PARAMS, f"there is no tool {name!r:.80}")
        arguments = parameters.get("arguments") or {}
        if not isinstance(arguments, dict):
            return _result(f"{name} was not called: its arguments must be an object", is_error=True)
        try:
            outcome = await self._outcome(tool, _key(parameters), arguments, caller)
        except msgspec.ValidationError as error:
            return _result(f"{name} was not called: {error}", is_error=True)
        except NanoClawError as error:
            return _result(str(error), is_error=True)
        return _result(outcome.text, is_error=outcome.is_error)

    async def _outcome(self, tool: Tool, key: str, arguments: Json, caller: Caller) -> Outcome:
        """Have the call carried out, once; its files go when it has an outcome that a repetition would hear.

        Raises:
            msgspec.ValidationError: it is none. NanoClawError: it was not carried out, or its outcome cannot be stored.
        """
        handed = Handed(arguments, tool.files)
        folder, sizes = Path(), dict[str, int]()
        if handed.uploads:
            folder = await self._calls.outbox(caller.identity)
            sizes = await to_thread.run_sync(sizes_of, folder, handed.uploads)
        read = read_arguments(tool.action, handed.as_files(folder, sizes))
        is_there = sizes.keys() == set(handed.uploads)  # else, a call that was made before has its outcome all the same
        carry_out = partial(_carry_out, tool.action, read, caller.complaints) if is_there else _lack
        text = text_of(handed.as_named())
        async with caller.actions:
            outcome = await finish(self._calls.once, caller.identity, tool.action, key, text, carry_out)
        if handed.uploads:
            with suppress(NanoClawError):  # what stays there is old one day
                await self._calls.release(caller.identity, handed.uploads)
        return outcome


async def _lack(_: ActionCall) -> Outcome:
    return Outcome(text="Nothing was done: the host has not got the file any more. Call again.", is_error=True)


async def _carry_out(action: Action[Any], arguments: object, complaints: Complaints, call: ActionCall) -> Outcome:
    results: list[str] = []

    async def handle() -> None:
        results.append(await action.handler(call, arguments))

    try:
        failure = await survive(f"action {action.name}", handle(), passing=(NanoClawError,), warn=complaints.warn)
    except NanoClawError as error:
        complaints.warn("action.refused", action=action.name, session=call.session_id, reason=type(error).__name__)
        return Outcome(text=clean_text(str(error)), is_error=True)
    if failure:
        return Outcome(text=f"{action.name} broke off on the host; whether it had an effect is not known.", is_error=True)
    return Outcome(text=clean_text(results[0]))


def _key(parameters: Json) -> str:
    """Claude Code's id of the call, which stays the same when it repeats the call."""
    meta = parameters.get("_meta")
    call_id = meta.get(_CALL_ID) if isinstance(meta, dict) else None
    return call_id if isinstance(call_id, str) and 0 < len(call_id) <= 200 else uuid.uuid4().hex


def _introduction(parameters: Json) -> Json:
    asked = parameters.get("protocolVersion")
    return {
        "protocolVersion": asked if asked in VERSIONS else VERSIONS[0],
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "nanoclaw", "version": nanoclaw_core.__version__},
    }


def _result(text: str, *, is_error: bool = False) -> Json:
    return {"content": [{"type": "text", "text": clean_text(text)}], "isError": is_error}


def _failure(request_id: object, error: RpcError, status: int = 200) -> web.Response:
    body = {"jsonrpc": "2.0", "id": request_id, "error": {"code": error.code, "message": str(error)}}
    return web.json_response(body, status=status)


def _clean(value: object) -> object:
    match value:
        case str() as text:
            return clean_text(text)
        case list() as items:
            return [_clean(item) for item in items]
        case dict() as fields:
            return {clean_text(name): _clean(inner) for name, inner in fields.items()}
        case _:
            return value


def _parse(body: bytearray) -> Json:
    try:
        message = _clean(documents.read(body, SHAPE))
    except (ValueError, RecursionError) as error:
        raise RpcError(_PARSE_ERROR, f"the body cannot be read: {error}"[:200]) from error
    if not isinstance(message, dict) or not isinstance(message.get("method"), str):
        raise RpcError(_INVALID_REQUEST, "the body must be one JSON-RPC request, not a batch")
    if not isinstance(message.get("id"), str | int | float | None):
        raise RpcError(_INVALID_REQUEST, "an id is a text or a number")
    return message
