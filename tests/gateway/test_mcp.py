"""The host's actions as MCP tools, heard by the official client and said in plain JSON."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import anyio
import httpx2
import msgspec
import pytest
from mcp.client.session import ClientSession
from mcp.client.streamable_http import streamable_http_client

from nanoclaw_core.builtins.messaging import nanoclaw_actions
from nanoclaw_core.errors import NanoClawError
from nanoclaw_core.gateway.parameters import schema_of, tools_of
from nanoclaw_core.ports import Action, ActionCall, Outcome


@dataclass(frozen=True, kw_only=True)
class Die:
    sides: Annotated[int, msgspec.Meta(description="How many.", ge=2)] = 6


@dataclass(frozen=True, kw_only=True)
class Roll:
    dice: list[Die] = field(default_factory=list)


@dataclass
class Slow:
    """An action that waits for its test, and counts how often it came to its end."""

    began: anyio.Event = field(default_factory=anyio.Event)
    go_on: anyio.Event = field(default_factory=anyio.Event)
    ended: anyio.Event = field(default_factory=anyio.Event)

    async def __call__(self, call: ActionCall, parameters: Roll) -> str:
        self.began.set()
        await self.go_on.wait()
        self.ended.set()
        return "done"


async def explode(call: ActionCall, parameters: Roll) -> str:
    raise NanoClawError("The table is on fire.")


async def break_down(call: ActionCall, parameters: Roll) -> str:
    raise KeyError("a mistake of a plugin")


async def whoami(call: ActionCall, parameters: Roll) -> str:
    return f"{call.agent_group.name} {call.session_id}"


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
async def rig(make_rig: Any, slow: Slow) -> AsyncIterator[Any]:
    handlers: dict[str, Any] = {"slow": slow, "explode": explode, "break_down": break_down, "whoami": whoami}
    made = [Action(name=name, description=name, parameters=Roll, handler=handler) for name, handler in handlers.items()]
    async with make_rig(actions=[*nanoclaw_actions(), *made]) as rig:
        yield rig


async def rpc(rig: Any, method: str, **params: Any) -> Any:
    status, _, body = await rig.ask("/mcp", {"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    assert (status, body["jsonrpc"], body["id"]) == (200, "2.0", 1)
    return body.get("result", body.get("error"))


async def call(rig: Any, tool: str, arguments: Any, **meta: Any) -> tuple[bool, str]:
    result = await rpc(rig, "tools/call", name=tool, arguments=arguments, _meta=meta)
    return result["isError"], result["content"][0]["text"]


async def test_the_official_client_lists_and_calls(rig: Any) -> None:
    transport = httpx2.AsyncHTTPTransport(uds=str(rig.socket))
    async with (
        httpx2.AsyncClient(transport=transport) as http,
        streamable_http_client("http://gateway/mcp", http_client=http) as (read, write, *_),
        ClientSession(read, write) as session,
    ):
        await session.initialize()
        assert "send_message" in [tool.name for tool in (await session.list_tools()).tools]
        result = await session.call_tool("send_message", {"text": "yo", "to": "family"})
    assert result.content[0].text == "Message sent to family (id s1)."  # type: ignore[union-attr]  # our server sends text only
    assert [(text, to) for text, to, _ in rig.calls.sent] == [("yo", "family")]


@pytest.mark.parametrize(
    ("asked", "answered"),
    [("2025-11-25", "2025-11-25"), ("2025-06-18", "2025-06-18"), ("2025-03-26", "2025-03-26"), ("2099-01-01", "2025-11-25")],
)
async def test_the_version_asked_for_is_spoken_or_the_newest(rig: Any, asked: str, answered: str) -> None:
    result = await rpc(rig, "initialize", protocolVersion=asked, capabilities={}, clientInfo={"name": "t", "version": "1"})
    assert (result["protocolVersion"], result["capabilities"]) == (answered, {"tools": {}})


async def test_a_tool_is_described_by_its_parameters(rig: Any) -> None:
    tool = next(tool for tool in (await rpc(rig, "tools/list"))["tools"] if tool["name"] == "send_message")
    schema = tool["inputSchema"]
    assert (schema["type"], schema["required"], schema["additionalProperties"]) == ("object", ["text"], False)
    assert schema["properties"]["text"] == {"description": "The message, as Markdown.", "type": "string", "maxLength": 100_000}


def test_a_schema_holds_all_that_it_refers_to() -> None:
    schema = schema_of(Roll)
    assert schema["properties"]["dice"]["items"] == {"$ref": "#/$defs/Die"}
    assert schema["$defs"]["Die"]["properties"]["sides"]["minimum"] == 2


async def test_the_engines_call_id_is_the_key_of_the_call(rig: Any) -> None:
    await call(rig, "send_message", {"text": "a"}, **{"claudecode/toolUseId": "toolu_1"})
    await call(rig, "send_message", {"text": "b"})
    await call(rig, "send_message", {"text": "c"})
    keys = [key for _, _, key in rig.calls.sent]
    assert keys[0] == "toolu_1"
    assert len(set(keys)) == 3


async def test_a_call_is_described_alike_however_its_arguments_are_ordered(rig: Any) -> None:
    await call(rig, "send_message", {"to": "family", "text": "é"}, **{"claudecode/toolUseId": "toolu_1"})
    await call(rig, "send_message", {"text": "é", "to": "family"}, **{"claudecode/toolUseId": "toolu_2"})
    await call(rig, "whoami", None, **{"claudecode/toolUseId": "toolu_3"})
    assert rig.calls.asked == [
        ("send_message", "toolu_1", '{"text":"é","to":"family"}'),
        ("send_message", "toolu_2", '{"text":"é","to":"family"}'),
        ("whoami", "toolu_3", "{}"),
    ]


async def test_whoever_keeps_the_calls_decides_whether_one_is_carried_out(rig: Any) -> None:
    rig.calls.outcomes["toolu_1"] = Outcome(text="as before", is_error=True)
    meta = {"claudecode/toolUseId": "toolu_1"}
    assert await call(rig, "send_message", {"text": "hi"}, **meta) == (True, "as before")
    assert rig.calls.sent == []


async def test_a_call_that_cannot_be_kept_is_explained(rig: Any) -> None:
    rig.calls.broken = NanoClawError("The disk is full.")
    assert await call(rig, "whoami", {}) == (True, "The disk is full.")


async def test_a_failure_is_an_outcome_like_any_other(rig: Any) -> None:
    for name in ("explode", "break_down"):
        await call(rig, name, {}, **{"claudecode/toolUseId": name})
    assert rig.calls.outcomes["explode"] == Outcome(text="The table is on fire.", is_error=True)
    assert rig.calls.outcomes["break_down"].is_error


async def test_the_socket_tells_who_calls(rig: Any) -> None:
    assert await call(rig, "whoami", {}) == (False, "Andy session-of-w1")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "`text`"),
        ({"text": 7}, "$.text"),
        ({"text": "hi", "too": "family"}, "`too`"),
        ([], "field `text`"),
        ("text", "object"),
        ({"text": "  "}, "Nothing was sent"),
        ({"text": "hi", "to": "nowhere"}, "Known: family"),
    ],
    ids=["missing", "another type", "unknown", "empty list", "a string", "blank", "no such chat"],
)
async def test_a_call_that_cannot_be_done_tells_the_agent_why(rig: Any, arguments: Any, said: str) -> None:
    failed, text = await call(rig, "send_message", arguments)
    assert failed
    assert said in text
    assert rig.calls.sent == []


async def test_nul_and_lone_surrogates_are_repaired(rig: Any) -> None:
    await call(rig, "send_message", {"text": "a\x00\ud83d"})
    assert rig.calls.sent[0][0] == "a\ufffd\ufffd"


async def test_any_error_of_ours_is_told_to_the_agent(rig: Any) -> None:
    assert await call(rig, "explode", {}) == (True, "The table is on fire.")


async def test_a_plugins_mistake_costs_only_its_own_call(rig: Any) -> None:
    is_error, text = await call(rig, "break_down", {})
    assert is_error
    assert "broke off on the host" in text
    assert "a mistake of a plugin" not in text
    assert await rpc(rig, "ping") == {}


async def test_an_action_that_began_is_carried_through(rig: Any, slow: Slow) -> None:
    """The engine will repeat the call with the same key, and must find it done, not half done."""
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "slow"}}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(rig.ask, "/mcp", message)
        await slow.began.wait()
        tasks.cancel_scope.cancel()
    await anyio.wait_all_tasks_blocked()
    slow.go_on.set()
    with anyio.fail_after(30):
        await slow.ended.wait()


@pytest.mark.parametrize(
    ("method", "params", "code"),
    [
        ("server/discover", {}, -32601),
        ("tools/call", {"name": "rm"}, -32602),
        ("tools/call", {"name": ["rm"]}, -32602),
        ("tools/call", [1], -32602),
    ],
)
async def test_errors_of_the_protocol_have_its_codes(rig: Any, method: str, params: Any, code: int) -> None:
    _, _, body = await rig.ask("/mcp", {"jsonrpc": "2.0", "id": "a", "method": method, "params": params})
    assert (body["id"], body["error"]["code"]) == ("a", code)


async def test_notifications_are_taken_without_an_answer(rig: Any) -> None:
    message = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    async with rig.client.post("http://gateway/mcp", json=message) as answer:
        assert (answer.status, await answer.read()) == (202, b"")


@pytest.mark.parametrize(
    ("body", "code"),
    [("no json", -32700), ("[" * 100_000, -32700), ("[]", -32600), ('[{"method": "ping"}]', -32600), ('{"id": 1}', -32600)],
    ids=["no json", "deep", "empty batch", "batch", "no method"],
)
async def test_what_is_no_request_is_refused(rig: Any, body: str, code: int) -> None:
    async with rig.client.post("http://gateway/mcp", data=body) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, code)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_there_are_no_sessions(rig: Any, method: str) -> None:
    async with rig.client.request(method, "http://gateway/mcp") as answer:
        assert answer.status == 405
        assert (await answer.json())["type"] == "error"


async def test_a_body_beyond_1_mib_is_refused(rig: Any) -> None:
    async with rig.client.post("http://gateway/mcp", data=io.BytesIO(b"x" * (1024 * 1024 + 1))) as answer:
        assert answer.status == 413


@pytest.mark.parametrize(
    ("body", "code"),
    [('{"method": "ping", "id": 1, "x": [' + "[]," * 100_000 + "0]}", -32700), ('{"method": "ping", "id": [[1]]}', -32600)],
    ids=["many parts", "an id with parts"],
)
async def test_what_is_made_to_keep_the_host_busy_is_refused(rig: Any, body: str, code: int) -> None:
    async with rig.client.post("http://gateway/mcp", data=body) as answer:
        assert (answer.status, (await answer.json())["error"]["code"]) == (400, code)


async def test_an_action_whose_parameters_have_no_schema_is_left_out(make_rig: Any) -> None:
    @dataclass(frozen=True, kw_only=True)
    class Odd:
        what: complex

    odd: Action[Any] = Action(name="odd", description="odd", parameters=Odd, handler=whoami)
    async with make_rig(actions=[odd, *nanoclaw_actions()]) as rig:
        assert [tool["name"] for tool in (await rpc(rig, "tools/list"))["tools"]] == [
            action.name for action in nanoclaw_actions()
        ]


def test_json_of_the_descriptions_is_small() -> None:
    """Every turn of every conversation pays for them."""
    sizes = [len(json.dumps(tool.listed)) for tool in tools_of(nanoclaw_actions()).values()]
    assert max(sizes) < 750
    assert sum(sizes) < 3000
