"""The contract of providers: one that keeps it passes, and each broken rule is found by the test of that rule."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest

from nanoclaw_core import HttpUpstream, ModelRequest, ModelResponse, ModelUnavailable, Provider
from nanoclaw_core.testing import ProviderContract, ScriptedModel

KEY = "key-of-the-provider"


class TestHttpUpstream(ProviderContract):
    credential = KEY

    def make_provider(self, url: str) -> Provider:
        return HttpUpstream(url, {"x-api-key": KEY})


# --- providers that break a rule ------------------------------------------------------------------------------------------


MADE: list[Sound] = []
HELD: list[AbstractAsyncContextManager[ModelResponse]] = []


class Sound:
    """Keeps every rule; what is below breaks one."""

    def __init__(self, url: str) -> None:
        self.upstream = HttpUpstream(url, {"x-api-key": KEY})
        self.paths = self.upstream.paths
        MADE.append(self)

    @asynccontextmanager
    async def respond(self, request: ModelRequest) -> AsyncIterator[ModelResponse]:
        async with self.upstream.respond(request) as response:
            yield await self.change(response)

    async def change(self, response: ModelResponse) -> ModelResponse:
        return response

    async def models(self) -> Sequence[str]:
        return await self.upstream.models()

    async def aclose(self) -> None:
        await self.upstream.aclose()


async def whole(response: ModelResponse) -> bytes:
    return b"".join([chunk async for chunk in response.chunks])


async def each(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


class Greedy(Sound):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.paths = frozenset({"/v1/messages", "https://example.com/?all"})


class Boastful(Sound):
    """Declares a path that it does not serve."""

    async def change(self, response: ModelResponse) -> ModelResponse:
        body = await whole(response)
        return replace(response, status=404 if b'"input_tokens"' in body[:20] else response.status, chunks=each(body))


class Foreign(Sound):
    """Answers in the shape of another API."""

    async def change(self, response: ModelResponse) -> ModelResponse:
        await whole(response)
        return replace(response, chunks=each(b'{"choices": []}'))


class Endless(Sound):
    async def change(self, response: ModelResponse) -> ModelResponse:
        body = await whole(response)
        return replace(response, chunks=each(body.partition(b"event: message_stop")[0]))


class Buffering(Sound):
    async def change(self, response: ModelResponse) -> ModelResponse:
        return replace(response, chunks=each(await whole(response)))


class Repeating(Sound):
    async def models(self) -> Sequence[str]:
        return ["demo", "demo"]


class Anonymous(Sound):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.upstream = HttpUpstream(url, {})


class Chatty(Sound):
    async def change(self, response: ModelResponse) -> ModelResponse:
        return replace(response, headers={**response.headers, "x-sent-with": KEY})


class Proud(Sound):
    """Takes a refusal for a failure."""

    async def change(self, response: ModelResponse) -> ModelResponse:
        if response.status != 200:
            raise ModelUnavailable("refused")
        return response


class Raw(Sound):
    """Lets its library's errors out."""

    @asynccontextmanager
    async def respond(self, request: ModelRequest) -> AsyncIterator[ModelResponse]:
        try:
            async with super().respond(request) as response:
                yield replace(response, chunks=self._bare(response))
        except ModelUnavailable as error:
            raise OSError(str(error)) from error

    async def _bare(self, response: ModelResponse) -> AsyncIterator[bytes]:
        async for chunk in response.chunks:
            yield chunk


class Telling(Sound):
    @asynccontextmanager
    async def respond(self, request: ModelRequest) -> AsyncIterator[ModelResponse]:
        try:
            async with super().respond(request) as response:
                yield response
        except ModelUnavailable as error:
            raise ModelUnavailable(f"{error} (asked with {KEY})") from error


class Clinging(Sound):
    """Goes on reading when nobody listens any more."""

    @asynccontextmanager
    async def respond(self, request: ModelRequest) -> AsyncIterator[ModelResponse]:
        context = self.upstream.respond(request)
        HELD.append(context)
        yield await context.__aenter__()

    async def aclose(self) -> None:
        """Leaves its connections open."""


BROKEN: list[tuple[type[Sound], str]] = [
    (Greedy, "test_its_paths_are_paths_of_the_messages_api"),
    (Boastful, "test_every_path_that_it_declares_is_answered"),
    (Foreign, "test_an_answer_is_a_message"),
    (Endless, "test_a_stream_has_a_beginning_and_an_end"),
    (Buffering, "test_a_stream_is_handed_on_as_it_comes"),
    (Repeating, "test_its_models_are_names"),
    (Anonymous, "test_its_own_credential_is_what_the_server_gets"),
    (Chatty, "test_no_worker_sees_the_credential"),
    (Proud, "test_what_the_server_refuses_is_an_answer"),
    (Raw, "test_a_server_that_is_not_there_is_unavailable"),
    (Raw, "test_an_answer_that_breaks_off_is_unavailable"),
    (Telling, "test_a_server_that_is_not_there_is_unavailable"),
    (Clinging, "test_leaving_ends_the_work_of_the_server"),
    (Clinging, "test_nothing_is_left_when_it_is_closed"),
]


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanoclaw_core.testing.contracts.inbox.PATIENCE", 0.3)
    monkeypatch.setattr("nanoclaw_core.testing.contracts.providers.PATIENCE", 0.3)


async def judge(provider_class: type[Sound], test: str) -> None:
    """Run one test of the contract."""

    class Contract(ProviderContract):
        credential = KEY

        def make_provider(self, url: str) -> Provider:
            return provider_class(url)

    async with ScriptedModel() as model:
        available: dict[str, Any] = {"provider": provider_class(model.url), "model": model}
        wanted = getattr(Contract, test).__annotations__.keys() & available.keys()
        try:
            await getattr(Contract(), test)(**{name: available[name] for name in wanted})
        finally:
            while HELD:
                await HELD.pop().__aexit__(None, None, None)
            while MADE:
                await MADE.pop().upstream.aclose()


@pytest.mark.parametrize(("provider_class", "test"), BROKEN, ids=[f"{one.__name__}-{test[5:30]}" for one, test in BROKEN])
@pytest.mark.usefixtures("impatient")
async def test_a_broken_rule_is_found(provider_class: type[Sound], test: str) -> None:
    with pytest.raises((Exception, BaseExceptionGroup)) as caught:
        await judge(provider_class, test)
    assert not isinstance(caught.value, pytest.skip.Exception)


@pytest.mark.parametrize("test", sorted({test for _, test in BROKEN}))
async def test_a_sound_provider_breaks_none(test: str) -> None:
    await judge(Sound, test)


async def test_what_only_a_server_could_show_is_not_claimed_without_one() -> None:
    with pytest.raises(pytest.skip.Exception, match="not claimed: the provider of this test asks no server"):
        await ProviderContract().test_a_server_that_is_not_there_is_unavailable(None)
