"""What a hostile worker can use up of the host: a little, and none of what other workers need."""

from __future__ import annotations

import errno
import io
import json
import socket
import threading
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.abc import SocketStream
from structlog.testing import capture_logs

from nanoclaw_core.gateway import caller, doorway
from nanoclaw_core.gateway.caller import Complaints
from nanoclaw_core.gateway.model_proxy import SHAPE
from nanoclaw_core.models import ModelRequest
from nanoclaw_core.ports import ModelResponse

CONVERSATION: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def is_cut(stream: SocketStream) -> bool:
    with anyio.fail_after(30):
        try:
            await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return True
    return False


def head(path: str = "/v1/messages", *, length: int = 0) -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: gateway\r\nContent-Length: {length}\r\n\r\n".encode()


async def answer_to(stream: SocketStream) -> tuple[int, Any]:
    """The status and the JSON of the answer, which comes in one piece."""
    received = b""
    with anyio.fail_after(30):
        while b"\r\n\r\n" not in received or not received.endswith(b"}"):
            received += await stream.receive()
    lines, _, body = received.partition(b"\r\n\r\n")
    return int(lines.split()[1]), json.loads(body)


# --- connections ----------------------------------------------------------------------------------------------------------


async def test_only_so_many_connections_are_let_in_and_others_when_they_end(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorway, "MOST_CONNECTIONS", 3)
    async with await anyio.connect_unix(rig.socket) as first:
        await first.send(head("/nowhere"))
        assert (await answer_to(first))[0] == 404  # idle now: it counts
        held = [await anyio.connect_unix(rig.socket) for _ in range(2)]
        async with await anyio.connect_unix(rig.socket) as turned_away:
            assert await is_cut(turned_away)
        for stream in held:
            await stream.aclose()
        await anyio.wait_all_tasks_blocked()
        assert (await rig.ask("/v1/messages", CONVERSATION))[0] == 200


async def test_one_workers_connections_leave_the_others_room(rig: Any, identity: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorway, "MOST_CONNECTIONS", 1)
    other = await rig.gateway.open(identity("w2")) / "gateway.sock"
    async with await anyio.connect_unix(rig.socket), await anyio.connect_unix(other) as stream:
        await stream.send(head("/nowhere"))
        assert (await answer_to(stream))[0] == 404


async def test_a_connection_whose_request_does_not_come_is_cut(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorway, "HEAD_WITHIN", 0.02)
    async with await anyio.connect_unix(rig.socket) as stream:
        await stream.send(b"GET /link HTT")
        assert await is_cut(stream)


async def test_a_connection_that_was_heard_may_be_idle(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorway, "HEAD_WITHIN", 0.02)
    async with await anyio.connect_unix(rig.socket) as idle, await anyio.connect_unix(rig.socket) as silent:
        await idle.send(head("/nowhere"))
        await answer_to(idle)
        assert await is_cut(silent)  # by now the first one's deadline has passed too
        await idle.send(head("/nowhere"))
        assert (await answer_to(idle))[0] == 404


async def test_a_host_without_a_file_left_serves_on_and_says_so_once(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doorway, "_LONG_PAUSE", 0)
    failures = iter([OSError(errno.EMFILE, "Too many open files")] * 20)
    accept = socket.socket.accept

    def fail_at_first(listening: socket.socket) -> tuple[socket.socket, Any]:
        if failure := next(failures, None):
            raise failure
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", fail_at_first)
    with capture_logs() as logs:
        assert (await rig.ask("/v1/messages", CONVERSATION))[0] == 200
    assert [line["event"] for line in logs if line["log_level"] == "warning"] == ["gateway.cannot_accept"]


# --- bodies ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["[],", "0,", '"",', '{"a":{}},'])
async def test_a_body_of_very_many_parts_is_refused_before_it_is_read(rig: Any, unit: str) -> None:
    body = '{"model": "m", "messages": [' + unit * 600_000 + "0]}"
    async with rig.client.post("http://gateway/v1/messages", data=io.BytesIO(body.encode())) as answer:
        assert (answer.status, (await answer.json())["error"]["type"]) == (413, "request_too_large")


async def test_another_encoding_does_not_hide_the_parts(rig: Any) -> None:
    """In UTF-16 this letter holds the byte of a quotation mark: what follows would look like a string."""
    body = ('["\u0122", ' + "[]," * 600_000 + "0]").encode("utf-16-le")
    async with rig.client.post("http://gateway/v1/messages", data=io.BytesIO(body)) as answer:
        assert answer.status in (400, 413)


def test_a_long_conversation_about_json_is_no_attack() -> None:
    """A million tokens of numbers in texts, a hundred tools with long schemas, thousands of messages."""
    schema = {"type": "object", "properties": {f"field{n}": {"type": "string", "description": "x"} for n in range(50)}}
    texts = [{"role": "user", "content": [{"type": "text", "text": "[1,2],{}" * 250 + '"\\'}]} for _ in range(3000)]
    body = {"tools": [{"name": f"t{n}", "input_schema": schema} for n in range(100)], "messages": texts}
    assert SHAPE.fits(json.dumps(body).encode())


async def test_a_compressed_body_is_refused(rig: Any) -> None:
    async with rig.client.post("http://gateway/v1/messages", data=b"no gzip", headers={"Content-Encoding": "gzip"}) as answer:
        assert (answer.status, (await answer.json())["type"]) == (415, "error")


async def test_a_body_that_does_not_arrive_is_given_up(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "BODY_WITHIN", 0.02)
    async with await anyio.connect_unix(rig.socket) as stream:
        await stream.send(head(length=100) + b"{")
        status, body = await answer_to(stream)
        assert (status, body["error"]["type"]) == (408, "timeout_error")


async def test_a_worker_with_too_much_under_way_is_told_to_wait(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "MOST_HELD", 1000)
    async with await anyio.connect_unix(rig.socket) as first:
        await first.send(head(length=2000) + b" " * 900)
        await anyio.wait_all_tasks_blocked()
        status, headers, body = await rig.ask("/v1/messages", {**CONVERSATION, "model": "x" * 200})
        assert (status, headers["x-should-retry"], body["error"]["type"]) == (429, "true", "rate_limit_error")
    await anyio.wait_all_tasks_blocked()
    assert (await rig.ask("/v1/messages", {**CONVERSATION, "model": "x" * 200}))[0] == 200  # nothing is held any more


async def test_a_worker_that_hangs_up_does_not_start_a_second_reading(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    reading, go_on, count = threading.Event(), threading.Event(), []

    def slow(*_: Any) -> ModelRequest:
        count.append(1)
        reading.set()
        assert go_on.wait(5)
        raise ValueError("no JSON")

    monkeypatch.setattr("nanoclaw_core.gateway.model_proxy._checked", slow)
    for _ in range(3):
        async with await anyio.connect_unix(rig.socket) as stream:
            await stream.send(head(length=2) + b"{}")
            await anyio.to_thread.run_sync(reading.wait)
            await anyio.wait_all_tasks_blocked()
        await anyio.wait_all_tasks_blocked()
    assert len(count) == 1
    go_on.set()


# --- what nobody foresaw --------------------------------------------------------------------------------------------------


class Broken:
    paths = frozenset({"/v1/messages"})

    def respond(self, request: ModelRequest) -> AbstractAsyncContextManager[ModelResponse]:
        raise LookupError("a bug")

    async def models(self) -> list[str]:
        return []


async def test_an_unforeseen_error_is_answered_in_json_and_its_log_cannot_be_flooded(make_rig: Any) -> None:
    with capture_logs() as logs:
        async with make_rig(provider=Broken()) as rig:
            for _ in range(30):
                status, _, body = await rig.ask("/v1/messages", CONVERSATION)
                assert (status, body["error"]["type"]) == (500, "api_error")
    warnings = [line for line in logs if line["log_level"] == "warning"]
    assert [line["event"] for line in warnings] == ["survived"] * 10 + ["warnings.left_out"]
    assert all(line["exc_info"] for line in warnings[:10])
    assert (warnings[-1]["count"], warnings[-1]["worker"]) == (20, "w1")


async def test_what_is_no_http_fills_no_log(rig: Any, caplog: pytest.LogCaptureFixture) -> None:
    with capture_logs() as logs:
        for _ in range(30):
            async with await anyio.connect_unix(rig.socket) as stream:
                await stream.send(b"GET / HTTP/1.1\r\nno header\r\n\r\n")
                await stream.receive()
    assert len(logs) <= 10
    assert caplog.records == []


def test_complaints_are_counted_by_the_minute() -> None:
    now = [0.0]
    complaints = Complaints(most=2, now=lambda: now[0], worker="w1")
    with capture_logs() as logs:
        for now[0] in (0, 1, 2, 3, 61):
            complaints.warn("bad", at=now[0])
    assert [(line["event"], line.get("at"), line.get("count")) for line in logs] == [
        ("bad", 0, None),
        ("bad", 1, None),
        ("warnings.left_out", None, 2),
        ("bad", 61, None),
    ]
