"""A worker at rest: paused while nothing goes on in it, woken by a message, ended when its time is over."""

from __future__ import annotations

import anyio

from nanoclaw_core.models import Progress
from tests.house import House
from tests.workers.crew import Crew, PaperLink, open_crew, until

PAUSE = 2.0
IDLE = 900.0
BACKGROUND = 6 * 3600.0


async def at_rest(crew: Crew, *, background: bool = False) -> tuple[str, PaperLink]:
    await crew.row("hello")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    await crew.answer(worker, *link.pushes, background=background)
    await until(lambda: crew.doing() == ["idle"])
    return worker, link


async def paused(crew: Crew) -> tuple[str, PaperLink]:
    worker, link = await at_rest(crew)
    await crew.house.clock.advance(PAUSE)
    await until(lambda: crew.doing() == ["paused"])
    return worker, link


async def test_a_worker_is_paused_when_it_has_rested_for_a_moment(crew: Crew) -> None:
    await paused(crew)
    assert crew.runtime.done == ["start c1", "pause c1"]


async def test_a_message_wakes_it_while_it_is_being_pushed(crew: Crew) -> None:
    _, link = await paused(crew)
    await crew.row("again")
    await until(lambda: len(link.pushes) == 2)
    await until(lambda: crew.runtime.done[-1] == "resume c1")


async def test_one_that_cannot_be_woken_is_replaced_and_its_message_answered_by_the_next(crew: Crew) -> None:
    await paused(crew)
    crew.runtime.cannot_wake = "frozen for good"
    await crew.row("again")
    await until(lambda: crew.doors.closed)
    await crew.house.clock.asleep()
    await crew.house.clock.advance(1)
    worker, link = await crew.linked(2)
    await until(lambda: link.pushes)
    await crew.answer(worker, *link.pushes)
    await until(lambda: crew.doing() == ["idle"])


async def test_a_message_does_not_wait_until_the_memory_was_measured(crew: Crew) -> None:
    _, link = await at_rest(crew)
    crew.runtime.measures = anyio.Event()
    await crew.house.clock.advance(PAUSE)
    await crew.row("again")
    await until(lambda: len(link.pushes) == 2)
    assert crew.runtime.done == ["start c1"]


async def test_a_second_message_within_the_moment_finds_it_awake(crew: Crew) -> None:
    _, link = await at_rest(crew)
    await crew.row("again")
    await until(lambda: len(link.pushes) == 2)
    assert crew.runtime.done == ["start c1"]


async def test_a_paused_worker_ends_when_its_time_is_over(crew: Crew) -> None:
    await paused(crew)
    await crew.house.clock.advance(IDLE - PAUSE)
    await until(lambda: not crew.doing())
    assert crew.runtime.done[-2:] == ["stop c1", "remove c1"]


async def test_one_that_left_something_running_is_neither_paused_nor_soon_ended(crew: Crew) -> None:
    await at_rest(crew, background=True)
    await crew.house.clock.advance(IDLE)
    assert crew.doing() == ["idle"]
    assert crew.runtime.done == ["start c1"]
    await crew.house.clock.advance(BACKGROUND - IDLE)
    await until(lambda: not crew.doing())


async def test_its_rest_begins_when_nothing_runs_any_more(crew: Crew) -> None:
    worker, _ = await at_rest(crew, background=True)
    await crew.house.clock.advance(IDLE)
    await crew.pool.progressed(worker, Progress(note="", background=False))
    await crew.house.clock.asleep()
    await crew.house.clock.advance(PAUSE)
    await until(lambda: crew.doing() == ["paused"])


async def test_a_heartbeat_that_says_nothing_of_it_changes_nothing(crew: Crew) -> None:
    worker, _ = await at_rest(crew, background=True)
    await crew.pool.progressed(worker, Progress(note="", background=None))
    await crew.house.clock.advance(PAUSE)
    assert crew.doing() == ["idle"]


async def test_where_pausing_fails_it_is_left_awake_and_asked_again_only_after_the_next_turn(crew: Crew) -> None:
    crew.runtime.cannot_pause = "no freezer"
    worker, link = await at_rest(crew)
    for _ in range(2):
        await crew.house.clock.advance(PAUSE)
        await crew.house.clock.asleep()
    assert crew.doing() == ["idle"]
    assert crew.runtime.done == ["start c1", "pause c1"]
    await crew.row("again")
    await until(lambda: len(link.pushes) == 2)
    await crew.answer(worker, link.pushes[1], number=2)
    await until(lambda: crew.doing() == ["idle"])
    await crew.house.clock.advance(PAUSE)
    await until(lambda: crew.runtime.done.count("pause c1") == 2)


async def test_a_runtime_that_is_away_costs_a_worker_at_rest_nothing(crew: Crew) -> None:
    await at_rest(crew)
    crew.runtime.answers = False
    await crew.house.clock.advance(PAUSE)
    await crew.house.clock.asleep()
    crew.runtime.answers = True
    assert crew.doing() == ["idle"]
    assert crew.doors.closed == []


async def test_a_worker_that_dies_at_rest_is_buried_and_nobody_is_told(crew: Crew) -> None:
    await paused(crew)
    crew.runtime.end("c1")
    await until(lambda: crew.doors.closed)
    await crew.house.clock.asleep()
    await crew.house.clock.advance(1)
    await until(lambda: not crew.doing())
    assert await crew.outbound() == ["ok", "settled"]


async def test_a_message_for_one_that_was_asked_to_give_way_is_answered_before_it_goes(house: House) -> None:
    async with open_crew(house) as crew:
        worker, link = await at_rest(crew)
        await crew.row("again")
        crew.pool._make_room(1)
        await until(lambda: len(link.pushes) == 2)
        await crew.answer(worker, link.pushes[1], number=2)
        await until(lambda: crew.doors.closed == [worker])


async def test_one_whose_engine_began_a_turn_by_itself_rests_only_after_its_last_note(crew: Crew) -> None:
    worker, _ = await at_rest(crew)
    await crew.house.clock.advance(PAUSE - 1)
    await crew.pool.progressed(worker, Progress(note="Bash: ls"))
    await crew.house.clock.asleep()
    await crew.house.clock.advance(1)
    await crew.house.clock.asleep()
    assert crew.runtime.done == ["start c1"]
    await crew.house.clock.advance(PAUSE)
    await until(lambda: crew.doing() == ["paused"])
