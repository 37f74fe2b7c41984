"""The control socket over a real Unix socket, with a host that has nothing behind it."""

from __future__ import annotations

import errno
import json
import socket
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, TaskStatus
from anyio.streams.buffered import BufferedByteReceiveStream
from structlog.testing import capture_logs

from nanoclaw_core.cli.connection import ControlClient, RequestFailed, connect
from nanoclaw_core.control import LINE_LIMIT, ControlServer, socket_path
from nanoclaw_core.errors import HomeUnusable, HostNotRunning
from tests.cli.fake_host import FakeHost


@pytest.fixture
def home(nanoclaw_home: Path) -> Path:
    return nanoclaw_home


@pytest.fixture
async def host(home: Path) -> AsyncIterator[FakeHost]:
    with anyio.fail_after(20):
        async with FakeHost().serving(home) as host:
            yield host


async def updates(client: ControlClient, *methods: str) -> list[dict[str, Any]]:
    """The next notifications of these methods, in this order, each confirmed; others are passed over."""
    found = []
    for method in methods:
        async for name, params in client.notifications:
            if name == method:
                found.append(params)
                await client.tell("chat.seen", number=params["number"])
                break
    return found


async def speak(home: Path, line: bytes) -> tuple[dict[str, Any], bool]:
    """Send bytes as they are; return the first reply, and whether the host then closed the connection."""
    async with await anyio.connect_unix(socket_path(home)) as stream:
        replies = BufferedByteReceiveStream(stream)
        await stream.send(line)
        reply = json.loads(await replies.receive_until(b"\n", LINE_LIMIT))
        return reply, await is_closed(stream)


async def is_closed(stream: ByteStream) -> bool:
    try:
        await stream.send(b'{"method": "version", "id": 99}\n')
        await stream.receive()
    except (anyio.EndOfStream, anyio.BrokenResourceError):
        return True
    return False


# --- the socket -----------------------------------------------------------------------------------------------------------


async def test_only_its_owner_can_open_the_socket(host: FakeHost, home: Path) -> None:
    assert stat.S_IMODE(socket_path(home).stat().st_mode) == 0o600


async def test_the_socket_of_a_dead_host_is_replaced(home: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(socket_path(home)))
    async with FakeHost().serving(home), connect(home) as client:
        assert (await client.call("version"))["version"]


async def test_the_socket_is_gone_with_the_host(home: Path) -> None:
    async with FakeHost().serving(home):
        pass
    assert not socket_path(home).exists()
    with pytest.raises(HostNotRunning):
        async with connect(home):
            pass


async def test_a_path_that_is_too_long_is_the_homes_fault(home: Path) -> None:
    deep = home / ("x" * 120)
    deep.mkdir()
    with pytest.raises(HomeUnusable):
        await ControlServer(FakeHost(), socket_path(deep), lambda: None).serve()
    with pytest.raises(HomeUnusable):
        async with connect(deep):
            pass


async def test_a_host_without_a_file_left_serves_on_when_there_is_one_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """anyio's own `serve` ends with the first EMFILE, and with it the host would."""
    monkeypatch.setattr("nanoclaw_core.control._ACCEPT_AGAIN", 0)
    failures = iter([OSError(errno.EMFILE, "Too many open files")] * 3)
    accept = socket.socket.accept

    def fail_at_first(listening: socket.socket) -> tuple[socket.socket, Any]:
        if failure := next(failures, None):
            raise failure
        return accept(listening)

    monkeypatch.setattr(socket.socket, "accept", fail_at_first)
    with capture_logs() as logs, anyio.fail_after(30):
        async with FakeHost().serving(home), connect(home) as client:
            assert (await client.call("version"))["version"]
    assert [line["event"] for line in logs] == ["control.cannot_accept"]


# --- requests -------------------------------------------------------------------------------------------------------------


async def test_status_is_the_hosts(host: FakeHost, home: Path) -> None:
    async with connect(home) as client:
        assert await client.call("status") == await host.status()


async def test_stop_is_answered_before_it_is_done(host: FakeHost, home: Path) -> None:
    async with connect(home) as client:
        assert (await client.call("stop"))["pid"]
        await client.call("version")
        assert host.stops == 1


async def test_an_error_of_the_host_carries_its_exit_code(host: FakeHost, home: Path) -> None:
    async with connect(home) as client:
        with pytest.raises(RequestFailed, match="no agent named 'Zoe'") as caught:
            await client.call("chat.open", agent="Zoe")
        assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    ("method", "params"),
    [("dance", {}), ("chat.send", {"text": "x", "message_id": "m"}), ("chat.open", {"agent": 7})],
    ids=["unknown method", "no chat is open", "wrong type"],
)
async def test_a_wrong_request_is_refused_and_the_connection_goes_on(
    host: FakeHost, home: Path, method: str, params: dict[str, Any]
) -> None:
    async with connect(home) as client:
        with pytest.raises(RequestFailed):
            await client.call(method, **params)
        assert await client.call("version")


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1\r\n",
        b"\xff\xfe\n",
        b"[]\n",
        b'{"method": 3}\n',
        b'{"method": "version", "params": []}\n',
        b"[" * 100_000 + b"\n",
    ],
    ids=["http", "no utf-8", "array", "no method", "params", "deep"],
)
async def test_garbage_is_answered_with_an_error_and_the_connection_closed(host: FakeHost, home: Path, line: bytes) -> None:
    reply, closed = await speak(home, line)
    assert reply["error"]["code"] in (-32700, -32600)
    assert closed


async def test_a_line_without_end_is_cut_off(host: FakeHost, home: Path) -> None:
    async with await anyio.connect_unix(socket_path(home)) as stream:
        with pytest.raises(anyio.BrokenResourceError):
            await stream.send(b"x" * 2 * LINE_LIMIT)


async def test_a_client_that_leaves_in_mid_line_disturbs_nobody(host: FakeHost, home: Path) -> None:
    async with await anyio.connect_unix(socket_path(home)) as stream:
        await stream.send(b'{"method": "ver')
    async with connect(home) as client:
        assert await client.call("version")


# --- chats ----------------------------------------------------------------------------------------------------------------


async def test_a_chat_opens_with_its_agent_and_what_one_should_know(host: FakeHost, home: Path) -> None:
    async with connect(home) as client:
        assert await client.call("chat.open") == {"agent": "Andy", "chat": "chat-Andy", "notices": host.greeting()}


async def test_a_message_is_answered_and_settled(host: FakeHost, home: Path) -> None:
    async with connect(home) as client:
        await client.call("chat.open")
        assert await client.call("chat.send", text="hello", message_id="m1") == {"accepted": True}
        said, settled = await updates(client, "chat.message", "chat.settled")
    assert said["text"] == "You said **hello**"
    assert (settled["message_ids"], settled["outcome"]) == (["m1"], "answered")


async def test_the_same_message_again_is_known(host: FakeHost, home: Path) -> None:
    async with connect(home) as client:
        await client.call("chat.open")
        await client.call("chat.send", text="hello", message_id="m1")
        assert await client.call("chat.send", text="hello", message_id="m1") == {"accepted": False}
    assert len(host.received) == 1


async def test_ten_megabytes_pass_both_ways(host: FakeHost, home: Path) -> None:
    text = "ä" * 5_000_000
    async with connect(home) as client:
        await client.call("chat.open")
        await client.call("chat.send", text=text, message_id="m1")
        (said,) = await updates(client, "chat.message")
    assert said["text"] == f"You said **{text}**"


async def test_a_message_that_the_host_refuses_says_why(host: FakeHost, home: Path) -> None:
    async with connect(home) as client:
        await client.call("chat.open")
        with pytest.raises(RequestFailed, match="at most 12,000,000"):
            await client.call("chat.send", text="x" * 13_000_000, message_id="m1")


async def test_an_answer_that_was_never_confirmed_comes_to_the_next_client(host: FakeHost, home: Path) -> None:
    async with connect(home) as client:
        await client.call("chat.open")
        await client.call("chat.send", text="hello", message_id="m1")
        async for name, _ in client.notifications:
            if name == "chat.message":
                break
    async with connect(home) as client:
        await client.call("chat.open")
        said, _ = await updates(client, "chat.message", "chat.settled")
    assert said["text"] == "You said **hello**"


async def test_a_client_that_never_reads_holds_nobody_up(host: FakeHost, home: Path) -> None:
    async with connect(home) as client, await anyio.connect_unix(socket_path(home)) as deaf:
        await client.call("chat.open")
        await deaf.send(b'{"method": "chat.open"}\n')
        for number in range(20):
            await client.call("chat.send", text="x" * 100_000, message_id=f"m{number}")
            await updates(client, "chat.message", "chat.settled")
    assert len(host.received) == 20


async def test_after_close_nothing_is_shown_and_another_chat_can_open(host: FakeHost, home: Path) -> None:
    async with connect(home) as client:
        await client.call("chat.open")
        await client.call("chat.close")
        assert (await client.call("chat.open", agent="Bea"))["agent"] == "Bea"
        await client.call("chat.send", text="hello", message_id="m1")
        await updates(client, "chat.message")
    assert host.received[0].address.chat == "chat-Bea"


async def test_a_call_fails_when_the_host_goes_away(home: Path) -> None:
    async def end(client: ControlClient) -> None:
        await client.gone()
        with pytest.raises(HostNotRunning):
            await client.call("version")

    async with anyio.create_task_group() as tasks, FakeHost().serving(home):
        await tasks.start(_connected, home, end)


async def _connected(home: Path, body: Callable[[ControlClient], Awaitable[None]], *, task_status: TaskStatus[None]) -> None:
    async with connect(home) as client:
        await client.call("version")
        task_status.started()
        await body(client)


def test_a_host_may_open_as_many_files_as_the_system_allows() -> None:
    code = (
        "import resource; hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]; "
        "resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard)); "
        "from nanoclaw_core.cli.serve import _take_files; _take_files(); "
        "print(resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout == "True\n"
