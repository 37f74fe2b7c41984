"""`nanoclaw chat` with input from a pipe, and `status` and `stop`, as processes of their own beside a fake host."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from subprocess import PIPE, CompletedProcess

import anyio
import pytest
from anyio.abc import Process

from nanoclaw_core.models import InboundMessage
from tests.cli.fake_host import FakeHost, echo


@pytest.fixture
async def host(nanoclaw_home: Path) -> AsyncIterator[FakeHost]:
    with anyio.fail_after(60):
        async with FakeHost().serving(nanoclaw_home) as host:
            yield host


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "nanoclaw_core.cli", *words]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "NANOCLAW_HOME": str(home), "PYTHONIOENCODING": "utf-8"}


async def run(home: Path, *words: str, text: str | bytes = b"") -> CompletedProcess[bytes]:
    given = text.encode() if isinstance(text, str) else text
    return await anyio.run_process(command(*words), input=given, env=environment(home), check=False)


async def test_each_line_is_answered_in_turn(host: FakeHost, nanoclaw_home: Path) -> None:
    ended = await run(nanoclaw_home, "chat", text="one\n\n  \ntwo\r\nthree")
    assert ended.stdout.decode() == "You said **one**\nYou said **two**\nYou said **three**\n"
    assert ended.returncode == 0


async def test_only_answers_are_on_standard_output(host: FakeHost, nanoclaw_home: Path) -> None:
    ended = await run(nanoclaw_home, "chat", text="!build\n")
    assert ended.stdout.decode() == "You said **!build**\n"
    assert ended.stderr.decode().splitlines() == [*host.greeting(), "The worker image is being built."]


async def test_a_message_without_an_answer_makes_the_exit_code_1(host: FakeHost, nanoclaw_home: Path) -> None:
    ended = await run(nanoclaw_home, "chat", text="!fail\nhello\n")
    assert ended.stdout.decode() == "The model refused: 401.\nYou said **hello**\n"
    assert ended.returncode == 1


async def test_an_empty_input_is_fine(host: FakeHost, nanoclaw_home: Path) -> None:
    assert (await run(nanoclaw_home, "chat")).returncode == 0
    assert host.received == []


async def test_an_agent_cannot_send_escape_sequences(nanoclaw_home: Path) -> None:
    async def attack(host: FakeHost, message: InboundMessage) -> None:
        await host.say("\x1b]0;owned\x07hello\x9b2J", key="k", chat=message.address.chat)
        await host.settle(message, "answered")

    async with FakeHost(attack).serving(nanoclaw_home):
        assert (await run(nanoclaw_home, "chat", text="x")).stdout == b"]0;ownedhello2J\n"


async def test_once_sends_one_message_to_the_agent_asked_for(host: FakeHost, nanoclaw_home: Path) -> None:
    ended = await run(nanoclaw_home, "chat", "--once", "one\ntwo", "--agent", "Bea")
    assert ended.stdout == b"You said **one\ntwo**\n"
    assert host.received[0].address.chat == "chat-Bea"


async def test_once_takes_all_of_standard_input(host: FakeHost, nanoclaw_home: Path) -> None:
    await run(nanoclaw_home, "chat", "--once", "-", text="one\n\ntwo\n\xff".encode("latin-1"))
    assert [message.text for message in host.received] == ["one\n\ntwo\n\ufffd"]


async def test_once_without_an_answer_ends_with_1(host: FakeHost, nanoclaw_home: Path) -> None:
    assert (await run(nanoclaw_home, "chat", "--once", "!fail")).returncode == 1


async def test_an_unknown_agent_is_named_with_those_there_are(host: FakeHost, nanoclaw_home: Path) -> None:
    ended = await run(nanoclaw_home, "chat", "--agent", "Zoe")
    assert ended.returncode == 3
    assert ended.stderr == b"nanoclaw: There is no agent named 'Zoe'. Known: Andy, Bea.\n"


async def test_ten_megabytes_are_answered(host: FakeHost, nanoclaw_home: Path) -> None:
    ended = await run(nanoclaw_home, "chat", text="x" * 10_000_000)
    assert len(ended.stdout) == len("You said ****\n") + 10_000_000


async def test_a_message_that_is_too_long_is_refused_and_the_next_one_sent(host: FakeHost, nanoclaw_home: Path) -> None:
    ended = await run(nanoclaw_home, "chat", text="x" * 13_000_000 + "\nhello\n")
    assert (ended.stdout, ended.returncode) == (b"You said **hello**\n", 1)
    assert b"13,000,000 bytes long" in ended.stderr


async def test_ctrl_c_while_the_agent_works_ends_quietly_and_the_answer_waits(nanoclaw_home: Path) -> None:
    may_answer, came = anyio.Event(), anyio.Event()

    async def later(host: FakeHost, message: InboundMessage) -> None:
        came.set()
        if message.text == "slow":
            await may_answer.wait()
        await echo(host, message)

    with anyio.fail_after(60):
        async with FakeHost(later).serving(nanoclaw_home):
            process = await anyio.open_process(command("chat", "--once", "slow"), stdin=PIPE, env=environment(nanoclaw_home))
            async with process:
                await came.wait()
                process.send_signal(signal.SIGINT)
                assert await process.wait() == 130
                assert process.stderr is not None
                assert b"Traceback" not in b"".join([chunk async for chunk in process.stderr])
            may_answer.set()
            ended = await run(nanoclaw_home, "chat", text="next\n")
    assert ended.stdout == b"You said **slow**\nYou said **next**\n"


async def test_a_host_that_comes_back_gets_the_message_once(nanoclaw_home: Path) -> None:
    came, ended = anyio.Event(), anyio.Event()

    async def never(host: FakeHost, message: InboundMessage) -> None:
        came.set()

    async def chat() -> None:
        assert (await run(nanoclaw_home, "chat", "--once", "hello")).stdout == b"You said **hello**\n"
        ended.set()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            async with FakeHost(never).serving(nanoclaw_home):
                tasks.start_soon(chat)
                await came.wait()
            async with FakeHost().serving(nanoclaw_home) as second:
                await ended.wait()
    assert len(second.received) == 1


# --- status and stop ------------------------------------------------------------------------------------------------------


async def test_status_fits_eighty_columns(host: FakeHost, nanoclaw_home: Path) -> None:
    lines = (await run(nanoclaw_home, "status")).stdout.decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert "Plugins   2, left out: dice" in [line.rstrip() for line in lines]


async def test_status_as_json_is_everything(host: FakeHost, nanoclaw_home: Path) -> None:
    assert json.loads((await run(nanoclaw_home, "status", "--json")).stdout) == await host.status()


async def test_stop_waits_until_the_process_is_gone(nanoclaw_home: Path) -> None:
    argv = [sys.executable, str(Path(__file__).with_name("fake_host.py")), str(nanoclaw_home)]
    with anyio.fail_after(60):
        async with await anyio.open_process(argv, stdin=None) as process:
            await _ready(process)
            ended = await run(nanoclaw_home, "stop")
            assert process.returncode is not None or await process.wait() == 0
    assert ended.stdout.decode() == f"The host (pid {process.pid}) has ended.\n"


async def _ready(process: Process) -> None:
    assert process.stdout is not None
    await process.stdout.receive()
