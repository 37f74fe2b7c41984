"""What all workers share: whether the runtime is there."""

from __future__ import annotations

import anyio
import pytest

from nanoclaw_core.errors import RuntimeUnavailable
from nanoclaw_core.testing import FakeClock
from nanoclaw_core.workers.desk import Outage


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
