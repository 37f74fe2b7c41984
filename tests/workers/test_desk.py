"""What all workers share: places in the order of asking, and whether the runtime is there."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint

from nanoclaw_core.errors import RuntimeUnavailable
from nanoclaw_core.testing import FakeClock
from nanoclaw_core.workers.desk import Outage, Slots


async def test_places_are_given_in_the_order_of_asking() -> None:
    asked: list[str] = []
    slots = Slots(1, 1, lambda: asked.append("room"))
    served: list[int] = []

    async def work(number: int) -> None:
        async with slots.worker():
            served.append(number)

    async with anyio.create_task_group() as tasks, slots.worker():
        for number in range(3):
            tasks.start_soon(work, number)
            await checkpoint()
        await checkpoint()
        assert slots.waiting == 3
        assert asked == ["room"] * 3
    assert served == [0, 1, 2]


async def test_only_so_many_start_at_once() -> None:
    slots = Slots(5, 1, lambda: None)
    started: list[int] = []

    async def start(number: int) -> None:
        async with slots.start():
            started.append(number)

    async with anyio.create_task_group() as tasks, slots.start():
        tasks.start_soon(start, 1)
        for _ in range(5):
            await checkpoint()
        assert not started
    assert started == [1]


async def test_an_outage_is_told_as_the_runtimes_error_without_growing() -> None:
    outage = Outage(runtime="docker")
    outage.check()
    for _ in range(3):
        outage.begin("no such socket")
        with pytest.raises(RuntimeUnavailable) as error:
            outage.check()
        outage.begin(error.value.reason)
    assert str(error.value).count("does not answer") == 1


async def test_a_pause_ends_with_the_outage(nanoclaw_clock: FakeClock) -> None:
    outage = Outage(runtime="docker")
    outage.begin("away")
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(outage.pause, nanoclaw_clock, 300.0)
            await nanoclaw_clock.asleep()
            outage.end()


async def test_a_pause_without_an_outage_lasts_although_there_was_one_before(nanoclaw_clock: FakeClock) -> None:
    outage = Outage(runtime="docker")
    outage.begin("away")
    outage.end()
    with anyio.move_on_after(0.01) as scope:
        await outage.pause(nanoclaw_clock, 300.0)
    assert scope.cancelled_caught
