"""The fake runtime behaves as `Runtime` promises, with processes for containers."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from miniature import FakeHost, Home
from nanoclaw_runner.frames import Hello, Progress, TurnEnd

from nanoclaw_core.errors import ContainerFailed, ImageBuildFailed, RuntimeUnavailable
from nanoclaw_core.models import BuildContext, ContainerSpec, ContainerState, Limits, Mount
from nanoclaw_core.ports import MeasuringRuntime, PausingRuntime, Runtime
from nanoclaw_core.testing.fake_runtime import FakeRuntime, on_this_machine

LABELS = {"installation": "i1"}


def spec(home: Home, **changes: Any) -> ContainerSpec:
    values: dict[str, Any] = {
        "name": "andy",
        "image": "i",
        "argv": (),
        "user": "1:1",
        "mounts": (
            Mount(source=home.folder, target="/nanoclaw/sockets"),
            Mount(source=home.workspace, target="/workspace", read_only=False),
            Mount(source=home.state, target="/home/agent", read_only=False),
        ),
        "environment": {"TZ": "UTC"},
        "labels": LABELS,
        "limits": Limits(memory=1, cpus=1, pids=1, tmp=1),
    }
    return ContainerSpec(**{**values, **changes})


def document(home: Home) -> bytes:
    return home.document(socket="/nanoclaw/sockets/g.sock", workspace="/workspace", state="/home/agent")


@pytest.fixture
async def runtime() -> AsyncIterator[FakeRuntime]:
    with anyio.fail_after(20):
        async with FakeRuntime() as fake:
            yield fake


async def next_end(events: AsyncIterator[ContainerState | None]) -> ContainerState:
    async for state in events:
        if state is not None:
            return state
    raise AssertionError("the watch ended")


def status_of(runtime: FakeRuntime, container_id: str) -> str:
    """What the system says of a container's process: S, R, T (stopped)."""
    pid = runtime._containers[container_id]._process.pid
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_it_keeps_the_ports() -> None:
    kept: Runtime = FakeRuntime()
    assert isinstance(kept, PausingRuntime)
    assert isinstance(kept, MeasuringRuntime)


async def test_a_container_runs_the_real_runner(home: Home, host: FakeHost, runtime: FakeRuntime) -> None:
    await host.push("u1", "hello")
    container = await runtime.start(spec(home), document(home))
    assert (await host.until(TurnEnd)).text == "echo: hello"
    (state,) = await runtime.containers(LABELS)
    assert (state.id, state.name, state.running) == (container, "andy", True)
    assert await runtime.containers({"installation": "other"}) == []
    assert runtime.specs[0].name == "andy"


async def test_a_stopped_container_ends_in_order_and_can_be_removed(home: Home, host: FakeHost, runtime: FakeRuntime) -> None:
    await host.push("u1", "hello")
    container = await runtime.start(spec(home), document(home))
    await host.until(TurnEnd)
    await runtime.stop(container, 5)
    (state,) = await runtime.containers({})
    assert (state.running, state.exit_code) == (False, 0)
    await runtime.remove(container)
    await runtime.remove(container)
    assert await runtime.containers({}) == []


async def test_a_killed_container_is_seen_by_the_watch(home: Home, host: FakeHost, runtime: FakeRuntime) -> None:
    await host.push("u1", "!bash sleep 60")
    events = runtime.watch(LABELS)
    assert await anext(events) is None
    container = await runtime.start(spec(home), document(home))
    await host.until(Progress)
    runtime.kill(container)
    state = await next_end(events)
    assert (state.id, state.exit_code) == (container, 137)
    await events.aclose()  # type: ignore[attr-defined]  # it is an async generator


async def test_a_container_that_crashes_at_start_leaves_its_output(home: Home, runtime: FakeRuntime) -> None:
    runtime.crash_at_start = True
    events = runtime.watch(LABELS)
    assert await anext(events) is None
    container = await runtime.start(spec(home), document(home))
    assert (await next_end(events)).exit_code == 1
    assert b"crashed" in await runtime.output(container, 1000)
    await events.aclose()  # type: ignore[attr-defined]  # it is an async generator


async def test_a_paused_container_does_nothing_until_it_is_resumed(home: Home, host: FakeHost, runtime: FakeRuntime) -> None:
    container = await runtime.start(spec(home), document(home))
    await host.until(Hello)
    for _ in range(2):  # the second time changes nothing
        await runtime.pause(container)
    (state,) = await runtime.containers(LABELS)
    assert (state.running, state.paused) == (True, True)
    while status_of(runtime, container) != "T":  # noqa: ASYNC110  # it sets no event
        await anyio.sleep(0.001)
    await host.push("u1", "hello")
    for _ in range(2):
        await runtime.resume(container)
    assert [state.paused for state in await runtime.containers(LABELS)] == [False]
    assert (await host.until(TurnEnd)).text == "echo: hello"


async def test_a_paused_container_can_be_stopped_in_order(home: Home, host: FakeHost, runtime: FakeRuntime) -> None:
    container = await runtime.start(spec(home), document(home))
    await host.until(Hello)
    await runtime.pause(container)
    await runtime.stop(container, 10)
    assert [(state.running, state.paused, state.exit_code) for state in await runtime.containers({})] == [(False, False, 0)]


async def test_a_paused_container_can_be_killed(home: Home, host: FakeHost, runtime: FakeRuntime) -> None:
    events = runtime.watch(LABELS)
    assert await anext(events) is None
    container = await runtime.start(spec(home), document(home))
    await host.until(Hello)
    await runtime.pause(container)
    runtime.kill(container)
    state = await next_end(events)
    assert (state.running, state.paused, state.exit_code) == (False, False, 137)
    await events.aclose()  # type: ignore[attr-defined]  # it is an async generator


async def test_a_container_that_is_gone_can_be_paused_resumed_and_measured(runtime: FakeRuntime) -> None:
    await runtime.pause("gone")
    await runtime.resume("gone")
    assert await runtime.memory("gone") == 0


async def test_what_a_container_uses_is_what_the_test_says(home: Home, host: FakeHost, runtime: FakeRuntime) -> None:
    container = await runtime.start(spec(home), document(home))
    runtime.used_memory = 7
    assert await runtime.memory(container) == 7
    runtime.memories[container] = 8
    assert await runtime.memory(container) == 8


async def test_pausing_can_be_made_to_fail(home: Home, host: FakeHost, runtime: FakeRuntime) -> None:
    container = await runtime.start(spec(home), document(home))
    runtime.cannot_pause = "no freezer"
    with pytest.raises(ContainerFailed, match="no freezer"):
        await runtime.pause(container)
    assert [state.paused for state in await runtime.containers(LABELS)] == [False]


async def test_an_unavailable_runtime_refuses_everything_and_breaks_its_watches(home: Home, runtime: FakeRuntime) -> None:
    events = runtime.watch({})
    assert await anext(events) is None
    runtime.unavailable = True
    with pytest.raises(RuntimeUnavailable):
        await anext(events)
    with pytest.raises(RuntimeUnavailable):
        await runtime.start(spec(home), document(home))
    with pytest.raises(RuntimeUnavailable):
        await runtime.check()
    runtime.unavailable = False
    assert await runtime.check() == "fake runtime 1"


async def test_images_are_recorded(runtime: FakeRuntime) -> None:
    context = BuildContext(tag="t1", archive=b"", arguments={})
    runtime.build_failure = "no space left"
    with pytest.raises(ImageBuildFailed, match="no space left"):
        await runtime.build_image(context, print)
    assert not await runtime.has_image("t1")
    runtime.build_failure = None
    await runtime.build_image(context, print)
    assert await runtime.has_image("t1")
    assert runtime.built == [context, context]


def test_a_path_that_no_mount_holds_is_refused() -> None:
    line = json.dumps({"socket": "/elsewhere", "workspace": "/workspace", "state": "/s", "engine": "claude"}).encode()
    with pytest.raises(ContainerFailed, match="no mount holds this path"):
        on_this_machine(line, (Mount(source=Path("/x"), target="/workspace"),), "plain")


async def test_a_test_that_is_cancelled_does_not_wait_for_its_containers(home: Home) -> None:
    with anyio.fail_after(20):
        with anyio.CancelScope() as cancelled:
            async with FakeRuntime() as runtime:
                await runtime.start(spec(home), document(home))
                cancelled.cancel()
                await anyio.sleep_forever()
        assert [state.exit_code for state in await runtime.containers(LABELS)] == [137]
