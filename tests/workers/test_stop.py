"""`/stop`: a running turn is interrupted, what waits is called off, whatever the session is doing at the moment."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nanoclaw_core.workers.shift import STOP_PATIENCE
from tests.house import CHAT, House
from tests.workers.crew import Crew, PaperLink, open_crew, until
from tests.workers.test_pool import session_of

STOPPED = "(Stopped.)"
NOTHING = "(Nothing is running.)"


async def stop(crew: Crew, text: str = "/stop") -> None:
    """What the router does with such a message."""
    await crew.row(text)
    crew.pool.stop(crew.house.session.id)


async def at_work(crew: Crew) -> tuple[str, PaperLink]:
    await crew.row("hello")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    return worker, link


async def test_a_running_turn_is_interrupted_and_its_worker_stays(crew: Crew) -> None:
    worker, link = await at_work(crew)
    await stop(crew)
    await until(lambda: link.orders)
    await crew.interrupted(worker, *link.pushes)
    await until(lambda: crew.doing() == ["idle"])
    assert link.orders == ["interrupt"]
    assert await crew.outbound() == [STOPPED, "settled", "settled"]
    assert len(link.pushes) == 1
    assert crew.doors.closed == []


async def test_the_next_message_is_answered_as_ever(crew: Crew) -> None:
    worker, link = await at_work(crew)
    await stop(crew)
    await until(lambda: link.orders)
    await crew.interrupted(worker, *link.pushes)
    await until(lambda: crew.doing() == ["idle"])
    await crew.row("again")
    await until(lambda: len(link.pushes) == 2)
    assert "/stop" not in link.pushes[1].text


async def test_turns_that_the_engine_makes_of_what_was_pushed_meanwhile_are_stopped_too(crew: Crew) -> None:
    worker, link = await at_work(crew)
    await crew.row("and this")
    await until(lambda: len(link.pushes) == 2)
    await stop(crew)
    await until(lambda: len(link.orders) == 1)
    await crew.interrupted(worker, link.pushes[0])
    await until(lambda: len(link.orders) == 2)
    await crew.interrupted(worker, link.pushes[1], number=2)
    await until(lambda: crew.doing() == ["idle"])


async def test_an_engine_that_does_not_obey_loses_its_worker_within_a_second(crew: Crew) -> None:
    assert STOP_PATIENCE < 1
    worker, link = await at_work(crew)
    await stop(crew)
    await until(lambda: link.orders)
    await crew.house.clock.asleep()
    await crew.house.clock.advance(STOP_PATIENCE)
    await until(lambda: crew.doors.closed == [worker])
    await until(lambda: not crew.doing())
    assert await crew.outbound() == ["settled", STOPPED, "settled"]
    assert len(crew.runtime.specs) == 1


async def test_what_waits_for_a_turn_is_called_off(house: House) -> None:
    async with open_crew(house, max_turns=1) as crew:
        crew.pool.wake((await session_of(crew, "other")).id)
        await crew.worker(1)
        await crew.row("hello")
        await until(lambda: crew.pool.status()["waiting"] == 1)
        await stop(crew)
        await until(lambda: crew.pool.status()["waiting"] == 0)
        await until(lambda: len(crew.doing()) == 1)
        assert await crew.outbound() == ["settled", STOPPED, "settled"]


async def test_what_waits_for_the_next_try_is_called_off(crew: Crew) -> None:
    crew.runtime.answers = False
    await crew.row("hello")
    await until(lambda: crew.doing() and crew.doing()[0].startswith("waiting: "))
    await stop(crew)
    await until(lambda: not crew.doing())
    _, *rest = await crew.outbound()
    assert rest == ["settled", STOPPED, "settled"]


async def test_a_worker_that_is_only_starting_is_ended(crew: Crew) -> None:
    await crew.row("hello")
    worker = await crew.worker()
    await stop(crew)
    await until(lambda: crew.doors.closed == [worker])
    await until(lambda: not crew.doing())
    assert await crew.outbound() == ["settled", STOPPED, "settled"]


async def test_without_anything_to_stop_it_says_so_and_starts_no_worker(crew: Crew) -> None:
    await stop(crew, "@Andy /stop")
    await until(lambda: crew.delivered and not crew.doing())
    assert await crew.outbound() == [NOTHING, "settled"]
    assert crew.runtime.specs == []


async def test_a_worker_at_rest_is_left_alone(crew: Crew) -> None:
    worker, link = await at_work(crew)
    await crew.answer(worker, *link.pushes)
    await until(lambda: crew.doing() == ["idle"])
    said = len(crew.delivered)
    await stop(crew)
    await until(lambda: len(crew.delivered) > said)
    assert await crew.outbound() == ["ok", "settled", NOTHING, "settled"]
    assert link.orders == []
    assert crew.doors.closed == []


async def test_what_was_written_after_it_is_answered(crew: Crew) -> None:
    """All three wait already when the session is looked at for the first time, as after a start of the host."""
    for text in ("hello", "/stop", "and now?"):
        await crew.row(text)
    _, link = await crew.linked()
    await until(lambda: link.pushes)
    assert "and now?" in link.pushes[0].text
    assert "hello" not in link.pushes[0].text


async def test_a_stop_that_a_host_did_not_live_to_heed_is_heeded_by_the_next(house: House) -> None:
    async with open_crew(house) as crew:
        await at_work(crew)
        crew.runtime.end("c1")  # and the worker with it
    async with open_crew(house) as crew:
        crew.rows = 1
        await stop(crew)
        await until(lambda: crew.delivered and not crew.doing())
        assert await crew.outbound() == ["settled", STOPPED, "settled"]


async def test_a_chat_of_another_thread_is_told_that_its_turn_was_stopped(crew: Crew) -> None:
    elsewhere = replace(CHAT, thread="t1")
    await crew.row("hello", to=elsewhere)
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    await stop(crew)
    await until(lambda: link.orders)
    await crew.interrupted(worker, *link.pushes)
    await until(lambda: crew.doing() == ["idle"])
    due = await crew.house.mailbox.due()
    assert [(row.to, row.text) for row in due if row.text] == [(elsewhere, STOPPED), (CHAT, STOPPED)]


@pytest.mark.parametrize("text", ["/stop", "/STOP", " /stop ", "@Andy /stop", "/stop@andy_bot"])
async def test_the_word_alone_stops(crew: Crew, text: str) -> None:
    await stop(crew, text)
    await until(lambda: crew.delivered and not crew.doing())
    assert await crew.outbound() == [NOTHING, "settled"]


async def test_a_sentence_about_stopping_is_for_the_agent(crew: Crew) -> None:
    await crew.row("/stop talking like that")
    _, link = await crew.linked()
    await until(lambda: link.pushes)


async def test_a_turn_that_comes_with_the_stop_is_given_back(house: House) -> None:
    async with open_crew(house, max_turns=1) as crew:
        worker, link = await at_work(crew)
        await crew.answer(worker, *link.pushes)
        await until(lambda: crew.doing() == ["idle"])
        (shift,) = crew.pool.shifts
        await crew.row("hello")
        await stop(crew)
        await until(lambda: crew.doing() == ["idle"] and not shift.was_rung)
        crew.pool.wake((await session_of(crew, "other")).id)
        await crew.worker(2)
