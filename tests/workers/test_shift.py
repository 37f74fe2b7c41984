"""One session's shift: what is pushed when, and what becomes of a worker that is silent, slow or dead."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import anyio
import pytest

from nanoclaw_core.mailbox import NewOutbound, NewRow
from nanoclaw_core.models import Failure, FailureKind, Progress, Push, TurnEnd
from nanoclaw_core.workers import shift
from nanoclaw_core.workers.exchange import MAX_OUTSTANDING
from tests.house import CHAT, House
from tests.workers.crew import Crew, PaperLink, open_crew, until


@dataclass
class SlowLink(PaperLink):
    """One whose pushes wait for leave."""

    reached: anyio.Event = field(default_factory=anyio.Event)
    goes_on: anyio.Event = field(default_factory=anyio.Event)

    async def push(self, push: Push) -> None:
        self.reached.set()
        await self.goes_on.wait()
        await super().push(push)


NO_ANSWER = "(The agent has finished without an answer.)"


async def test_rows_that_wait_are_pushed_as_one_prompt(house: House) -> None:
    async with open_crew(house) as crew:
        await crew.row("one")
        await crew.row("two")
        _, link = await crew.linked()
        await until(lambda: link.pushes)
        assert len(link.pushes) == 1
        assert "one" in link.pushes[0].text
        assert "two" in link.pushes[0].text


async def test_a_row_that_comes_meanwhile_is_pushed_into_the_running_turn(crew: Crew) -> None:
    await crew.row("one")
    _, link = await crew.linked()
    await until(lambda: link.pushes)
    await crew.row("two")
    await until(lambda: len(link.pushes) == 2)


async def test_what_ends_while_it_waits_to_be_pushed_again_is_not_pushed_any_more(crew: Crew) -> None:
    """The runner may have forgotten it: it was acknowledged."""
    await crew.row("one")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    await crew.row("two")
    await until(lambda: len(link.pushes) == 2)
    slow = SlowLink()
    await crew.pool.connected(worker, slow)
    await slow.reached.wait()
    await crew.answer(worker, link.pushes[1])
    slow.goes_on.set()
    await crew.row("three")
    await until(lambda: len(slow.pushes) == 2)
    assert [push.uuid for push in slow.pushes] == [link.pushes[0].uuid, slow.pushes[1].uuid]
    assert "three" in slow.pushes[1].text


async def test_rows_of_another_address_wait_for_the_next_turn(crew: Crew) -> None:
    """A turn has one reply address."""
    await crew.row("one")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    await crew.row("elsewhere", to=replace(CHAT, thread="t1"))
    await crew.row("two")
    await until(lambda: crew.doing() == ["working"])
    assert len(link.pushes) == 1
    await crew.answer(worker, *link.pushes)
    await until(lambda: len(link.pushes) == 2)
    assert "elsewhere" in link.pushes[1].text
    assert "two" not in link.pushes[1].text


async def test_no_more_is_outstanding_than_a_result_can_name(crew: Crew) -> None:
    await crew.row("first")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    for number in range(1, MAX_OUTSTANDING + 3):
        await crew.row(str(number))
        await until(lambda number=number: len(link.pushes) == min(number + 1, MAX_OUTSTANDING))  # type: ignore[misc]
    await crew.answer(worker, *link.pushes)
    await until(lambda: len(link.pushes) == MAX_OUTSTANDING + 1)


async def test_what_could_not_be_delivered_is_told_with_the_next_message_and_once(crew: Crew) -> None:
    mailbox = crew.house.mailbox
    await mailbox.add_outbound("k", NewOutbound(to=CHAT, text="dinner is ready"))
    (lost,) = await mailbox.due()
    await mailbox.undeliverable(lost.seq, "the chat is gone")
    crew.pool.wake(crew.house.session.id)
    await until(lambda: crew.doing() == [])  # a loss alone begins no turn
    await crew.row("one")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    assert 'reason="the chat is gone">dinner is ready<' in link.pushes[0].text
    await crew.answer(worker, *link.pushes)
    await crew.row("two")
    await until(lambda: len(link.pushes) == 2)
    assert "dinner" not in link.pushes[1].text


async def test_the_end_of_a_turn_is_stored_with_its_answer(crew: Crew) -> None:
    await crew.row("hello")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    await crew.answer(worker, *link.pushes, text="hi")
    assert await crew.outbound() == ["hi", "settled"]
    assert crew.delivered == [crew.house.session.id]
    await until(lambda: crew.doing() == ["idle"])


async def test_the_conversation_is_continued_by_the_next_worker(crew: Crew) -> None:
    await crew.row("hello")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    await crew.answer(worker, *link.pushes)
    crew.runtime.end("c1")
    await until(lambda: not crew.doing() or crew.doing()[0].startswith("waiting"))
    await crew.house.clock.advance(1)
    await until(lambda: not crew.doing())
    await crew.row("again")
    await crew.worker(2)
    assert crew.runtime.documents[1]["options"]["conversation"] == "k"
    assert crew.runtime.documents[1]["options"]["resume_interrupted"] is False


async def test_a_link_that_comes_again_gets_what_no_end_has_covered(crew: Crew) -> None:
    await crew.row("hello")
    worker, first = await crew.linked()
    await until(lambda: first.pushes)
    await crew.pool.disconnected(worker)
    _, second = await crew.linked()
    await until(lambda: second.pushes == first.pushes)


async def test_a_worker_that_never_reports_is_given_up(crew: Crew) -> None:
    await crew.row("hello")
    await crew.worker(1)
    await until(lambda: crew.told)
    await crew.house.clock.asleep()
    await crew.house.clock.advance(59)
    assert len(crew.doors.closed) == 0
    await crew.house.clock.advance(1)
    await until(lambda: crew.told[-1].name == "worker.ended")
    assert "no sign of life for 60 s" in crew.told[-1].data["reason"]


async def test_a_working_worker_may_be_silent_for_as_long_as_its_heart_beats(crew: Crew) -> None:
    await crew.row("hello")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    for _ in range(20):
        await crew.house.clock.advance(100)
        await crew.pool.progressed(worker, Progress(note=""))
    assert not crew.doors.closed
    await crew.house.clock.advance(120)
    await until(lambda: crew.doors.closed)


async def test_a_broken_link_must_come_back_soon(crew: Crew) -> None:
    await crew.row("hello")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    await crew.pool.disconnected(worker)
    await crew.house.clock.asleep()
    await crew.house.clock.advance(60)
    await until(lambda: crew.doors.closed)


async def test_what_the_agent_does_is_shown_while_it_answers_somebody(crew: Crew) -> None:
    await crew.row("hello")
    worker, link = await crew.linked()
    await crew.pool.progressed(worker, Progress(note="too early"))
    await until(lambda: link.pushes)
    await crew.pool.progressed(worker, Progress(note="Bash: ls"))
    await crew.pool.progressed(worker, Progress(note=""))
    await crew.answer(worker, *link.pushes)
    await crew.pool.progressed(worker, Progress(note="too late"))
    assert crew.typed == ["Bash: ls"]
    assert crew.noted == [(crew.house.session.id, worker, "Bash: ls")]


async def test_of_a_turn_so_many_steps_are_kept_and_of_the_next_one_again(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shift, "MAX_STEPS", 2)
    await crew.row("first")
    worker, link = await crew.linked()

    async def take_steps(turn: int) -> None:
        await until(lambda: len(link.pushes) == turn)
        for step in range(4):
            await crew.pool.progressed(worker, Progress(note=f"step {turn}.{step}"))
        await crew.answer(worker, link.pushes[-1], number=turn)

    await take_steps(1)
    await crew.row("second")
    await take_steps(2)
    assert [note for _, _, note in crew.noted] == ["step 1.0", "step 1.1", "step 2.0", "step 2.1"]


async def test_only_the_last_address_is_told_that_there_is_no_answer(crew: Crew) -> None:
    await crew.row("hello")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    await crew.answer(worker, *link.pushes, text="<internal>hm</internal>")
    assert await crew.outbound() == [NO_ANSWER, "settled"]


@pytest.mark.parametrize(("kind", "words"), [(FailureKind.ENGINE, "engine broke off"), (FailureKind.INTERRUPTED, "(Stopped.)")])
async def test_a_failed_turn_says_so(crew: Crew, kind: FailureKind, words: str) -> None:
    await crew.row("hello")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    failure = Failure(kind=kind, detail="code 1")
    end = TurnEnd(id=f"{worker}-1", covered=(link.pushes[0].uuid,), text="", conversation="k", failure=failure)
    await crew.pool.turn_ended(worker, end)
    notice, settled = await crew.outbound()
    assert words in notice
    assert settled == "settled"


async def test_an_end_that_covers_nothing_that_is_outstanding_is_no_news(crew: Crew) -> None:
    await crew.row("hello")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    await crew.pool.turn_ended(worker, TurnEnd(id="x-1", covered=("unknown",), text="boo", conversation="evil"))
    assert await crew.outbound() == []
    assert await crew.house.mailbox.conversation() is None
    assert crew.doing() == ["working"]


async def test_a_worker_that_is_out_of_memory_is_said_to_be(crew: Crew) -> None:
    for count in (1, 2, 3):
        await crew.row("hello") if count == 1 else None
        _, link = await crew.linked(count)
        await until(lambda link=link: link.pushes)  # type: ignore[misc]
        crew.runtime.end(f"c{count}", 137, out_of_memory=True)
        await until(lambda: crew.doing()[0].startswith("waiting: "))
        if count < 3:
            await crew.house.clock.advance(count)
    notice, settled = await crew.outbound()
    assert "NANOCLAW_WORKER_MEMORY" in notice
    assert settled == "settled"


async def test_after_a_success_the_pauses_begin_anew(crew: Crew) -> None:
    """A busy chat whose worker dies once a day must not wait five minutes after a week."""
    await crew.row("hello")
    for count in range(1, 7):
        worker, link = await crew.linked(count)
        await until(lambda link=link: link.pushes)  # type: ignore[misc]
        await crew.answer(worker, *link.pushes)
        await crew.row("and then?")
        await until(lambda link=link: len(link.pushes) == 2)  # type: ignore[misc]
        crew.runtime.end(f"c{count}")
        await until(lambda: crew.doing()[0].startswith("waiting: "))
        await crew.house.clock.advance(1)
    await crew.worker(7)


async def test_what_a_worker_left_is_taken_up_alone(crew: Crew) -> None:
    await crew.row("poison?")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    crew.runtime.end("c1")
    await until(lambda: crew.doing()[0].startswith("waiting: "))
    await crew.row("innocent")
    await crew.house.clock.advance(1)
    worker, second = await crew.linked(2)
    await until(lambda: second.pushes)
    await until(lambda: crew.doing() == ["working"])
    assert [push.uuid for push in second.pushes] == [link.pushes[0].uuid]
    assert crew.runtime.documents[1]["options"]["resume_interrupted"] is True
    await crew.answer(worker, *second.pushes)
    await until(lambda: len(second.pushes) == 2)


async def test_words_that_wait_for_delivery_are_nothing_for_a_shift(crew: Crew) -> None:
    await crew.house.mailbox.add_outbound("k", NewOutbound(to=CHAT, text="old"))
    crew.pool.wake(crew.house.session.id)
    await until(lambda: not crew.pool.shifts)
    assert not crew.runtime.specs


async def test_an_engine_that_takes_up_its_turn_before_it_is_pushed_again_knows_its_chat(house: House) -> None:
    """Claude Code resumes an interrupted turn by itself, and its first tool call may come before the link is used."""
    row = NewRow(id="r1", address=CHAT, message_id="m1", sender_id="fake:ada", sender_name="Ada", text="hello", sent_at=1.0)
    await house.mailbox.add_rows([row])
    await house.mailbox.record_push(Push(uuid="u1", text="hello"), ["r1"], "a worker of a host that is no more")
    async with open_crew(house) as crew:
        await crew.worker(1)
        host = crew.pool.actions.host(crew.doors.opened[0], "call-1")
        assert (await host.send("on it")).to == "this chat"


async def test_an_end_that_the_mailbox_does_not_know_ends_the_turn_all_the_same(
    crew: Crew, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the mailbox has begun anew meanwhile: a worker that waits for nothing is not hung."""
    await crew.row("one")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)

    async def unknown(*arguments: object) -> bool:
        return False

    with monkeypatch.context() as anew:
        anew.setattr(crew.house.mailbox, "end_turn", unknown)
        await crew.answer(worker, *link.pushes)
    await until(lambda: not crew.pool.shifts[0].exchange.open)
