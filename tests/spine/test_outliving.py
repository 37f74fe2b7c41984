"""Workers outlive their host: the next one finds them, and what they were doing is done once."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import pytest

from nanoclaw_core.errors import TryLater
from nanoclaw_core.gateway import link
from nanoclaw_core.host import Host
from nanoclaw_core.models import ContainerSpec
from nanoclaw_core.ports import Action, ActionCall
from nanoclaw_core.sandbox import spec as sandbox_spec
from nanoclaw_core.sandbox.spec import PROTOCOL_LABEL
from nanoclaw_core.store import workers
from nanoclaw_core.testing import Reply, ScriptedModel
from nanoclaw_core.workers.exchange import MAX_LIVES
from tests.spine.spine import Containers, Spine, doing, routed, until


async def only_container(spine: Spine) -> str:
    (state,) = await spine.runtime.living()
    return state.id


async def claims(host: Host) -> list[str]:
    return [record.id for record in await host.database.read(workers.live_workers)]


async def tidy(spine: Spine) -> None:
    """After a host that found nothing to do ended, nothing of any worker is left."""
    async with spine.host() as host:
        await until(lambda: all(state == "idle" for state in doing(host)))
    assert not await spine.runtime.containers({})
    assert list((spine.home / "workers").iterdir()) == []
    async with spine.built() as host:
        assert await claims(host) == []


# --- where the host can be killed -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Step:
    """A tool that reports when it is called, and waits for leave."""

    reached: anyio.Event
    leave: anyio.Event

    def action(self) -> Action[Nothing]:
        async def take(call: ActionCall, _: Nothing) -> str:
            self.reached.set()
            await self.leave.wait()
            return f"Sent to {(await call.host.send('one step')).to}."

        return Action(name="step", description="Take a step.", parameters=Nothing, handler=take, idempotent=True)


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """No parameters."""


Kill = Callable[[Spine, ScriptedModel], AsyncIterator[None]]


async def while_the_model_streams(spine: Spine, model: ScriptedModel) -> AsyncIterator[None]:
    model.script(Reply.hang(300), Reply.text("the answer"))
    yield
    await model.wait_for(1)
    yield


async def while_bash_runs(spine: Spine, model: ScriptedModel) -> AsyncIterator[None]:
    command = "echo once >> count; while [ ! -e go ]; do sleep 0.01; done; cat count"
    model.script(Reply.tool("Bash", {"command": command}), Reply.text("the answer"))
    yield
    count = spine.home / "groups" / "main" / "count"
    await until(count.exists)
    yield
    (spine.home / "groups" / "main" / "go").touch()
    calls = await model.wait_for(2)
    assert calls[-1].json["messages"][-1]["content"][0]["content"] == "once"
    assert count.read_text() == "once\n"


async def while_an_action_is_called(spine: Spine, model: ScriptedModel) -> AsyncIterator[None]:
    step = Step(reached=anyio.Event(), leave=anyio.Event())
    spine.actions = [step.action()]
    model.script(Reply.tool("mcp__nanoclaw__step", {}), Reply.text("the answer"))
    yield
    await step.reached.wait()
    yield
    step.leave.set()
    assert (await spine.texts(1))[0] == "one step"
    await spine.settled()
    del spine.chat.outbox[0]


async def before_the_answer_is_delivered(spine: Spine, model: ScriptedModel) -> AsyncIterator[None]:
    model.script(Reply.text("the answer"))
    spine.chat.fail_next(TryLater("the platform is away"))
    yield
    await spine.chat.tried(1)
    yield


@pytest.mark.parametrize(
    "kill", [while_the_model_streams, while_bash_runs, while_an_action_is_called, before_the_answer_is_delivered]
)
async def test_a_turn_goes_on_in_its_container_when_the_host_is_killed(
    spine: Spine, model: ScriptedModel, kill: Callable[[Spine, ScriptedModel], AsyncIterator[None]]
) -> None:
    steps = kill(spine, model)
    await anext(steps)
    async with spine.killed_host():
        await spine.chat.say("hello")
        await anext(steps)
        before = await only_container(spine)
    async with spine.host() as host:
        with pytest.raises(StopAsyncIteration):
            await anext(steps)
        assert await spine.settled() == [(("message-1",), "answered")]
        assert await only_container(spine) == before
        await until(lambda: doing(host) == ["idle"])
        await spine.chat.say("again")
        await spine.settled(2)
        assert await only_container(spine) == before
    assert [message.text for message in spine.chat.outbox][:-1] == ["the answer"]
    assert len(spine.runtime.specs) == 1
    await tidy(spine)


class Halting(Containers):
    """A runtime on the way to which the host can be killed: before or after it has begun a container."""

    def __init__(self) -> None:
        super().__init__()
        self.halt = ""
        self.reached = anyio.Event()

    async def start(self, spec: ContainerSpec, first_line: bytes) -> str:
        await self._stay("before")
        if self.halt == "created":
            self.crash_at_start = True  # it is there and never ran
        container_id = await super().start(spec, first_line)
        self.crash_at_start = False
        if self.halt == "created":
            await until(lambda: not self._containers[container_id].state.running)
        await self._stay("created")
        await self._stay("started")
        return container_id

    async def _stay(self, step: str) -> None:
        if self.halt == step:
            self.reached.set()
            await anyio.sleep_forever()


@pytest.mark.parametrize(
    ("step", "workers_started"),
    [("before", 1), ("created", 2), ("started", 1)],
    ids=["before the container is made", "when it is made", "when it runs"],
)
async def test_a_host_killed_while_it_starts_a_worker_leaves_nothing_that_is_in_the_way(
    nanoclaw_home: Path, step: str, workers_started: int
) -> None:
    async with Halting() as runtime:
        spine = Spine(home=nanoclaw_home, runtime=runtime)
        runtime.halt = step
        async with spine.killed_host() as host:
            await spine.chat.say("hello")
            await runtime.reached.wait()
            claimed = await claims(host)
        runtime.halt = ""
        async with spine.host() as host:
            assert await spine.texts(1) == ["You said: hello"]
            await spine.settled()
            assert (await claims(host) == claimed) is (step == "started")
        assert len(runtime.specs) == workers_started
        assert len(spine.chat.outbox) == 1
        await tidy(spine)


async def test_a_host_killed_before_its_worker_has_reported_finds_it_at_the_next_start(spine: Spine) -> None:
    async with spine.killed_host():
        await spine.chat.say("hello")
        await spine.runtime.started(1)
    async with spine.host():
        assert await spine.texts(1) == ["You said: hello"]
    assert len(spine.runtime.specs) == 1


# --- who is adopted, and who is not ---------------------------------------------------------------------------------------


async def idle_worker_of_a_dead_host(spine: Spine, text: str = "hello", **changes: int) -> None:
    async with spine.killed_host(**changes) as host:
        settled = len(spine.chat.settlements)
        await spine.chat.say(text)
        await spine.settled(settled + 1)
        await until(lambda: doing(host) == ["idle"])


async def test_an_idle_worker_is_adopted_and_answers_the_next_message(spine: Spine) -> None:
    await idle_worker_of_a_dead_host(spine)
    async with spine.host() as host:
        await until(lambda: doing(host) == ["idle"])
        await spine.chat.say("again")
        assert (await spine.texts(2))[1] == "You said: again"
    assert len(spine.runtime.specs) == 1


async def test_an_adopted_idle_worker_ends_when_its_time_is_over(spine: Spine) -> None:
    await idle_worker_of_a_dead_host(spine)
    async with spine.host() as host:
        await until(lambda: doing(host) == ["idle"])
        await spine.clock.advance(host.settings.idle_timeout)
        await until(lambda: not doing(host))
        assert not await spine.runtime.containers({})


async def test_an_adopted_idle_worker_gives_its_memory_to_who_waits(spine: Spine) -> None:
    await idle_worker_of_a_dead_host(spine)
    async with spine.host(max_memory=300) as host:
        await spine.wire(host, chat="chat-2")
        await spine.chat.say("me too", chat="chat-2")
        assert (await spine.texts(2))[1] == "You said: me too"
        assert len(await spine.runtime.living()) == 1


async def test_more_adopted_workers_than_are_allowed_all_finish_before_a_new_one_starts(
    spine: Spine, model: ScriptedModel
) -> None:
    release = anyio.Event()
    model.script(Reply.text("one", after=release), Reply.text("two", after=release))
    async with spine.killed_host(max_turns=2) as host:
        await spine.wire(host, chat="chat-2")
        await spine.chat.say("hello")
        await spine.chat.say("hello", chat="chat-2")
        await model.wait_for(2)
    model.script(Reply.text("one", after=release), Reply.text("two", after=release))
    async with spine.host(max_turns=1) as host:
        await spine.wire(host, chat="chat-3")
        await model.wait_for(4)
        await spine.chat.say("hello", chat="chat-3")
        await routed(host)
        await until(lambda: doing(host).count("working") == 2)
        assert len(spine.runtime.specs) == 2
        release.set()
        await spine.settled(3)
    assert sorted(message.text for message in spine.chat.outbox) == ["You said: hello", "one", "two"]


async def test_a_paused_worker_is_woken_by_the_host_that_adopts_it(spine: Spine) -> None:
    await idle_worker_of_a_dead_host(spine)
    await spine.runtime.pause(await only_container(spine))
    async with spine.host():
        await spine.chat.say("again")
        assert (await spine.texts(2))[1] == "You said: again"
    assert len(spine.runtime.specs) == 1


async def test_a_worker_that_does_not_come_back_is_ended_and_its_turn_done_again(spine: Spine, model: ScriptedModel) -> None:
    model.script(Reply.text("never", after=anyio.Event()), Reply.text("the answer"))
    async with spine.killed_host():
        await spine.chat.say("hello")
        await model.wait_for(1)
    worker = spine.runtime.documents[0]["worker"]
    os.killpg(spine.runtime.process_of(worker), signal.SIGSTOP)
    async with spine.host() as host:
        await until(lambda: doing(host) == ["returning"])
        await spine.clock.asleep(2)  # retention is one
        async with spine.no_pauses(host):
            await spine.clock.advance(host.settings.start_timeout)
            assert await spine.texts(1) == ["the answer"]
    assert len(spine.runtime.specs) == 2


async def test_a_worker_that_ended_while_nobody_looked_is_replaced_and_its_last_words_are_kept(
    spine: Spine, model: ScriptedModel
) -> None:
    model.script(Reply.text("never", after=anyio.Event()), Reply.text("the answer"))
    async with spine.killed_host():
        await spine.chat.say("hello")
        await model.wait_for(1)
    spine.runtime.kill_all()
    (container,) = await spine.runtime.containers({})
    async with spine.host():
        assert await spine.texts(1) == ["the answer"]
        assert container.id not in [state.id for state in await spine.runtime.containers({})]
    assert (spine.home / "logs" / "workers" / f"{container.name}.log").exists()
    await tidy(spine)


async def test_a_worker_of_a_protocol_that_is_not_spoken_any_more_is_replaced(
    spine: Spine, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.script(Reply.text("never", after=anyio.Event()), Reply.text("the answer"))
    monkeypatch.setattr(sandbox_spec, "PROTOCOL_LABEL", PROTOCOL_LABEL + ".old")
    async with spine.killed_host():
        await spine.chat.say("hello")
        await model.wait_for(1)
        before = await only_container(spine)
    monkeypatch.undo()
    async with spine.host():
        assert await spine.texts(1) == ["the answer"]
        assert await only_container(spine) != before
    await tidy(spine)


async def test_an_upgraded_host_serves_workers_of_the_protocol_before(
    spine: Spine, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker was started by a host of today; the next host is of a later version that speaks today's, too."""
    release = anyio.Event()
    model.script(Reply.hang(300), Reply.text("the answer", after=release))
    async with spine.killed_host():
        await spine.chat.say("hello")
        await model.wait_for(1)
        before = await only_container(spine)
    later = sandbox_spec.PROTOCOL + 1
    monkeypatch.setattr(sandbox_spec, "PROTOCOL", later)
    monkeypatch.setattr(link, "SUPPORTED", (*sandbox_spec.SUPPORTED, later))
    async with spine.host():
        release.set()
        await spine.settled()
        assert await only_container(spine) == before
    assert [message.text for message in spine.chat.outbox][-1] == "the answer"
    assert len(spine.runtime.specs) == 1


async def test_a_container_without_a_claim_is_removed(spine: Spine) -> None:
    await idle_worker_of_a_dead_host(spine)
    async with spine.built() as host:
        worker = (await claims(host))[0]
        await host.database.write(partial(workers.end_worker, worker_id=worker, reason="by hand", now=1.0))
    async with spine.host():
        await until(lambda: not spine.runtime._containers)
    assert not list((spine.home / "workers").iterdir())


async def test_a_new_image_is_for_new_workers(spine: Spine) -> None:
    await idle_worker_of_a_dead_host(spine)
    spine.runtime.images.add("debian:other")
    async with spine.host(base_image="debian:other") as host:
        await spine.wire(host, chat="chat-2")
        await spine.chat.say("again")
        await spine.texts(2)
        await spine.chat.say("hello", chat="chat-2")
        await spine.texts(3)
        assert len(await spine.runtime.living()) == 2
    old, new = spine.runtime.specs
    assert old.image != new.image


async def test_workers_are_adopted_when_the_runtime_comes_back_after_the_host(spine: Spine, model: ScriptedModel) -> None:
    release = anyio.Event()
    model.script(Reply.hang(300), Reply.text("the answer", after=release))
    async with spine.killed_host():
        await spine.chat.say("hello")
        await model.wait_for(1)
        before = await only_container(spine)
    spine.runtime.unavailable = True
    async with spine.host() as host:
        await until(lambda: doing(host) and doing(host)[0].startswith("waiting: "))
        spine.runtime.unavailable = False
        await spine.clock.advance(1)
        release.set()
        await spine.settled()
        assert await only_container(spine) == before
    assert [message.text for message in spine.chat.outbox][-1] == "the answer"


# --- how often ------------------------------------------------------------------------------------------------------------


async def test_a_message_on_which_host_after_host_dies_is_given_up(spine: Spine, model: ScriptedModel) -> None:
    model.script(*[Reply.hang(300) for _ in range(MAX_LIVES - 1)])
    for number in range(1, MAX_LIVES):
        async with spine.killed_host():
            if number == 1:
                await spine.chat.say("eat all memory of the host")
            await model.wait_for(number)
    async with spine.host():
        (notice,) = await spine.texts(1)
        assert f"broke {MAX_LIVES} times" in notice
        assert await spine.settled() == [(("message-1",), "failed")]
        await spine.chat.say("hello")
        await spine.settled(2)
    assert len(spine.runtime.specs) == 2
    await tidy(spine)


async def test_a_host_that_ends_in_order_is_no_sign_against_the_message(spine: Spine, model: ScriptedModel) -> None:
    model.script(*[Reply.hang(300) for _ in range(MAX_LIVES + 1)], Reply.text("the answer"))
    for number in range(1, MAX_LIVES + 2):
        async with spine.host():
            if number == 1:
                await spine.chat.say("hello")
            await model.wait_for(number)
    async with spine.host():
        assert await spine.texts(1) == ["the answer"]
    assert len(spine.runtime.specs) == 1
