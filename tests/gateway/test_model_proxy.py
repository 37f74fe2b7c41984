"""What passes between Claude Code and the provider, and what does not."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio
import pytest

from nanoclaw_core.errors import ModelUnavailable, NanoClawError
from nanoclaw_core.gateway.model_proxy import RequestForbidden, check
from nanoclaw_core.models import ModelRequest
from nanoclaw_core.ports import ModelResponse
from nanoclaw_core.testing.scripted_model import Reply, ScriptedModel
from nanoclaw_core.upstream import HttpUpstream

REQUEST: dict[str, Any] = {"model": "claude-x", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}]}
TOOL = {"name": "Bash", "description": "Runs a command", "input_schema": {"type": "object"}}


def with_content(*blocks: Any) -> dict[str, Any]:
    return {**REQUEST, "messages": [{"role": "user", "content": list(blocks)}]}


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as scripted:
        yield scripted


@pytest.fixture
async def proxied(make_rig: Any, model: ScriptedModel) -> AsyncIterator[Any]:
    upstream = HttpUpstream(model.url, {"x-api-key": "the-real-key"}, silence=5)
    async with make_rig(provider=upstream) as rig:
        yield rig
    await upstream.aclose()


# --- what the conversation holds ---


def result_of(call_id: str) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": call_id, "content": "done"}


async def test_calls_of_earlier_workers_whose_results_a_request_holds_are_noted(proxied: Any) -> None:
    proxied.calls.missing = {"toolu_1", "toolu_2", "toolu_3"}
    await proxied.ask("/v1/messages", with_content(result_of("toolu_1")))
    assert proxied.calls.missing == {"toolu_2", "toolu_3"}
    await proxied.ask("/v1/messages", with_content(result_of("toolu_1"), result_of("toolu_3")))
    assert proxied.calls.missing == {"toolu_2"}


async def test_words_about_a_call_are_not_its_result(proxied: Any) -> None:
    proxied.calls.missing = {"toolu_1"}
    words = [json.dumps(result_of("toolu_1")), json.dumps(result_of("toolu_1"), separators=(",", ":")), '"tool_use_id":toolu_1']
    call = {"type": "tool_use", "id": "toolu_1", "name": "x", "input": {}}
    await proxied.ask("/v1/messages", with_content(call, *[{"type": "text", "text": text} for text in words]))
    assert proxied.calls.missing == {"toolu_1"}


async def test_the_model_is_asked_also_when_nobody_knows_of_earlier_calls(proxied: Any, model: ScriptedModel) -> None:
    proxied.calls.missing, proxied.calls.broken = {"toolu_1"}, NanoClawError("The disk is full.")
    status, _, _ = await proxied.ask("/v1/messages", with_content(result_of("toolu_1")))
    assert (status, len(model.calls)) == (200, 1)
    proxied.calls.broken = None
    await proxied.ask("/v1/messages", with_content(result_of("toolu_1")))
    assert proxied.calls.missing == set()


# --- the way there --------------------------------------------------------------------------------------------------------


async def test_the_workers_placeholder_is_replaced_by_the_real_key(proxied: Any, model: ScriptedModel) -> None:
    headers = {"x-api-key": "placeholder", "authorization": "Bearer placeholder", "cookie": "a=b", "x-forwarded-for": "1.2.3.4"}
    status, _, _ = await proxied.ask("/v1/messages", REQUEST, **headers)
    assert status == 200
    (call,) = model.calls
    assert call.headers["x-api-key"] == "the-real-key"
    assert not {"authorization", "cookie", "x-forwarded-for"} & call.headers.keys()


async def test_what_the_provider_should_know_is_passed_on(proxied: Any, model: ScriptedModel) -> None:
    passed = {
        "anthropic-version": "2023-06-01",
        "user-agent": "claude-cli/2.1.329 (external, sdk-cli)",
        "x-app": "cli",
        "x-stainless-lang": "js",
        "x-claude-code-session-id": "s1",
    }
    await proxied.ask("/v1/messages?beta=true&api_key=x", REQUEST, **passed)
    (call,) = model.calls
    assert passed.items() <= call.headers.items()
    assert call.query == "beta=true"


async def test_betas_that_are_exits_are_dropped(proxied: Any, model: ScriptedModel) -> None:
    betas = "claude-code-20250219,code-execution-2025-08-25, mcp-client-2025-11-20,files-api-2025-04-14,effort-2025-11-24"
    await proxied.ask("/v1/messages", REQUEST, **{"anthropic-beta": betas})
    assert model.calls[0].headers["anthropic-beta"] == "claude-code-20250219,effort-2025-11-24"


async def test_the_body_arrives_as_it_was_checked(proxied: Any, model: ScriptedModel) -> None:
    """With a key twice, one parser takes the first and another the last: what is forwarded has it once."""
    harmless, exit_tool = json.dumps([TOOL]), json.dumps([{"type": "web_fetch_20250910", "name": "web_fetch"}])
    body = json.dumps(REQUEST)[:-1] + f', "tools": {exit_tool}, "tools": {harmless}}}'
    async with proxied.client.post("http://gateway/v1/messages", data=body) as answer:
        assert answer.status == 200
    assert model.calls[0].json["tools"] == [TOOL]


async def test_a_lone_surrogate_does_not_kill_the_conversation(proxied: Any, model: ScriptedModel) -> None:
    body = json.dumps(with_content({"type": "text", "text": "half \ud83d"}))
    async with proxied.client.post("http://gateway/v1/messages", data=body) as answer:
        assert answer.status == 200
    assert model.calls[0].json["messages"][0]["content"][0]["text"] == "half ?"


@pytest.mark.parametrize("body", ["", "no json", "[1]", '"text"', "[" * 100_000, "\udcff"], ids=repr)
async def test_a_body_that_is_no_object_is_refused(rig: Any, body: str) -> None:
    async with rig.client.post("http://gateway/v1/messages", data=body.encode("utf-8", "surrogateescape")) as answer:
        assert answer.status == 400
        assert (await answer.json())["error"]["type"] == "invalid_request_error"


async def test_a_body_beyond_the_limit_is_refused_without_being_read_to_its_end(
    rig: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanoclaw_core.gateway.model_proxy.MOST_BYTES", 1000)
    status, _, body = await rig.ask("/v1/messages", {"model": "x" * 1000})
    assert (status, body["error"]["type"]) == (413, "request_too_large")


@pytest.mark.parametrize(
    "request_",
    [
        {**REQUEST, "mcp_servers": [{"type": "url", "url": "https://evil.example"}]},
        {**REQUEST, "container": {"skills": []}},
        {**REQUEST, "something_new": 1},
        {**REQUEST, "tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}]},
        {**REQUEST, "tools": [{"type": "web_fetch_20250910", "name": "web_fetch"}]},
        {**REQUEST, "tools": [{"type": "code_execution_20250825", "name": "code_execution"}]},
        {**REQUEST, "tools": [{"type": "mcp_toolset", "mcp_server_name": "x"}]},
        {**REQUEST, "tools": [{"type": 7}]},
        {**REQUEST, "tools": {"type": "web_search_20250305"}},
        with_content({"type": "image", "source": {"type": "url", "url": "https://evil.example/?leak"}}),
        with_content({"type": "document", "source": {"type": "file", "file_id": "file_1"}}),
        with_content({"type": "container_upload", "file_id": "file_1"}),
        with_content({"type": "tool_result", "content": [{"type": "image", "source": {"type": "url", "url": "https://e"}}]}),
        with_content({"type": "document", "source": {"type": "content", "content": [{"source": {"url": "https://e"}}]}}),
        with_content({"type": "tool_addition", "tools": [{"type": "web_fetch_20250910"}]}),
        {**REQUEST, "system": [{"type": "document", "source": {"type": "url", "url": "https://e"}}]},
    ],
    ids=lambda request: json.dumps({k: v for k, v in request.items() if v != REQUEST.get(k)})[:70],
)
def test_what_the_provider_would_do_elsewhere_is_forbidden(request_: dict[str, Any]) -> None:
    with pytest.raises(RequestForbidden, match=r"outside of the sandbox|file id"):
        check(request_)


@pytest.mark.parametrize(
    "request_",
    [
        {
            **REQUEST,
            "tools": [TOOL, {"type": "custom", **TOOL}, {"type": None, **TOOL}, {"type": "bash_20250124", "name": "bash"}],
        },
        {**REQUEST, "tools": [{"type": "text_editor_20250728"}, {"type": "memory_20250818"}, {"type": "computer_20250124"}]},
        {**REQUEST, "tools": [], "thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}, "stream": True},
        {**REQUEST, "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]}},
        with_content({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}}),
        with_content({"type": "tool_use", "id": "t", "name": "X", "input": {"source": {"type": "url", "url": "https://x"}}}),
    ],
    ids=["own tools", "local tools", "claude code", "clearing", "an image", "data that looks like a source"],
)
def test_what_happens_in_the_sandbox_passes(request_: dict[str, Any]) -> None:
    check(request_)


async def test_a_forbidden_request_is_answered_with_the_reason_and_never_asked_again(
    proxied: Any, model: ScriptedModel
) -> None:
    status, headers, body = await proxied.ask("/v1/messages", {**REQUEST, "mcp_servers": []})
    assert (status, headers["x-should-retry"], body["error"]["type"]) == (403, "false", "permission_error")
    assert "mcp_servers" in body["error"]["message"]
    assert model.calls == []


# --- the way back ---------------------------------------------------------------------------------------------------------


async def test_events_stream_through_as_they_come(proxied: Any, model: ScriptedModel) -> None:
    rest = anyio.Event()
    model.script(Reply.hang(after_bytes=40, text="Hello", until=rest))
    async with proxied.client.post("http://gateway/v1/messages", json={**REQUEST, "stream": True}) as answer:
        assert answer.headers["content-type"] == "text/event-stream"
        first = await answer.content.readany()
        assert first.startswith(b"event: message_start")
        assert len(first) == 40
        rest.set()
        assert (await answer.content.read()).endswith(b'{"type": "message_stop"}\n\n')


@pytest.mark.parametrize(("status", "retry"), [(401, "false"), (403, "false"), (429, None), (529, None)])
async def test_the_providers_refusals_pass_and_a_bad_key_is_not_tried_again(
    proxied: Any, model: ScriptedModel, status: int, retry: str | None
) -> None:
    model.script(Reply.error(status, "some_error", "no", {"retry-after": "7", "set-cookie": "a=b"}))
    answered, headers, body = await proxied.ask("/v1/messages", REQUEST)
    assert (answered, headers["retry-after"], headers.get("x-should-retry")) == (status, "7", retry)
    assert body["error"]["message"] == "no"
    assert "set-cookie" not in headers


@pytest.mark.parametrize("prepared", [40, 0])
async def test_an_answer_that_breaks_off_does_not_look_whole(proxied: Any, model: ScriptedModel, prepared: int) -> None:
    model.script(Reply.cut(prepared))
    async with proxied.client.post("http://gateway/v1/messages", json={**REQUEST, "stream": True}) as answer:
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


async def test_a_worker_that_leaves_ends_the_providers_work(proxied: Any, model: ScriptedModel) -> None:
    model.script(Reply.hang(after_bytes=40))
    async with proxied.client.post("http://gateway/v1/messages", json={**REQUEST, "stream": True}) as answer:
        await answer.content.readany()
        answer.close()
    with anyio.fail_after(30):
        await model.wait_for_abandoned()


async def test_a_worker_whose_door_is_shut_ends_the_providers_work(proxied: Any, model: ScriptedModel) -> None:
    model.script(Reply.hang(after_bytes=40))
    async with proxied.client.post("http://gateway/v1/messages", json={**REQUEST, "stream": True}) as answer:
        await answer.content.readany()
        await proxied.gateway.close("w1")
        with anyio.fail_after(30):
            await model.wait_for_abandoned()


class Unavailable:
    """A provider that raises before, or (with `after`) while it answers."""

    paths = frozenset({"/v1/messages"})

    def __init__(self, error: Exception, after: bytes = b"") -> None:
        self.error = error
        self.after = after

    @asynccontextmanager
    async def respond(self, request: ModelRequest) -> AsyncIterator[ModelResponse]:
        if not self.after:
            raise self.error
        yield ModelResponse(status=200, headers={}, chunks=self.chunks())

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.after
        raise self.error

    async def models(self) -> list[str]:
        return []


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (ModelUnavailable("silent", status=504, retry=False), 504, "false"),
        (ModelUnavailable("busy", status=529), 529, "true"),
        (ConnectionResetError("gone"), 502, "true"),
    ],
    ids=["silent", "busy", "reset"],
)
async def test_a_provider_that_cannot_be_asked_is_explained(make_rig: Any, error: Exception, status: int, retry: str) -> None:
    async with make_rig(provider=Unavailable(error)) as rig:
        answered, headers, body = await rig.ask("/v1/messages", REQUEST)
    assert (answered, headers["x-should-retry"]) == (status, retry)
    assert str(error) in body["error"]["message"]


async def test_a_provider_that_fails_in_mid_answer_cuts_it(make_rig: Any) -> None:
    broken = Unavailable(ModelUnavailable("gone"), after=b"event: ")
    async with make_rig(provider=broken) as rig, rig.client.post("http://gateway/v1/messages", json=REQUEST) as answer:
        with pytest.raises(aiohttp.ClientError):
            await answer.read()


async def test_only_the_providers_own_paths_exist(make_rig: Any) -> None:
    async with make_rig(provider=Unavailable(ModelUnavailable("x"))) as rig:
        status, _, _ = await rig.ask("/v1/messages/count_tokens", REQUEST)
    assert status == 404
