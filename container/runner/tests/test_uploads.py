"""Files that a call names are read, handed over, and referred to; what cannot be is explained to the agent."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from miniature import FakeHost, Home
from nanoclaw_runner import uploads
from nanoclaw_runner.launch import FileRules
from nanoclaw_runner.relay import ask_persistently, run_relay
from nanoclaw_runner.uploads import CannotBeHandedOver, Uploads, open_content

MOST = 1000
RULES = FileRules(parameters={"send_file": ["path", "more"], "odd": 7}, most_bytes=MOST)


def call(arguments: Any, name: str = "send_file", method: str = "tools/call") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": {"name": name, "arguments": arguments}}


def handing(home: Home, rules: FileRules = RULES) -> Uploads:
    return Uploads(rules, home.workspace, partial(ask_persistently, str(home.socket)))


async def rewritten(home: Home, arguments: Any) -> Any:
    with anyio.fail_after(30):
        body = await handing(home).rewrite(json.dumps(call(arguments)).encode())
    return json.loads(body)["params"]["arguments"]


@asynccontextmanager
async def relayed(home: Home) -> AsyncIterator[aiohttp.ClientSession]:
    """A client of the relay, which keeps its connection, as Claude Code does."""
    async with anyio.create_task_group() as group:
        port = await group.start(run_relay, str(home.socket), handing(home).rewrite)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
            yield client
        group.cancel_scope.cancel()


# --- what is handed over --------------------------------------------------------------------------------------------------


async def test_a_path_becomes_a_reference_to_what_the_host_has(home: Home, host: FakeHost) -> None:
    (home.workspace / "a.txt").write_bytes(b"hello")
    arguments = await rewritten(home, {"path": "a.txt", "text": "é \ud83d", "other": "a.txt"})
    ((upload, content),) = host.uploads.items()
    assert arguments == {"path": {"path": "a.txt", "upload": upload}, "text": "é \ud83d", "other": "a.txt"}
    assert content == b"hello"
    assert upload.startswith(hashlib.sha256(b"hello").hexdigest() + "-")


async def test_absolute_paths_links_and_lists_of_paths_work(home: Home, host: FakeHost) -> None:
    elsewhere = home.folder / "b.txt"
    elsewhere.write_bytes(b"elsewhere")
    (home.workspace / "link").symlink_to(elsewhere)
    (home.workspace / "empty").touch()
    arguments = await rewritten(home, {"path": str(elsewhere), "more": ["link", "empty", 7]})
    assert [host.uploads[each["upload"]] for each in (arguments["path"], *arguments["more"][:2])] == [
        b"elsewhere",
        b"elsewhere",
        b"",
    ]
    assert arguments["more"][2] == 7


async def test_the_same_content_twice_is_two_uploads(home: Home, host: FakeHost) -> None:
    """Each belongs to one call, and goes with it."""
    (home.workspace / "a.txt").write_bytes(b"hello")
    await rewritten(home, {"more": ["a.txt", "a.txt"]})
    assert len(host.uploads) == 2
    assert len({upload.partition("-")[0] for upload in host.uploads}) == 1


@pytest.mark.parametrize(
    "message",
    [
        call({"path": "a.txt"}, name="other"),
        call({"path": "a.txt"}, method="tools/list"),
        call({"text": "path"}),
        call(["path"]),
        call("path"),
        call({"path": "a.txt"}, name="odd"),
        {"method": "tools/call", "params": {"name": ["send_file"], "arguments": {}}},
        {"method": "tools/call", "params": 7},
        [call({"path": "a.txt"})],
        "path",
    ],
)
async def test_what_is_no_call_with_files_is_left_as_it_is(home: Home, message: Any) -> None:
    (home.workspace / "a.txt").write_bytes(b"hello")
    body = json.dumps(message, indent=1).encode()
    assert await handing(home).rewrite(body) == body


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000], ids=["nothing", "half", "no text", "nested"])
async def test_what_is_no_json_is_left_as_it_is(home: Home, body: bytes) -> None:
    assert await handing(home).rewrite(body) == body


# --- what is not ----------------------------------------------------------------------------------------------------------


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def _sparse(path: Path) -> None:
    path.touch()
    os.truncate(path, 2**40)


def _loop(path: Path) -> None:
    path.symlink_to(path)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Path.mkdir, "it is a folder"),
        (_fifo, "it is no regular file"),
        (_socket, "No such device or address"),
        (_sparse, "1,048,576.0 MiB, and at most 0 MiB"),
        (_loop, "Too many levels of symbolic links"),
        (lambda path: path.symlink_to("/dev/zero"), "it is no regular file"),
        (lambda path: path.symlink_to("/proc/self/mem"), "it is no regular file"),
        (lambda path: path.symlink_to("/proc/self/environ"), "it is no regular file"),
        (lambda path: None, "there is no such file"),
    ],
)
def test_what_is_no_file_of_the_agent_is_not_read(tmp_path: Path, make: Any, reason: str) -> None:
    make(tmp_path / "it")
    with pytest.raises(CannotBeHandedOver, match=reason):
        open_content(tmp_path / "it", MOST)


@pytest.mark.parametrize("name", ["\0", "\ud83d", "x" * 5000])
def test_what_is_no_path_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CannotBeHandedOver):
        open_content(tmp_path / name, MOST)


def test_a_refused_file_is_not_left_open(tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with pytest.raises(CannotBeHandedOver):
            open_content(tmp_path, MOST)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, pread = tmp_path / "log", os.pread
    path.write_bytes(b"a line\n")

    def read_and_grow(fd: int, size: int, offset: int) -> bytes:
        found = pread(fd, size, offset)
        with path.open("ab") as file:
            file.write(b"another\n")
        return found

    monkeypatch.setattr(os, "pread", read_and_grow)
    with pytest.raises(CannotBeHandedOver, match="it changed while it was read"):
        open_content(path, MOST)


async def test_a_file_that_shrinks_while_it_is_sent_is_explained(
    home: Home, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home.workspace / "a.txt").write_bytes(b"hello")
    monkeypatch.setattr(uploads, "_read", lambda *_: b"")
    with anyio.fail_after(30):
        arguments = await rewritten(home, {"path": "a.txt"})
    assert arguments["path"]["problem"] == "a.txt: the host hung up while it was handed over; call again"
    assert host.uploads == {}


async def test_why_the_host_refused_is_said(home: Home, host: FakeHost) -> None:
    (home.workspace / "a.txt").write_bytes(b"hello")
    host.refusal = (429, "at most 100 files can wait to be sent")
    arguments = await rewritten(home, {"path": "a.txt", "more": ["b.txt"]})
    assert arguments == {
        "path": {"path": "a.txt", "problem": "a.txt: at most 100 files can wait to be sent"},
        "more": [{"path": "b.txt", "problem": "b.txt: there is no such file"}],
    }


# --- over the relay -------------------------------------------------------------------------------------------------------


async def test_calls_over_one_connection_are_rewritten_and_all_else_passes(home: Home, host: FakeHost) -> None:
    (home.workspace / "a.txt").write_bytes(b"hello")
    with anyio.fail_after(30):
        async with relayed(home) as client:
            for _ in range(2):
                question = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
                async with client.post("/v1/messages", json=question) as answer:
                    assert (await answer.json())["content"][0]["text"] == "echo: hi"
                async with client.post("/mcp", json=call({"path": "a.txt"})) as answer:
                    assert answer.status == 200
                async with client.get("/mcp") as answer:
                    assert answer.status == 405
    assert [each["params"]["arguments"]["path"]["path"] for each in host.calls] == ["a.txt", "a.txt"]
    assert list(host.uploads.values()) == [b"hello", b"hello"]


async def test_a_call_whose_file_is_on_its_way_when_the_host_dies_is_put_to_the_next(home: Home) -> None:
    (home.workspace / "a.txt").write_bytes(b"hello")
    host, statuses, answered = FakeHost(home.socket), list[int](), anyio.Event()

    async def ask() -> None:
        async with client.post("/mcp", json=call({"path": "a.txt"})) as answer:
            statuses.append(answer.status)
        answered.set()

    with anyio.fail_after(30):
        async with relayed(home) as client, anyio.create_task_group() as group:
            host.holds_uploads = True
            async with host.up():
                group.start_soon(ask)
                await host.upload_began.wait()
            host.uploads.clear()
            host.holds_uploads = False
            async with host.up():
                await answered.wait()
    assert statuses == [200]
    (sent,) = host.calls
    assert host.uploads[sent["params"]["arguments"]["path"]["upload"]] == b"hello"


async def test_a_client_that_leaves_in_the_middle_of_a_call_is_forgotten(home: Home, host: FakeHost) -> None:
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            port = await group.start(run_relay, str(home.socket), handing(home).rewrite)
            async with await anyio.connect_tcp("127.0.0.1", port) as client:
                await client.send(b"POST /mcp HTTP/1.1\r\nContent-Length: 50\r\n\r\n{")
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session, session.post("/mcp", json=call({})):
                pass
            group.cancel_scope.cancel()
    assert len(host.calls) == 1
