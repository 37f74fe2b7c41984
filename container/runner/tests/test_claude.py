"""The engine `claude`, with the real Claude Code against a scripted model."""

from __future__ import annotations

import json
import os
import re
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from miniature import FakeHost, Home
from nanoclaw_runner.archive import archives
from nanoclaw_runner.cli import ClaudeOptions, arguments, environment, find_claude
from nanoclaw_runner.engines import Place
from nanoclaw_runner.frames import Failed, Preview, Progress, TurnEnd
from nanoclaw_runner.transcript import find_transcript

U1, U2, U3, U4 = (f"00000000-0000-4000-8000-00000000000{number}" for number in (1, 2, 3, 4))
SLOW = "!bash python3 -c 'import time; time.sleep(0.7)'; echo slow"


async def shutdown(host: FakeHost) -> None:
    await host.say('{"type": "shutdown"}')


async def test_a_message_is_answered_and_the_conversation_goes_on(home: Home, host: FakeHost) -> None:
    await host.push(U1, "hello")
    async with home.worker() as worker:
        end = await host.until(TurnEnd)
        assert (end.covered, end.text, end.conversation, end.failure) == ((U1,), "echo: hello", home.conversation, None)
        assert (end.usage.input_tokens, end.usage.cache_write_tokens, end.usage.model_calls) == (10, 3, 1)
        await shutdown(host)
        assert await worker.wait() == 0
    assert "You are Andy." in json.dumps(host.prompts[0]["system"])
    await host.push(U2, "again")
    async with home.worker(worker="w2"):
        assert (await host.until(TurnEnd, 2)).text == "echo: again"
    assert "echo: hello" in json.dumps(host.prompts[-1]["messages"])  # it was resumed


async def test_an_answer_can_be_seen_while_it_is_written(home: Home, host: FakeHost) -> None:
    """A model that hesitates in the middle: the first half is there before the second one is written."""
    host.second_half = anyio.Event()
    await host.push(U1, "one two three four", stream=True)
    async with home.worker(options={"conversation": home.conversation, "stream": True}):
        assert (await host.until(Preview)).text == "echo: one tw"
        host.second_half.set()
        assert (await host.until(TurnEnd)).text == "echo: one two three four"


async def test_tools_run_and_are_told(home: Home, host: FakeHost) -> None:
    await host.push(U1, "!bash pwd; env")
    async with home.worker():
        text = (await host.until(TurnEnd)).text
        await host.push(U2, "!tool mcp__nanoclaw__send_message")
        assert "claudecode/toolUseId" in (await host.until(TurnEnd, 2)).text
    assert str(home.workspace) in text
    assert "ANTHROPIC_API_KEY=nanoclaw-placeholder" in text
    assert "s3cret" not in text
    assert host.of(Progress)[0].note == "Bash: pwd; env"


async def test_an_action_of_the_host_is_told_by_its_short_name(home: Home, host: FakeHost) -> None:
    await host.push(U1, "!tool mcp__nanoclaw__send_message")
    async with home.worker():
        assert (await host.until(Progress)).note == "send_message"


async def test_a_busy_model_is_tried_again_and_that_is_told(home: Home, host: FakeHost) -> None:
    await host.push(U1, "!busy")
    async with home.worker():
        assert (await host.until(TurnEnd)).failure is None
    assert [frame.note for frame in host.of(Progress)] == ["the model is busy (529), try 1 of 10"]


async def test_the_tools_that_need_a_person_or_the_internet_are_not_offered(home: Home, host: FakeHost) -> None:
    await host.push(U1, "hello")
    async with home.worker():
        await host.until(TurnEnd)
    offered = json.dumps(host.prompts[0])
    assert "Bash" in offered
    for name in ("WebFetch", "WebSearch", "CronCreate", "ExitWorktree"):
        assert f'"{name}"' not in offered


async def test_a_refusal_of_the_model_is_a_failure_and_the_next_message_works(home: Home, host: FakeHost) -> None:
    await host.push(U1, "!status 402")
    async with home.worker():
        end = await host.until(TurnEnd)
        assert (end.covered, end.text, end.failure.kind, end.failure.status) == ((U1,), "", "model", 402)
        assert end.failure.detail == "API Error: 402 scripted refusal"


async def test_a_message_during_a_tool_call_is_folded_into_the_turn(home: Home, host: FakeHost) -> None:
    await host.push(U1, SLOW)
    async with home.worker():
        await host.until(Progress)
        await host.push(U2, "and this")
        assert (await host.until(TurnEnd)).covered == (U1, U2)


async def test_an_interrupt_stops_the_turn_and_keeps_what_waits(home: Home, host: FakeHost) -> None:
    await host.push(U1, SLOW)
    async with home.worker():
        await host.until(Progress)
        await host.push(U2, "the next")
        await host.say('{"type": "interrupt"}')
        first, second = await host.until(TurnEnd), await host.until(TurnEnd, 2)
    assert (first.covered, first.failure.kind) == ((U1,), "interrupted")
    assert (second.covered, second.failure) == ((U2,), None)


async def test_a_command_in_the_background_is_known_until_the_turn_about_its_end_is_over(home: Home, host: FakeHost) -> None:
    await host.push(U1, "!background until [ -e go ]; do sleep 0.05; done")
    async with home.worker():
        assert (await host.until(TurnEnd)).background is True
        await host.push(U2, "hello")
        assert (await host.until(TurnEnd, 2)).background is True
        (home.workspace / "go").touch()
        unasked = await host.until(TurnEnd, 3)
    assert (unasked.covered, unasked.background) == ((), False)


async def test_an_ordinary_turn_leaves_nothing_in_the_background(home: Home, host: FakeHost) -> None:
    await host.push(U1, "!bash echo hi")
    async with home.worker():
        assert (await host.until(TurnEnd)).background is False


async def test_a_conversation_is_kept_whole_before_it_is_compacted(home: Home, host: FakeHost) -> None:
    await host.push(U1, "remember the word xylophone")
    async with home.worker():
        await host.until(TurnEnd)
        await host.push(U2, "/compact")  # the host would have wrapped it
        await host.until(TurnEnd, 2)
    (kept,) = archives(home.state).iterdir()
    assert "xylophone" in kept.read_text()


async def test_a_turn_that_was_killed_is_answered_once_by_the_successor(home: Home, host: FakeHost) -> None:
    await host.push(U1, SLOW)
    async with home.worker():
        await until(lambda: transcribed(home, '"tool_use"'))
        await host.push(U2, "only queued")
    async with home.worker(worker="w2"):
        await host.until(TurnEnd)
        await host.push(U3, "after")
        await host.until(TurnEnd, 2)
    ends = [end.covered for end in host.of(TurnEnd)]
    assert [uuid for covered in ends for uuid in covered] == [U1, U2, U3]


async def test_a_turn_that_ended_without_being_told_is_answered_from_the_transcript(home: Home, host: FakeHost) -> None:
    host.acks = False
    await host.push(U1, SLOW)
    async with home.worker():
        await host.until(Progress)
        await host.push(U2, "folded")
        told = await host.until(TurnEnd)
    (home.state / ".nanoclaw" / "spool.jsonl").unlink()
    asked = len(host.prompts)
    host.acks = True
    async with home.worker(worker="w2"):
        end = await host.until(TurnEnd, 2)
        await host.push(U3, "after")
        await host.until(TurnEnd, 3)
    assert (end.covered, end.text, end.failure) == ((U1, U2), told.text, None)
    assert len(host.of(TurnEnd)) == 3
    assert len(host.prompts) == asked + 1


async def test_a_cut_turn_that_may_not_be_taken_up_again_is_a_failure(home: Home, host: FakeHost) -> None:
    await host.push(U1, SLOW)
    async with home.worker():
        await until(lambda: transcribed(home, '"tool_use"'))
    options = {"conversation": home.conversation, "instructions": "", "model": None, "resume_interrupted": False}
    async with home.worker(worker="w2", options=options):
        end = await host.until(TurnEnd)
        await host.push(U2, "next")
        assert (await host.until(TurnEnd, 2)).covered == (U2,)
    assert (end.covered, end.failure.kind) == ((U1,), "engine")


async def test_a_worker_that_starts_before_its_host_answers_and_has_the_hosts_tools(home: Home) -> None:
    host = FakeHost(home.socket)
    async with home.worker():
        await anyio.sleep(0.8)  # Claude Code is up by then, and its connections are held
        async with host.up():
            await host.push(U1, "hello")
            await host.until(TurnEnd)
    assert "mcp__nanoclaw__send_message" in [tool["name"] for tool in host.prompts[0]["tools"]]


async def test_a_host_that_restarts_in_mid_turn_gets_the_answer(home: Home) -> None:
    host = FakeHost(home.socket)
    async with home.worker():
        async with host.up():
            await host.push(U1, SLOW)
            await host.until(Progress)
        await anyio.sleep(1.0)  # the tool ends meanwhile, and the engine's next call is held
        async with host.up():
            assert (await host.until(TurnEnd)).text == 'result: "slow"'


async def test_the_death_of_claude_code_is_told_with_its_last_words(home: Home, host: FakeHost) -> None:
    await host.push(U1, "!hang")
    with tempfile.TemporaryFile() as errors:
        async with home.worker(errors=errors) as worker:
            await until(lambda: bool(host.prompts))
            os.kill(claude_below(worker.pid), signal.SIGKILL)
            assert (await host.until(Failed)).detail.startswith("Claude Code ended with code -9")
            assert await worker.wait() == 1


async def test_a_conversation_that_cannot_start_is_told(home: Home, host: FakeHost) -> None:
    options = {"conversation": home.conversation, "instructions": "", "model": None, "resume_interrupted": True}
    broken = home.state / ".claude" / "projects" / "-x" / f"{home.conversation}.jsonl"
    broken.parent.mkdir(parents=True)
    broken.write_text("garbage\n")
    async with home.worker(options=options) as worker:
        assert "Claude Code ended" in (await host.until(Failed)).detail
        assert await worker.wait() == 1


async def test_no_conversation_without_a_uuid(home: Home, host: FakeHost) -> None:
    async with home.worker(options={"conversation": "../../etc"}):
        assert (await host.until(Failed)).detail == "Misfit: options.conversation must be a UUID"


@pytest.mark.parametrize(
    ("resume", "interrupted", "reminder"),
    [(True, True, "Remember!"), (False, True, None), (True, False, None)],
    ids=["a cut turn goes on", "a new conversation", "a cut turn is left"],
)
def test_only_an_engine_that_takes_up_a_cut_turn_is_reminded(
    tmp_path: Path, resume: bool, interrupted: bool, reminder: str | None
) -> None:
    place = Place(workspace=tmp_path, state=tmp_path, gateway="http://127.0.0.1:1", options={})
    options = ClaudeOptions(conversation=U1, resume_interrupted=interrupted, resume_prompt="Remember!")
    assert environment(options, place, resume=resume).get("CLAUDE_CODE_RESUME_PROMPT") == reminder


def test_the_longest_reminder_fits_into_one_argument(tmp_path: Path) -> None:
    """Linux takes 128 KiB at most: https://man7.org/linux/man-pages/man2/execve.2.html."""
    place = Place(workspace=tmp_path, state=tmp_path, gateway="http://127.0.0.1:1", options={})
    options = ClaudeOptions(conversation=U1, resume_prompt="🤖" * 9000)  # the host sends fewer characters
    assert max(map(len, arguments(options, place, resume=True))) < 128 * 1024


def test_the_program_is_the_one_that_the_sdk_brings() -> None:
    program, version = find_claude()
    assert program.name == "claude"
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another program does and nothing announces."""
    with anyio.fail_after(30):
        while not condition():  # noqa: ASYNC110
            await anyio.sleep(0.01)


def transcribed(home: Home, text: str) -> bool:
    """Whether Claude Code's transcript holds `text`."""
    path = find_transcript(home.state, home.conversation)
    return path is not None and text in path.read_text()


def claude_below(pid: int) -> int:
    """The process id of the Claude Code that a worker started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0])
