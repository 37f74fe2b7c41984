"""Keeping things running: restarts, pauses, and clean-up that cancellation cannot cut."""

from __future__ import annotations

import anyio
import pytest
import structlog
from anyio.abc import TaskStatus
from anyio.lowlevel import checkpoint

from nanoclaw_core.errors import ChannelRevoked, ContainerFailed, TryLater
from nanoclaw_core.supervise import Callers, Health, State, both, clean_up, reason_of, sleep_or, supervise, survive
from nanoclaw_core.testing import FakeClock


class Part:
    """Something supervised that breaks as often as it is told."""

    def __init__(self, clock: FakeClock, *lives: float | None) -> None:
        self.clock = clock
        self.lives = list(lives)  # seconds until it breaks; None: it goes on
        self.health = Health(name="part")
        self.begins: list[float] = []

    async def run(self, task_status: TaskStatus[None]) -> None:
        self.begins.append(self.clock.monotonic())
        task_status.started()
        life = self.lives.pop(0)
        if life is None:
            await anyio.sleep_forever()
        else:
            await self.clock.sleep(life)
        raise RuntimeError("it broke")


async def run_for(part: Part, seconds: float) -> None:
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(supervise, part.run, part.health, part.clock)
            await part.clock.advance(seconds)
            tasks.cancel_scope.cancel()


async def test_a_part_that_breaks_is_started_again_after_growing_pauses(nanoclaw_clock: FakeClock) -> None:
    part = Part(nanoclaw_clock, 0, 0, 0, 0, None)
    await run_for(part, 100)
    assert part.begins == [0, 1, 3, 7, 15]
    assert (part.health.state, part.health.restarts) == (State.RUNNING, 4)


async def test_a_part_that_no_other_try_could_help_stays_off_and_says_why(nanoclaw_clock: FakeClock) -> None:
    health, tries = Health(name="channel"), 0

    async def run(task_status: TaskStatus[None]) -> None:
        nonlocal tries
        tries += 1
        task_status.started()
        raise ChannelRevoked("parrot", "the token was revoked")

    reason = await supervise(run, health, nanoclaw_clock, final=(ChannelRevoked,))
    assert (tries, health.state, health.reason) == (1, State.ENDED, reason)
    assert reason.endswith("`nanoclaw channel setup parrot`.")


async def test_pauses_do_not_grow_for_ever(nanoclaw_clock: FakeClock) -> None:
    part = Part(nanoclaw_clock, *[0] * 10, None)
    await run_for(part, 1000)
    assert part.begins[-1] - part.begins[-2] == 60


async def test_after_a_steady_life_the_pauses_begin_anew(nanoclaw_clock: FakeClock) -> None:
    part = Part(nanoclaw_clock, 0, 0, 120, None)
    await run_for(part, 500)
    assert part.begins == [0, 1, 3, 124]


async def test_a_part_that_waits_says_why(nanoclaw_clock: FakeClock) -> None:
    part = Part(nanoclaw_clock, 0, None)
    await run_for(part, 0.5)
    assert part.health.state is State.WAITING
    assert part.health.reason == "RuntimeError: it broke (next try within 1 s)"


async def test_a_part_that_returns_is_started_again(nanoclaw_clock: FakeClock) -> None:
    health, runs = Health(name="part"), 0

    async def run(task_status: TaskStatus[None]) -> None:
        nonlocal runs
        runs += 1

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervise, run, health, nanoclaw_clock)
        await nanoclaw_clock.advance(1)
        tasks.cancel_scope.cancel()
    assert runs == 2
    assert health.reason.startswith("it ended by itself")


async def test_a_part_that_calls_sys_exit_is_started_again(nanoclaw_clock: FakeClock) -> None:
    health = Health(name="part")

    async def run(task_status: TaskStatus[None]) -> None:
        raise SystemExit("it had enough")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(supervise, run, health, nanoclaw_clock)
        await nanoclaw_clock.advance(1)
        tasks.cancel_scope.cancel()
    assert (health.restarts, health.reason) == (2, "SystemExit: it had enough (next try within 2 s)")


async def test_whoever_asks_waits_once_and_in_the_order_of_asking() -> None:
    callers = Callers()
    for name in "abcab":
        callers.ask(name)
    assert [await callers.next() for _ in range(3)] == ["a", "b", "c"]
    with anyio.move_on_after(0) as empty:
        await callers.next()
    assert empty.cancelled_caught


async def test_who_waits_for_callers_is_woken() -> None:
    callers, served = Callers(), []

    async def serve() -> None:
        served.append(await callers.next())

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(serve)
            await checkpoint()
            callers.ask("a")
    assert served == ["a"]


async def test_what_is_survived_returns_its_reason() -> None:
    async def fail() -> None:
        raise ContainerFailed("c1", "no")

    async def succeed() -> None:
        pass

    assert await survive("work", fail()) == "The container c1 failed: no"
    assert await survive("work", succeed()) is None


async def test_an_error_that_the_caller_knows_passes_through() -> None:
    async def fail() -> None:
        raise TryLater("later")

    with pytest.raises(TryLater):
        await survive("work", fail(), passing=(TryLater,))


async def test_cancellation_is_nothing_to_survive() -> None:
    with anyio.move_on_after(0) as scope:
        await survive("work", anyio.sleep_forever())
    assert scope.cancelled_caught


async def test_a_sleep_ends_with_its_event(nanoclaw_clock: FakeClock) -> None:
    event = anyio.Event()
    event.set()
    assert await sleep_or(nanoclaw_clock, 60, event)


async def test_a_sleep_ends_with_its_time(nanoclaw_clock: FakeClock) -> None:
    outcomes = []

    async def sleep() -> None:
        outcomes.append(await sleep_or(nanoclaw_clock, 60, anyio.Event()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleep)
        await nanoclaw_clock.asleep()
        await nanoclaw_clock.advance(60)
    assert outcomes == [False]


async def test_clean_up_is_finished_by_a_task_that_is_cancelled() -> None:
    done = False
    with anyio.CancelScope() as scope:
        scope.cancel()
        async with clean_up():
            await checkpoint()
            done = True
    assert done


async def test_clean_up_that_hangs_is_cut_and_logged() -> None:
    with structlog.testing.capture_logs() as events:
        async with clean_up(0.01):
            await anyio.sleep_forever()
    assert [event["event"] for event in events] == ["clean_up.cut"]


def test_a_reason_names_the_first_of_a_group() -> None:
    group = ExceptionGroup("two", [ExceptionGroup("one", [KeyError("x")]), ValueError("y")])
    assert reason_of(group) == "KeyError: 'x'"
    assert reason_of(RuntimeError()) == "RuntimeError"


async def test_of_two_at_once_the_error_of_one_is_raised_as_it_is_and_the_other_is_cancelled() -> None:
    is_cut = []

    async def wait() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            is_cut.append(True)

    async def fail() -> None:
        await checkpoint()
        raise TryLater("no")

    for pair in ((wait, fail), (fail, wait)):
        with pytest.raises(TryLater, match="no"):
            await both(*pair)
    assert is_cut == [True, True]
