"""All shifts together: who gives way, what is swept, what agents may do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from nanoclaw_core.errors import ActionRefused, DiskLow
from nanoclaw_core.mailbox import MailboxUnusable, NewRow
from nanoclaw_core.models import ContainerState, Progress, Session, TurnEnd
from nanoclaw_core.sandbox.spec import INSTALLATION_LABEL, WORKER_LABEL
from nanoclaw_core.store import sessions, workers
from nanoclaw_core.store.database import Connection
from nanoclaw_core.workers.exchange import FAIR_SHARE
from nanoclaw_core.workers.pool import TYPICAL_MEMORY
from tests.house import CHAT, House
from tests.workers.crew import Crew, open_crew, until


async def session_of(crew: Crew, thread: str) -> Session:
    """Another session, with a message that waits."""

    def ensure(connection: Connection) -> Session:
        chat = crew.house.chat
        make: Callable[..., Session] = partial(sessions.ensure_session, connection, agent_group_id=crew.house.agent.id)
        return make(messaging_group_id=chat.id, thread=thread, now=1.0)

    session = await crew.house.database.write(ensure)
    mailbox = await crew.house.mailboxes.open(session)
    address = replace(CHAT, thread=thread)
    row = NewRow(id=thread, address=address, message_id=thread, sender_id="", sender_name="", text=thread, sent_at=1.0)
    await mailbox.add_rows([row])
    return session


async def answered(crew: Crew, count: int) -> str:
    """Let the worker number `count` answer what it is given."""
    worker, link = await crew.linked(count)
    await until(lambda: link.pushes)
    await crew.answer(worker, *link.pushes)
    return worker


async def test_sessions_with_work_are_served_at_the_start(house: House) -> None:
    async with open_crew(house) as crew:
        await crew.row("before the start")
    async with open_crew(house) as crew:
        await crew.worker(1)


async def test_a_row_that_comes_at_the_very_end_of_a_shift_is_seen(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its last look into the mailbox and its end."""
    waiting = crew.house.mailbox.waiting

    async def last_look(limit: int = 64) -> object:
        found = await waiting(limit)
        monkeypatch.undo()
        await crew.row("just now")
        return found

    monkeypatch.setattr(crew.house.mailbox, "waiting", last_look)
    crew.pool.wake(crew.house.session.id)
    _, link = await crew.linked()
    await until(lambda: link.pushes)


async def two_at_rest(crew: Crew) -> list[str]:
    workers = []
    for count, thread in enumerate(("a", "b"), start=1):
        crew.pool.wake((await session_of(crew, thread)).id)
        workers.append(await answered(crew, count))
        await until(lambda count=count: crew.doing().count("idle") == count)  # type: ignore[misc]
        await crew.house.clock.advance(1)
    return workers


async def test_workers_at_rest_stay_when_others_work(crew: Crew) -> None:
    await two_at_rest(crew)
    crew.pool.wake((await session_of(crew, "c")).id)
    await crew.worker(3)
    assert crew.doors.closed == []


async def test_of_those_at_rest_the_one_that_has_rested_longest_gives_its_memory(house: House) -> None:
    async with open_crew(house, max_memory=2 * TYPICAL_MEMORY) as crew:
        first, _ = await two_at_rest(crew)
        crew.pool.wake((await session_of(crew, "c")).id)
        await crew.worker(3)
        assert crew.doors.closed == [first]


async def test_one_that_only_now_goes_to_rest_gives_its_memory_to_who_waits_already(house: House) -> None:
    async with open_crew(house, max_memory=TYPICAL_MEMORY) as crew:
        crew.pool.wake((await session_of(crew, "a")).id)
        await crew.worker(1)
        crew.pool.wake((await session_of(crew, "b")).id)
        await until(lambda: crew.pool.status()["waiting"] == 1)
        worker = await answered(crew, 1)
        await crew.worker(2)
        assert crew.doors.closed == [worker]


async def test_one_that_left_something_running_gives_its_memory_last(house: House) -> None:
    async with open_crew(house, max_memory=2 * TYPICAL_MEMORY) as crew:
        first, second = await two_at_rest(crew)
        await crew.pool.progressed(first, Progress(note="", background=True))
        crew.pool.wake((await session_of(crew, "c")).id)
        await crew.worker(3)
        assert crew.doors.closed == [second]


async def test_a_machine_that_runs_out_of_memory_has_workers_at_rest_end(crew: Crew) -> None:
    first, _ = await two_at_rest(crew)
    crew.free_memory = 0
    crew.pool.wake((await session_of(crew, "c")).id)
    await crew.worker(3)
    assert first in crew.doors.closed


async def test_for_two_that_wait_two_give_way(crew: Crew) -> None:
    await two_at_rest(crew)
    for _ in range(2):  # in the same moment, before the first has had time to end
        crew.pool._make_room(2)
    await until(lambda: len(crew.doors.closed) == 2)


async def test_who_gives_way_already_is_counted(crew: Crew) -> None:
    await two_at_rest(crew)
    for _ in range(2):
        crew.pool._make_room(1)
    await until(lambda: crew.doing() == ["idle"])
    assert len(crew.doors.closed) == 1


async def test_a_worker_whose_turn_is_over_gives_it_to_who_waits_already(crew: Crew) -> None:
    for count, thread in enumerate(("a", "b"), start=1):
        crew.pool.wake((await session_of(crew, thread)).id)
        await crew.worker(count)
    crew.pool.wake((await session_of(crew, "c")).id)
    await until(lambda: crew.pool.status()["waiting"] == 1)
    await answered(crew, 1)
    await crew.worker(3)
    assert crew.doors.closed == []


async def test_a_session_that_has_more_to_do_waits_for_its_turn_again(house: House) -> None:
    async with open_crew(house, max_turns=1) as crew:
        await crew.row("one")
        worker, link = await crew.linked()
        await until(lambda: link.pushes)
        await crew.row("elsewhere", to=replace(CHAT, thread="t1"))
        crew.pool.wake((await session_of(crew, "c")).id)
        await until(lambda: crew.pool.status()["waiting"] == 1)
        await crew.answer(worker, *link.pushes)
        await answered(crew, 2)
        await until(lambda: len(link.pushes) == 2)
        assert crew.doors.closed == []


async def test_while_others_wait_a_turn_is_not_made_longer_for_ever(house: House) -> None:
    async with open_crew(house, max_turns=1) as crew:
        await crew.row("one")
        _, link = await crew.linked()
        await until(lambda: link.pushes)
        crew.pool.wake((await session_of(crew, "c")).id)
        await until(lambda: crew.pool.status()["waiting"] == 1)
        await crew.row("two")
        await until(lambda: len(link.pushes) == 2)
        await crew.house.clock.advance(FAIR_SHARE)
        await crew.row("three")
        await until(lambda: not crew.pool.shifts[0].was_rung)
        assert len(link.pushes) == 2


async def test_a_container_that_belongs_to_nobody_is_swept(crew: Crew) -> None:
    labels = {INSTALLATION_LABEL: "i1", WORKER_LABEL: "wold"}
    crew.runtime.living["old"] = ContainerState(id="old", name="old", labels=labels, running=True)
    await crew.row("hello")
    await crew.worker(1)
    crew.runtime.look_again()
    await until(lambda: list(crew.runtime.living) == ["c1"])


async def test_a_worker_that_begins_while_the_sweep_looks_is_spared(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = crew.runtime.containers
    looks = 0

    async def slow(labels: object) -> object:
        nonlocal looks
        looks += 1
        if looks == 1:
            await crew.row("hello")
            await crew.linked(1)
        return await listed(labels)  # type: ignore[arg-type]

    monkeypatch.setattr(crew.runtime, "containers", slow)
    crew.runtime.look_again()
    await until(lambda: looks >= 2)
    assert list(crew.runtime.living) == ["c1"]
    assert len(await crew.house.database.read(workers.live_workers)) == 1


async def test_a_container_that_ended_unseen_is_noticed_when_events_were_missed(crew: Crew) -> None:
    await crew.row("hello")
    await crew.linked(1)
    crew.runtime.living["c1"] = replace(crew.runtime.living["c1"], running=False, exit_code=3)
    crew.runtime.look_again()
    await until(lambda: crew.doing()[0].startswith("waiting: "))
    assert "code 3" in crew.doing()[0]


async def test_a_session_that_a_dead_host_claimed_is_free_again(house: House) -> None:
    claim = partial(workers.claim_worker, worker_id="wold", session_id=house.session.id, secret_hash="x", image="i", now=1.0)
    assert await house.database.write(claim)
    async with open_crew(house) as crew:
        await crew.row("hello")
        await crew.worker(1)


async def test_an_unknown_worker_changes_nothing(crew: Crew) -> None:
    await crew.pool.turn_ended("wx", TurnEnd(id="wx-1", covered=("u",), text="boo", conversation="c"))
    await crew.pool.failed("wx", "boo")
    await crew.pool.disconnected("wx")
    assert await crew.outbound() == []


async def test_an_end_that_cannot_be_stored_is_not_taken_and_the_worker_is_replaced(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    await crew.row("hello")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)

    async def fail(*arguments: object) -> None:
        raise MailboxUnusable(Path("outbound.db"), "disk full")

    with monkeypatch.context() as full_disk:
        full_disk.setattr(crew.house.mailbox, "end_turn", fail)
        with pytest.raises(MailboxUnusable):
            await crew.answer(worker, *link.pushes)
    await until(lambda: crew.doing()[0].startswith("waiting: "))
    assert "cannot be stored" in crew.doing()[0]


# --- what agents may do ---------------------------------------------------------------------------------------------------


async def test_an_agent_that_answers_nobody_must_name_somebody(crew: Crew) -> None:
    await crew.row("hello")
    await crew.worker(1)
    host = crew.pool.actions.host(crew.doors.opened[0], "k1")
    with pytest.raises(ActionRefused, match="name a destination"):
        await host.send("yo")
    assert (await host.send("yo", to="family")).to == "family"
    assert await crew.outbound() == ["yo"]


async def test_the_same_call_is_carried_out_once(crew: Crew) -> None:
    await crew.row("hello")
    _, link = await crew.linked()
    await until(lambda: link.pushes)
    for key in ("k1", "k1", "k2"):
        await crew.pool.actions.host(crew.doors.opened[0], key).send("yo")
    assert await crew.outbound() == ["yo", "yo"]


async def test_what_is_internal_is_not_sent(crew: Crew) -> None:
    await crew.row("hello")
    _, link = await crew.linked()
    await until(lambda: link.pushes)
    host = crew.pool.actions.host(crew.doors.opened[0], "k1")
    with pytest.raises(ActionRefused, match="nothing to send"):
        await host.send("<internal>hm</internal>")
    await host.send("yo<internal>hm</internal>")
    assert await crew.outbound() == ["yo"]


async def test_words_to_the_chat_that_is_answered_count_as_its_answer_in_whatever_thread(house: House) -> None:
    async with open_crew(house) as crew:
        await crew.row("hello", to=replace(CHAT, thread="t1"))
        worker, link = await crew.linked()
        await until(lambda: link.pushes)
        await crew.pool.actions.host(crew.doors.opened[0], "k1").send("yo", to="family")
        await crew.answer(worker, *link.pushes, text="<internal>all is said</internal>")
        assert [row.to.thread for row in await house.mailbox.due()] == ["t1", "t1"]
        assert await crew.outbound() == ["yo", "settled"]


async def test_no_worker_is_started_on_a_full_disk_and_its_chat_is_told_once(crew: Crew) -> None:
    crew.full_disk = DiskLow("/home", 3, 512)
    await crew.row("one")
    for pause in (1, 2, 4):
        await crew.house.clock.asleep()
        await crew.house.clock.advance(pause)
    (notice,) = await crew.outbound()
    assert "3 MiB left" in notice
    assert crew.runtime.specs == []
    crew.full_disk = None
    await crew.house.clock.asleep()
    await crew.house.clock.advance(8)
    await crew.worker()


async def test_a_worker_whose_container_is_to_be_made_anew_ends_when_it_has_nothing_to_do(crew: Crew) -> None:
    await crew.row("hello")
    worker, link = await crew.linked(1)
    await until(lambda: link.pushes)
    crew.pool.renew("somebody else's")
    crew.pool.renew(crew.house.agent.id)
    assert link.orders == []
    await crew.answer(worker, *link.pushes)
    await until(lambda: not crew.pool.shifts)
    assert link.orders == ["shutdown"]
