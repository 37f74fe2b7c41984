"""The tiny engine of the test kit keeps Claude Code's rules, inside the real runner."""

from __future__ import annotations

import anyio
from miniature import FakeHost, Home
from nanoclaw_runner.frames import Failed, Preview, Progress, TurnEnd

SLOW = "!bash sleep 0.3; echo slow"


async def test_it_answers_and_remembers(home: Home, host: FakeHost) -> None:
    await host.push("u1", "hello")
    async with home.worker(engine="plain") as worker:
        end = await host.until(TurnEnd)
        assert (end.covered, end.text, end.usage.model_calls) == (("u1",), "echo: hello", 1)
        await host.say('{"type": "shutdown"}')
        assert await worker.wait() == 0
    await host.push("u2", "again")
    async with home.worker(engine="plain", worker="w2"):
        await host.until(TurnEnd, 2)
    assert [message["role"] for message in host.prompts[-1]["messages"]] == ["user", "assistant", "user"]
    assert host.prompts[-1]["system"] == "You are Andy."


async def test_its_answer_can_be_seen_while_it_is_written(home: Home, host: FakeHost) -> None:
    host.second_half = anyio.Event()
    await host.push("u1", "one two three four", stream=True)
    async with home.worker(engine="plain", options={"conversation": home.conversation, "stream": True}):
        assert (await host.until(Preview)).text == "echo: one tw"
        host.second_half.set()
        assert (await host.until(TurnEnd)).text == "echo: one two three four"
        await host.push("u2", "!bash echo hello", stream=True)
        assert (await host.until(TurnEnd, 2)).text == 'result: "hello"'


async def test_it_runs_commands_in_the_workspace_and_calls_the_host(home: Home, host: FakeHost) -> None:
    await host.push("u1", "!bash pwd")
    async with home.worker(engine="plain"):
        assert str(home.workspace) in (await host.until(TurnEnd)).text
        await host.push("u2", "!tool mcp__nanoclaw__send_message")
        assert "claudecode/toolUseId" in (await host.until(TurnEnd, 2)).text
    assert host.of(Progress)[0].note == "Bash: pwd"


async def test_a_follow_up_is_folded_into_the_turn(home: Home, host: FakeHost) -> None:
    await host.push("u1", SLOW)
    async with home.worker(engine="plain"):
        await host.until(Progress)
        await host.push("u2", "and this")
        assert (await host.until(TurnEnd)).covered == ("u1", "u2")


async def test_a_command_in_the_background_is_known_until_it_ends(home: Home, host: FakeHost) -> None:
    await host.push("u1", "!background until [ -e go ]; do sleep 0.01; done; touch gone")
    async with home.worker(engine="plain"):
        assert (await host.until(TurnEnd)).background is True
        (home.workspace / "go").touch()
        for number in range(2, 100):
            await host.push(f"u{number}", "hello")
            if not (await host.until(TurnEnd, number)).background:
                break
        assert (home.workspace / "gone").exists()


async def test_a_refusal_of_the_model_is_a_failure_and_the_next_message_works(home: Home, host: FakeHost) -> None:
    await host.push("u1", "!status 429")
    async with home.worker(engine="plain"):
        failure = (await host.until(TurnEnd)).failure
        assert (failure.kind, failure.status, failure.detail) == ("model", 429, "API Error: 429 scripted refusal")


async def test_an_interrupt_stops_the_turn_and_keeps_what_waits(home: Home, host: FakeHost) -> None:
    await host.push("u1", "!bash sleep 30")
    async with home.worker(engine="plain"):
        await host.until(Progress)
        await host.push("u2", "the next")
        await host.say('{"type": "interrupt"}')
        first, second = await host.until(TurnEnd), await host.until(TurnEnd, 2)
    assert (first.covered, first.failure.kind) == (("u1",), "interrupted")
    assert (second.covered, second.failure) == (("u2",), None)


async def test_a_killed_turn_is_taken_up_again_once(home: Home, host: FakeHost) -> None:
    await host.push("u1", SLOW)
    async with home.worker(engine="plain"):
        await host.until(Progress)
    async with home.worker(engine="plain", worker="w2"):
        end = await host.until(TurnEnd)
        await host.push("u2", "after")
        await host.until(TurnEnd, 2)
    assert (end.covered, end.failure) == (("u1",), None)
    assert len(host.of(TurnEnd)) == 2


async def test_a_turn_that_ended_without_being_told_is_answered_from_the_record(home: Home, host: FakeHost) -> None:
    host.acks = False
    await host.push("u1", "hello")
    async with home.worker(engine="plain"):
        await host.until(TurnEnd)
    (home.state / ".nanoclaw" / "spool.jsonl").unlink()
    async with home.worker(engine="plain", worker="w2"):
        assert (await host.until(TurnEnd, 2)).text == "echo: hello"
    assert len(host.prompts) == 1


async def test_a_cut_turn_that_may_not_be_taken_up_again_is_a_failure(home: Home, host: FakeHost) -> None:
    await host.push("u1", SLOW)
    async with home.worker(engine="plain"):
        await host.until(Progress)
    options = {"conversation": home.conversation, "resume_interrupted": False}
    async with home.worker(engine="plain", worker="w2", options=options):
        assert (await host.until(TurnEnd)).failure.kind == "engine"


async def test_a_cut_turn_that_is_taken_up_begins_with_the_reminder(home: Home, host: FakeHost) -> None:
    await host.push("u1", SLOW)
    async with home.worker(engine="plain"):
        await host.until(Progress)
    options = {"conversation": home.conversation, "resume_prompt": "Remember!"}
    async with home.worker(engine="plain", worker="w2", options=options):
        await host.until(TurnEnd)
    assert "Remember!" in str(host.prompts[1])


async def test_a_host_that_restarts_in_mid_turn_gets_the_answer(home: Home) -> None:
    host = FakeHost(home.socket)
    async with home.worker(engine="plain"):
        async with host.up():
            await host.push("u1", "!bash sleep 0.1; echo slow")
            await host.until(Progress)
        await anyio.sleep(0.2)
        async with host.up():
            assert "slow" in (await host.until(TurnEnd)).text


async def test_an_engine_that_nobody_installed_is_named(home: Home, host: FakeHost) -> None:
    async with home.worker(engine="nonsense") as worker:
        assert (await host.until(Failed)).detail.startswith("there is no engine named 'nonsense' (known: claude, plain")
        assert await worker.wait() == 1
