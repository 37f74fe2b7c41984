"""The rules of the `Provider` port."""

from __future__ import annotations

import json
from typing import Any, Final

import anyio
import pytest

from nanoclaw_core.errors import ModelUnavailable
from nanoclaw_core.models import ModelRequest
from nanoclaw_core.ports import ClosingProvider, Provider
from nanoclaw_core.testing.contracts.belongings import Belongings
from nanoclaw_core.testing.contracts.inbox import PATIENCE, eventually
from nanoclaw_core.testing.contracts.report import capability, not_claimed
from nanoclaw_core.testing.scripted_model import Reply, ScriptedModel

_MESSAGES: Final = "/v1/messages"
_NOWHERE: Final = "http://127.0.0.1:1"  # a port that nobody listens on
_BEGINNING: Final = 40  # bytes of an answer


@pytest.mark.anyio
class ProviderContract:
    """Inherit, name the class Test…, and supply the method `make_provider`; in `credential` say what it gives its server.

    The server that the provider asks is a `ScriptedModel`, which speaks the Messages API. A provider that asks none overrides
    the fixture `model` with one that returns None; what only a server could show then counts as not claimed.
    """

    credential = ""

    def make_provider(self, url: str) -> Provider:
        """The provider under test, as its factory makes it, asking the server at `url` ('' where there is none)."""
        raise NotImplementedError("a method `make_provider` that returns the provider under test")

    @pytest.fixture
    async def model(self) -> Any:  # Any: an iterator of the model, or None where this is overridden
        async with ScriptedModel() as model:
            yield model

    @pytest.fixture
    async def provider(self, model: ScriptedModel | None) -> Any:  # Any: an iterator of the provider
        provider = self.make_provider(model.url if model else "")
        yield provider
        await _close(provider)

    # --- answering --------------------------------------------------------------------------------------------------------

    @capability("paths")
    async def test_its_paths_are_paths_of_the_messages_api(self, provider: Provider) -> None:
        assert _MESSAGES in provider.paths
        assert [path for path in provider.paths if not path.startswith("/") or set("?# ") & set(path)] == []

    @capability("paths")
    async def test_every_path_that_it_declares_is_answered(self, provider: Provider) -> None:
        statuses = {path: (await _answer(provider, _request(path)))[0] for path in provider.paths & {*_KNOWN}}
        assert statuses == dict.fromkeys(provider.paths & {*_KNOWN}, 200)

    @capability("answer")
    async def test_an_answer_is_a_message(self, provider: Provider) -> None:
        _, body = await _answer(provider, _request())
        message = json.loads(body)
        assert (message["type"], message["role"]) == ("message", "assistant")
        assert message["content"]

    @capability("stream")
    async def test_a_stream_has_a_beginning_and_an_end(self, provider: Provider) -> None:
        _, body = await _answer(provider, _request(stream=True))
        kinds = [line.partition(b":")[2].strip().decode() for line in body.splitlines() if line.startswith(b"event:")]
        assert (kinds[0], kinds[-1]) == ("message_start", "message_stop")

    @capability("stream")
    async def test_a_stream_is_handed_on_as_it_comes(self, provider: Provider, model: ScriptedModel | None) -> None:
        rest = anyio.Event()
        _needed(model).script(Reply.hang(_BEGINNING, until=rest))
        with anyio.fail_after(PATIENCE):
            async with provider.respond(_request(stream=True)) as response:
                beginning = await anext(aiter(response.chunks))
                rest.set()
                body = beginning + b"".join([chunk async for chunk in response.chunks])
        assert 0 < len(beginning) <= _BEGINNING
        assert body.rstrip().endswith(b"}")

    @capability("models")
    async def test_its_models_are_names(self, provider: Provider) -> None:
        names = await provider.models()
        assert [name for name in names if not isinstance(name, str) or not name] == []
        assert len(set(names)) == len(names)

    # --- the credential ---------------------------------------------------------------------------------------------------

    @capability("credential")
    async def test_its_own_credential_is_what_the_server_gets(self, provider: Provider, model: ScriptedModel | None) -> None:
        model = self._asked_for_a_credential(model)
        await _answer(provider, _request())
        assert [call.path for call in model.calls if self.credential not in str(dict(call.headers))] == []

    @capability("credential")
    async def test_no_worker_sees_the_credential(self, provider: Provider, model: ScriptedModel | None) -> None:
        """Also not where the server refuses it."""
        model = self._asked_for_a_credential(model)
        model.script(Reply.text("hello"), Reply.error(401, "authentication_error", "invalid key"))
        for _ in range(2):
            async with provider.respond(_request()) as response:
                shown = str(dict(response.headers)).encode() + b"".join([chunk async for chunk in response.chunks])
            assert self.credential.encode() not in shown

    # --- trouble ----------------------------------------------------------------------------------------------------------

    @capability("trouble")
    async def test_what_the_server_refuses_is_an_answer(self, provider: Provider, model: ScriptedModel | None) -> None:
        _needed(model).script(Reply.error(429, "rate_limit_error", "slow down", {"retry-after": "3"}))
        status, body = await _answer(provider, _request())
        assert (status, json.loads(body)["error"]["type"]) == (429, "rate_limit_error")

    @capability("trouble")
    async def test_a_server_that_is_not_there_is_unavailable(self, model: ScriptedModel | None) -> None:
        _needed(model)
        provider = self.make_provider(_NOWHERE)
        try:
            with pytest.raises(ModelUnavailable) as error:
                await _answer(provider, _request())
        finally:
            await _close(provider)
        assert str(error.value).strip()
        assert not self.credential or self.credential not in str(error.value)

    @capability("trouble")
    async def test_an_answer_that_breaks_off_is_unavailable(self, provider: Provider, model: ScriptedModel | None) -> None:
        _needed(model).script(Reply.cut(_BEGINNING))
        with pytest.raises(ModelUnavailable):
            await _answer(provider, _request(stream=True))

    # --- the end ----------------------------------------------------------------------------------------------------------

    @capability("leaving")
    async def test_leaving_ends_the_work_of_the_server(self, provider: Provider, model: ScriptedModel | None) -> None:
        model = _needed(model)
        model.script(Reply.hang(_BEGINNING))
        async with provider.respond(_request(stream=True)) as response:
            await anext(aiter(response.chunks))
        await eventually(lambda: model.abandoned)

    @capability("clean end")
    async def test_nothing_is_left_when_it_is_closed(self, model: ScriptedModel | None) -> None:
        before = Belongings()
        provider = self.make_provider(model.url if model else "")
        for stream in (False, True):
            await _answer(provider, _request(stream=stream))
        await _close(provider)
        await eventually(lambda: not Belongings().more_than(before))

    def _asked_for_a_credential(self, model: ScriptedModel | None) -> ScriptedModel:
        if not self.credential:
            not_claimed("this test names no `credential`")
        return _needed(model)


_KNOWN: Final = (_MESSAGES, f"{_MESSAGES}/count_tokens")


def _needed(model: ScriptedModel | None) -> ScriptedModel:
    if model is None:
        not_claimed("the provider of this test asks no server")
    assert model is not None
    return model


def _request(path: str = _MESSAGES, **fields: object) -> ModelRequest:
    """What the gateway hands on of a worker's request: no credential is in it."""
    document = {"model": "demo", "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}], **fields}
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    return ModelRequest(path=path, query="", headers=headers, body=json.dumps(document).encode())


async def _answer(provider: Provider, request: ModelRequest) -> tuple[int, bytes]:
    with anyio.fail_after(PATIENCE):
        async with provider.respond(request) as response:
            return response.status, b"".join([chunk async for chunk in response.chunks])


async def _close(provider: Provider) -> None:
    if isinstance(provider, ClosingProvider):
        await provider.aclose()
