"""How a provider behind HTTP is asked, and what its failures become."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from nanoclaw_core.builtins.anthropic import nanoclaw_providers
from nanoclaw_core.errors import ModelUnavailable, SettingInvalid
from nanoclaw_core.models import ModelRequest
from nanoclaw_core.ports import Provider, ProviderContext
from nanoclaw_core.testing import ProviderContract
from nanoclaw_core.testing.scripted_model import Reply, ScriptedModel
from nanoclaw_core.upstream import HttpUpstream

KEY = "sk-very-secret"


def request(path: str = "/v1/messages", **fields: Any) -> ModelRequest:
    document = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hi"}], **fields}
    headers = {"content-type": "application/json", "anthropic-beta": "effort-2025-11-24"}
    return ModelRequest(path=path, query="beta=true", headers=headers, body=json.dumps(document).encode())


async def whole(provider: Provider, asked: ModelRequest) -> tuple[int, bytes]:
    async with provider.respond(asked) as response:
        return response.status, b"".join([chunk async for chunk in response.chunks])


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as scripted:
        yield scripted


@pytest.fixture
async def upstream(model: ScriptedModel) -> AsyncIterator[HttpUpstream]:
    made = HttpUpstream(model.url + "/", {"X-Api-Key": KEY}, silence=0.2)
    yield made
    await made.aclose()


async def test_a_request_gets_the_credential_and_asks_for_plain_bytes(upstream: HttpUpstream, model: ScriptedModel) -> None:
    status, body = await whole(upstream, request())
    (call,) = model.calls
    assert (status, json.loads(body)["type"]) == (200, "message")
    assert (call.path, call.query, call.headers["x-api-key"]) == ("/v1/messages", "beta=true", KEY)
    assert call.headers["accept-encoding"] == "identity"


async def test_a_long_conversation_passes(upstream: HttpUpstream, model: ScriptedModel) -> None:
    await whole(upstream, request(system="x" * 3_000_000))
    assert model.calls[0].headers["content-length"].startswith("3000")


async def test_betas_of_both_sides_are_asked_for(model: ScriptedModel) -> None:
    upstream = HttpUpstream(model.url, {"anthropic-beta": "oauth-2025-04-20, effort-2025-11-24"})
    await whole(upstream, request())
    await upstream.aclose()
    assert model.calls[0].headers["anthropic-beta"] == "effort-2025-11-24,oauth-2025-04-20"


async def test_one_session_serves_many_requests_and_opens_again_after_closing(upstream: HttpUpstream) -> None:
    for _ in range(3):
        assert (await whole(upstream, request()))[0] == 200
    await upstream.aclose()
    assert (await whole(upstream, request()))[0] == 200


async def test_refusals_are_answers(upstream: HttpUpstream, model: ScriptedModel) -> None:
    model.script(Reply.error(429, "rate_limit_error", "slow down", {"retry-after": "3"}))
    async with upstream.respond(request()) as response:
        assert (response.status, response.headers["retry-after"]) == (429, "3")


@pytest.mark.parametrize("after_bytes", [None, 40], ids=["before the first byte", "in the middle"])
async def test_silence_ends_with_a_reason_and_no_retry(
    upstream: HttpUpstream, model: ScriptedModel, after_bytes: int | None
) -> None:
    model.script(Reply.hang(after_bytes))
    with pytest.raises(ModelUnavailable, match=r"sent nothing for 0\.2 s") as raised:
        await whole(upstream, request(stream=True))
    assert (raised.value.status, raised.value.retry) == (504, False)


async def test_an_answer_cut_off_is_an_error(upstream: HttpUpstream, model: ScriptedModel) -> None:
    model.script(Reply.cut(40))
    with pytest.raises(ModelUnavailable) as raised:
        await whole(upstream, request(stream=True))
    assert (raised.value.status, raised.value.retry) == (502, True)


async def test_nobody_there_is_worth_another_try() -> None:
    upstream = HttpUpstream("http://127.0.0.1:1", {"x-api-key": KEY})
    with pytest.raises(ModelUnavailable, match="cannot be reached") as raised:
        await whole(upstream, request())
    await upstream.aclose()
    assert (raised.value.status, raised.value.retry) == (502, True)
    assert KEY not in str(raised.value)


async def test_leaving_ends_the_providers_work(upstream: HttpUpstream, model: ScriptedModel) -> None:
    model.script(Reply.hang(40))
    async with upstream.respond(request(stream=True)) as response:
        assert len(await anext(aiter(response.chunks))) == 40
    with anyio.fail_after(30):
        await model.wait_for_abandoned()


async def test_models_are_listed(upstream: HttpUpstream) -> None:
    assert await upstream.models() == ["demo"]


async def test_models_of_a_silent_place_raise() -> None:
    upstream = HttpUpstream("http://127.0.0.1:1", {})
    with pytest.raises(ModelUnavailable):
        await upstream.models()
    await upstream.aclose()


@pytest.mark.parametrize("url", ["https://api.anthropic.com", "http://127.0.0.1.evil.example", "http://localhost.example"])
async def test_real_models_can_be_refused(url: str) -> None:
    upstream = HttpUpstream(url, {}, refuse_real=True)
    with pytest.raises(ModelUnavailable, match="NANOCLAW_REFUSE_REAL_MODELS") as raised:
        await whole(upstream, request())
    assert (raised.value.status, raised.value.retry) == (403, False)


async def test_loopback_is_never_refused(model: ScriptedModel) -> None:
    upstream = HttpUpstream(model.url, {}, refuse_real=True)
    assert (await whole(upstream, request()))[0] == 200
    await upstream.aclose()


async def test_the_credential_appears_in_no_repr_and_no_log(
    upstream: HttpUpstream, model: ScriptedModel, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await whole(upstream, request())
    assert KEY not in repr(upstream) + caplog.text


# --- Anthropic ------------------------------------------------------------------------------------------------------------


def offered(name: str, settings: dict[str, str], warnings: list[str]) -> Provider:
    (factory,) = (factory for factory in nanoclaw_providers() if factory.name == name)
    return factory.create(ProviderContext(settings=settings, warn=warnings.append, refuse_real_models=True))


class TestAnthropic(ProviderContract):
    credential = KEY

    def make_provider(self, url: str) -> Provider:
        return offered("anthropic", {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": url}, [])


class TestClaudeSubscription(ProviderContract):
    credential = KEY

    def make_provider(self, url: str) -> Provider:
        return offered("claude-subscription", {"CLAUDE_CODE_OAUTH_TOKEN": KEY, "ANTHROPIC_BASE_URL": url}, [])


async def test_an_api_key_is_sent_without_a_warning(model: ScriptedModel) -> None:
    warnings: list[str] = []
    provider = offered("anthropic", {"ANTHROPIC_API_KEY": f" {KEY}\n", "ANTHROPIC_BASE_URL": model.url}, warnings)
    await whole(provider, request())
    assert model.calls[0].headers["x-api-key"] == KEY
    assert warnings == []
    assert isinstance(provider, HttpUpstream)
    await provider.aclose()


async def test_a_subscription_works_and_warns(model: ScriptedModel) -> None:
    warnings: list[str] = []
    settings = {"CLAUDE_CODE_OAUTH_TOKEN": "sk-ant-oat", "ANTHROPIC_BASE_URL": model.url}
    provider = offered("claude-subscription", settings, warnings)
    await whole(provider, request())
    headers = model.calls[0].headers
    assert (headers["authorization"], "oauth-2025-04-20" in headers["anthropic-beta"]) == ("Bearer sk-ant-oat", True)
    assert len(warnings) == 1
    assert "terms" in warnings[0]
    assert isinstance(provider, HttpUpstream)
    await provider.aclose()


async def test_the_default_address_is_the_real_one_and_refused_here() -> None:
    with pytest.raises(ModelUnavailable, match="REFUSE"):
        await whole(offered("anthropic", {"ANTHROPIC_API_KEY": KEY}, []), request())


@pytest.mark.parametrize(
    ("name", "settings", "variable"),
    [
        ("anthropic", {}, "ANTHROPIC_API_KEY"),
        ("anthropic", {"ANTHROPIC_API_KEY": "two\nlines"}, "ANTHROPIC_API_KEY"),
        ("claude-subscription", {"CLAUDE_CODE_OAUTH_TOKEN": " "}, "CLAUDE_CODE_OAUTH_TOKEN"),
        ("anthropic", {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "api.anthropic.com"}, "ANTHROPIC_BASE_URL"),
        ("anthropic", {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": "file:///etc"}, "ANTHROPIC_BASE_URL"),
    ],
)
def test_a_setting_that_cannot_work_is_named_and_never_shown(name: str, settings: dict[str, str], variable: str) -> None:
    with pytest.raises(SettingInvalid, match=variable) as raised:
        offered(name, settings, [])
    assert KEY not in str(raised.value)
    assert "lines" not in str(raised.value)


def test_only_credentials_are_secret_and_required() -> None:
    fields = {field.variable: field for factory in nanoclaw_providers() for field in factory.manifest.fields}
    assert {name for name, field in fields.items() if field.secret and field.required} == {
        "ANTHROPIC_API_KEY",
        "CLAUDE_CODE_OAUTH_TOKEN",
    }
    assert not fields["ANTHROPIC_BASE_URL"].required
