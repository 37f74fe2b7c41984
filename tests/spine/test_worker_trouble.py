"""Workers that break: at the start, in mid-turn, again and again."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from nanoclaw_core.testing import Reply, ScriptedModel
from tests.spine.spine import Spine, doing, is_pausing, routed, runner_that, until

#: Kills the whole worker from inside, as a command that takes all memory would.
POISON = Reply.tool("Bash", {"command": "kill -9 0"})


async def test_three_crashes_at_the_start_are_told_with_the_reason_and_the_next_message_is_answered(spine: Spine) -> None:
    spine.runtime.crash_at_start = True
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("hello")
        (notice,) = await spine.texts(1)
        assert "broke 3 times" in notice
        assert "ended with code 1" in notice
        assert await spine.settled() == [(("message-1",), "failed")]
        spine.runtime.crash_at_start = False
        await until(lambda: not doing(host))  # the session holds no place any more
        await spine.chat.say("again")
        assert (await spine.texts(2))[1] == "You said: again"
        await spine.settled(2)
    assert len(spine.runtime.specs) == 4


async def test_a_new_message_does_not_shorten_the_pause_after_a_crash(spine: Spine) -> None:
    spine.runtime.crash_at_start = True
    async with spine.host() as host:
        await spine.chat.say("one")
        await until(lambda: is_pausing(host))
        spine.runtime.crash_at_start = False
        await spine.chat.say("two")
        await routed(host)
        await spine.clock.advance(0.9)
        assert len(spine.runtime.specs) == 1
        await spine.clock.advance(0.1)
        assert await spine.texts(1) == ["You said: one\n\nYou said: two"]


async def test_a_crash_at_the_start_frees_the_place_for_others(spine: Spine) -> None:
    async with spine.host(max_turns=1) as host:
        await spine.wire(host, chat="chat-2")
        spine.runtime.crash_at_start = True
        await spine.chat.say("one")
        await until(lambda: is_pausing(host))
        spine.runtime.crash_at_start = False
        await spine.chat.say("two", chat="chat-2")
        assert await spine.texts(1) == ["You said: two"]


async def test_a_turn_goes_on_in_a_new_worker_when_its_worker_is_killed(spine: Spine, model: ScriptedModel) -> None:
    model.script(Reply.text("never", after=anyio.Event()))
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("hello")
        await model.wait_for(1)
        spine.runtime.kill_all()
        assert await spine.settled() == [(("message-1",), "answered")]
        assert await spine.texts(1) == ["You said: hello"]
        await spine.chat.say("again")
        await spine.settled(2)
    assert [message.text for message in spine.chat.outbox] == ["You said: hello", "You said: again"]
    assert len(spine.chat.settlements) == 2


async def test_a_poisonous_message_is_given_up_and_later_ones_are_answered(spine: Spine, model: ScriptedModel) -> None:
    model.script(POISON, POISON, POISON, Reply.text("Here I am."))
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("eat all memory")
        (notice,) = await spine.texts(1)
        assert "broke 3 times on this message" in notice
        assert await spine.settled() == [(("message-1",), "failed")]
        await spine.chat.say("are you there?")
        assert (await spine.texts(2))[1] == "Here I am."
        await spine.settled(2)
    assert len(model.calls) == 4


async def test_a_poisonous_message_takes_no_later_one_with_it(spine: Spine, model: ScriptedModel) -> None:
    """The later one comes while the poisonous one is tried again: it must not be held responsible."""
    last_try = anyio.Event()
    poisoned_late = Reply.tool("Bash", {"command": "kill -9 0"}, after=last_try)
    model.script(POISON, POISON, poisoned_late, Reply.text("Here I am."))
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("eat all memory")
        await model.wait_for(3)
        await spine.chat.say("are you there?")
        last_try.set()
        assert "broke 3 times" in (await spine.texts(1))[0]
        assert (await spine.texts(2))[1] == "Here I am."
        assert await spine.settled(2) == [(("message-1",), "failed"), (("message-2",), "answered")]


async def test_an_idle_worker_that_dies_is_no_news_to_the_chat(spine: Spine) -> None:
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("one")
        await spine.settled()
        spine.runtime.kill_all()
        await until(lambda: not doing(host))
        await spine.chat.say("two")
        assert await spine.texts(2) == ["You said: one", "You said: two"]


async def test_a_silent_worker_is_replaced(spine: Spine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        runner_that(patch, tmp_path, "import signal; signal.pause()")
        async with spine.host() as host:
            await spine.chat.say("hello")
            await spine.runtime.started(1)
            await until(lambda: doing(host) == ["starting"])
            await spine.clock.asleep(2)  # retention is one
            patch.undo()
            await spine.clock.advance(61)
            async with spine.no_pauses(host):
                assert await spine.texts(1) == ["You said: hello"]


async def test_what_a_worker_writes_is_kept_within_bounds(
    spine: Spine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    flood = "import sys\nfor _ in range(64): sys.stdout.write('x' * 65536)\nsys.exit('drowned')"
    runner_that(monkeypatch, tmp_path, flood)
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("hello")
        assert "ended with code 1" in (await spine.texts(1))[0]
        logs = sorted((spine.home / "logs" / "workers").iterdir())
        assert len(logs) == 3
        assert all(log.stat().st_size <= 256 * 1024 for log in logs)
        assert all(log.read_bytes().endswith(b"drowned\n") for log in logs)
