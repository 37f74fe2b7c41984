"""The scripted model does what its script says."""

from __future__ import annotations

import json
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from nanoclaw_core.testing.event_stream import StreamedMessage
from nanoclaw_core.testing.scripted_model import Reply, ScriptedModel

REQUEST = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}], "tools": [{"name": "Bash"}]}


@pytest.fixture
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nc") as folder:
        yield Path(folder)


@pytest.fixture
async def model() -> AsyncIterator[ScriptedModel]:
    async with ScriptedModel() as scripted:
        yield scripted


@pytest.fixture
async def client(model: ScriptedModel) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base_url=model.url) as session:
        yield session


async def ask(client: aiohttp.ClientSession, **fields: Any) -> tuple[int, Any, bytes]:
    async with client.post("/v1/messages", json={**REQUEST, **fields}) as answer:
        return answer.status, answer.headers, await answer.read()


async def content(client: aiohttp.ClientSession) -> Any:
    return json.loads((await ask(client))[2])["content"][0]


async def test_replies_come_in_order_and_then_the_demo_model_answers(model: ScriptedModel, client: Any) -> None:
    model.script(Reply.text("one"), Reply.tool("Bash", {"command": "id"}))
    assert (await content(client))["text"] == "one"
    assert (await content(client))["input"] == {"command": "id"}
    assert (await content(client))["text"] == "You said: hi"


async def test_calls_are_written_down(model: ScriptedModel, client: Any) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, client)
        with anyio.fail_after(30):
            (call,) = await model.wait_for(1)
    assert (call.method, call.path, call.json["messages"]) == ("POST", "/v1/messages", REQUEST["messages"])
    assert call.headers["content-type"] == "application/json"


async def test_an_error_has_its_status_headers_and_shape(model: ScriptedModel, client: Any) -> None:
    model.script(Reply.error(429, "rate_limit_error", "slow down", {"retry-after": "1"}))
    status, headers, body = await ask(client)
    assert (status, headers["retry-after"]) == (429, "1")
    assert json.loads(body) == {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}


async def test_an_answer_waits_for_its_event(model: ScriptedModel, client: Any) -> None:
    go = anyio.Event()
    model.script(Reply.text("late", after=go))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, client)
        await model.wait_for(1)
        assert not go.is_set()
        go.set()


async def test_a_cut_breaks_the_connection_after_so_many_bytes(model: ScriptedModel, client: Any) -> None:
    model.script(Reply.cut(30))
    async with client.post("/v1/messages", json={**REQUEST, "stream": True}) as answer:
        assert len(await answer.content.readexactly(30)) == 30
        with pytest.raises(aiohttp.ClientPayloadError):
            await answer.read()


async def test_a_hang_ends_with_its_event(model: ScriptedModel, client: Any) -> None:
    go = anyio.Event()
    model.script(Reply.hang(30, "at last", until=go))
    async with client.post("/v1/messages", json=REQUEST) as answer:
        await answer.content.readexactly(30)
        go.set()
        assert b"at last" in await answer.read()


async def test_a_client_that_leaves_is_noticed(model: ScriptedModel, client: Any) -> None:
    model.script(Reply.hang())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, client)
        await model.wait_for(1)
        tasks.cancel_scope.cancel()
    with anyio.fail_after(30):
        await model.wait_for_abandoned()


async def test_malformed_events_are_malformed(model: ScriptedModel, client: Any) -> None:
    model.script(Reply.malformed())
    _, headers, body = await ask(client, stream=True)
    assert headers["content-type"] == "text/event-stream"
    with pytest.raises(ValueError, match="property name"):
        json.loads(body.partition(b"data: ")[2])


async def test_it_listens_on_a_unix_socket_too(short_folder: Path) -> None:
    async with (
        ScriptedModel(short_folder / "s") as model,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(short_folder / "s"))) as client,
        client.get("http://model/v1/models") as answer,
    ):
        assert [listed["id"] for listed in (await answer.json())["data"]] == ["demo"]
    assert model.calls[0].path == "/v1/models"


async def test_an_answer_comes_in_pieces_when_the_test_lets_it(model: ScriptedModel, client: Any) -> None:
    go = anyio.Event()
    model.script(Reply.stream("It ", go, "is ", "four."))
    async with client.post("/v1/messages", json={**REQUEST, "stream": True}) as answer:
        message = StreamedMessage()
        pieces: list[tuple[str, bool]] = []
        while ("It ", False) not in pieces:
            pieces += message.take(await answer.content.readany())
        assert pieces == [("", True), ("It ", False)]
        go.set()
        pieces += message.take(await answer.content.read())
    assert pieces[2:] == [("is ", False), ("four.", False)]
    assert message.whole()["content"] == [{"type": "text", "text": "It is four."}]


async def test_a_message_whose_stream_breaks_off_is_none() -> None:
    message = StreamedMessage()
    message.take(b'event: message_start\ndata: {"type": "message_start", "message": {"stop_reason": null}}\n\n')
    with pytest.raises(ValueError, match="broke off"):
        message.whole()
