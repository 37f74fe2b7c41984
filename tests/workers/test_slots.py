"""Turns, starts and memory: who is let in, in which order, and who has to make room."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import TaskGroup
from anyio.lowlevel import checkpoint

from nanoclaw_core.workers.slots import Place, Slots


class Record:
    """Slots whose requests for room are written down; `free` is what the machine has left, in bytes."""

    def __init__(self, turns: int = 1, memory: int = 1000) -> None:
        self.asked: list[int] = []
        self.served: list[str] = []
        self.free = 10_000
        self.leave: dict[str, anyio.Event] = {}
        self.slots = Slots(
            turns=turns,
            starting=1,
            memory=memory,
            typical=100,
            make_room=self.asked.append,
            has_room=lambda more: self.free >= more,
        )

    async def come(self, tasks: TaskGroup, name: str, group: str = "a") -> None:
        """Let a worker called `name` wait for its turn, and work until it is told to leave."""

        async def live() -> None:
            with self.slots.worker(group) as place:
                await self.slots.work(place)
                self.served.append(name)
                await self.leave[name].wait()

        self.leave[name] = anyio.Event()
        tasks.start_soon(live)
        await settle()


async def settle() -> None:
    for _ in range(10):
        await checkpoint()


async def test_turns_are_given_in_the_order_of_asking() -> None:
    record = Record()
    async with anyio.create_task_group() as tasks:
        for name in "123":
            await record.come(tasks, name)
        assert record.served == ["1"]
        assert record.slots.waiting == 2
        for name in "123":
            record.leave[name].set()
    assert record.served == ["1", "2", "3"]


async def test_who_has_fewest_at_work_goes_first() -> None:
    record = Record(turns=2)
    async with anyio.create_task_group() as tasks:
        for name in ("a1", "a2", "a3"):
            await record.come(tasks, name, "a")
        await record.come(tasks, "b1", "b")
        record.leave["a1"].set()
        await settle()
        assert record.served == ["a1", "a2", "b1"]
        tasks.cancel_scope.cancel()


async def test_a_worker_that_rests_gives_its_turn_away_and_keeps_its_memory() -> None:
    record = Record(memory=150)
    async with anyio.create_task_group() as tasks:
        with record.slots.worker("a") as place:
            await record.slots.work(place)
            await record.come(tasks, "next")
            record.slots.rest(place)
            await settle()
            assert record.served == []
            assert record.asked == [1, 1]
        await settle()
        assert record.served == ["next"]
        tasks.cancel_scope.cancel()


async def test_a_worker_that_is_there_needs_no_more_memory_for_its_next_turn() -> None:
    record = Record(memory=100)
    async with anyio.create_task_group() as tasks:
        with record.slots.worker("a") as place:
            await record.slots.work(place)
            record.slots.rest(place, memory=100)
            await record.come(tasks, "cold")
            with anyio.fail_after(5):
                await record.slots.work(place)
            assert record.served == []
        tasks.cancel_scope.cancel()


async def test_what_a_worker_was_measured_to_hold_counts() -> None:
    record = Record(turns=5, memory=1000)
    async with anyio.create_task_group() as tasks:
        with record.slots.worker("a") as place:
            await record.slots.work(place)
            record.slots.rest(place, memory=950)
            await record.come(tasks, "cold")
            assert record.served == []
            record.slots.rest(place, memory=50)
            await settle()
            assert record.served == ["cold"]
        tasks.cancel_scope.cancel()


async def test_a_machine_without_memory_takes_no_second_worker_but_always_a_first() -> None:
    record = Record(turns=5)
    record.free = 0
    async with anyio.create_task_group() as tasks:
        await record.come(tasks, "1")
        await record.come(tasks, "2")
        assert record.served == ["1"]
        assert record.asked == [1]
        record.leave["1"].set()
        await settle()
        assert record.served == ["1", "2"]
        tasks.cancel_scope.cancel()


async def test_one_that_goes_to_rest_where_memory_is_short_makes_room() -> None:
    record = Record(turns=5)
    with record.slots.worker("a") as place:
        record.slots.let_in(place)
        record.free = -1
        record.slots.rest(place)
        assert record.asked == [1]


async def test_one_that_is_there_already_never_waits_and_counts() -> None:
    record = Record(turns=1)
    async with anyio.create_task_group() as tasks:
        with record.slots.worker("a") as first, record.slots.worker("a") as second:
            record.slots.let_in(first)
            record.slots.let_in(second)
            await record.come(tasks, "new")
            record.slots.rest(first)
            await settle()
            assert record.served == []
            record.slots.rest(second)
            await settle()
            assert record.served == ["new"]
        tasks.cancel_scope.cancel()


async def test_who_does_not_want_to_wait_any_more_keeps_nobody_out() -> None:
    record = Record()
    async with anyio.create_task_group() as tasks:
        await record.come(tasks, "1")
        with anyio.move_on_after(0), record.slots.worker("a") as place:
            await record.slots.work(place)
        assert record.slots.waiting == 0
        record.leave["1"].set()
        await record.come(tasks, "2")
        assert record.served == ["1", "2"]
        tasks.cancel_scope.cancel()


async def test_who_is_cancelled_as_its_turn_comes_gives_it_back() -> None:
    record = Record()
    place: Place
    async with anyio.create_task_group() as tasks:
        await record.come(tasks, "1")
        with anyio.CancelScope() as scope, record.slots.worker("a") as place:
            async with anyio.create_task_group() as inner:
                inner.start_soon(record.slots.work, place)
                await settle()
                record.leave["1"].set()
                await settle()
                assert place.is_working
                scope.cancel()
        await record.come(tasks, "2")
        assert record.served == ["1", "2"]
        tasks.cancel_scope.cancel()


async def test_only_so_many_start_at_once() -> None:
    slots = Record().slots
    started: list[int] = []

    async def start(number: int) -> None:
        async with slots.start():
            started.append(number)

    async with anyio.create_task_group() as tasks, slots.start():
        tasks.start_soon(start, 1)
        await settle()
        assert not started
    assert started == [1]


@pytest.mark.parametrize("count", [1, 3])
async def test_as_much_room_is_asked_for_as_could_be_used(count: int) -> None:
    record = Record(turns=4, memory=100)
    async with anyio.create_task_group() as tasks:
        await record.come(tasks, "there")
        for number in range(count):
            await record.come(tasks, str(number))
        assert record.asked[-1] == count
        tasks.cancel_scope.cancel()


async def test_those_that_are_there_do_not_have_every_turn_for_themselves() -> None:
    """Somebody who is not there yet waits for memory, and turns are scarce as well."""
    record = Record(turns=1, memory=200)
    async with anyio.create_task_group() as tasks:
        with record.slots.worker("a") as first, record.slots.worker("a") as second:
            record.slots.let_in(first)
            record.slots.let_in(second)
            record.slots.rest(second)
            await record.come(tasks, "cold")
            tasks.start_soon(record.slots.work, second)
            await settle()
            record.slots.rest(first)
            await settle()
            assert record.served == []
            assert record.asked
        tasks.cancel_scope.cancel()
