"""What is shown of an answer while it is written: the newest, one call at a time, nothing after its end."""

from __future__ import annotations

import anyio
import pytest

from nanoclaw_core.errors import TryLater
from nanoclaw_core.models import Address
from nanoclaw_core.workers import preview
from nanoclaw_core.workers.preview import PAUSE
from tests.house import CHAT
from tests.workers.crew import Crew, PaperLink, until


async def at_work(crew: Crew) -> tuple[str, PaperLink]:
    await crew.row("hello")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    return worker, link


def texts(crew: Crew) -> list[str]:
    return [text for _, text, _ in crew.previews]


async def paused(crew: Crew) -> None:
    """Let the pause between two calls pass."""
    await crew.house.clock.asleep()
    await crew.house.clock.advance(PAUSE)


async def test_pushes_say_whether_their_chat_can_show_previews(crew: Crew) -> None:
    _, link = await at_work(crew)
    assert link.pushes[0].stream
    assert crew.runtime.documents[0]["options"]["stream"] is True


async def test_pushes_to_other_chats_say_that_they_cannot(crew: Crew) -> None:
    await crew.row("hello", to=Address(channel="terminal", chat="t"))
    _, link = await crew.linked()
    await until(lambda: link.pushes)
    assert not link.pushes[0].stream
    assert crew.runtime.documents[0]["options"]["stream"] is False


async def test_what_comes_during_a_call_and_its_pause_is_left_out_but_for_the_newest(crew: Crew) -> None:
    worker, _ = await at_work(crew)
    crew.drawing = anyio.Event()
    await crew.pool.previewed(worker, "one")
    await until(lambda: texts(crew) == ["one"])
    await crew.pool.previewed(worker, "one two")
    crew.drawing.set()
    await crew.house.clock.asleep()
    await crew.pool.previewed(worker, "one two three")
    assert texts(crew) == ["one"]
    await paused(crew)
    await until(lambda: len(crew.previews) == 2)
    assert texts(crew) == ["one", "one two three"]
    assert {to for to, _, _ in crew.previews} == {CHAT}


async def test_a_flood_is_four_calls_a_second(crew: Crew) -> None:
    worker, _ = await at_work(crew)
    for number in range(1000):
        await crew.pool.previewed(worker, f"number {number}")
    await until(lambda: crew.previews)
    await crew.house.clock.asleep()
    assert texts(crew) == ["number 999"]


async def test_the_end_of_a_turn_waits_for_the_call_that_is_under_way(crew: Crew) -> None:
    """Else the preview could be written over the answer."""
    worker, link = await at_work(crew)
    crew.drawing = anyio.Event()
    await crew.pool.previewed(worker, "one")
    await until(lambda: crew.previews)
    await crew.pool.previewed(worker, "one two")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(crew.answer, worker, *link.pushes)
        await anyio.wait_all_tasks_blocked()
        assert await crew.outbound() == []
        crew.drawing.set()
    assert await crew.outbound() == ["ok", "settled"]
    await paused(crew)
    await anyio.wait_all_tasks_blocked()
    assert texts(crew) == ["one"]  # and what waited behind that call was called off


async def test_a_call_that_hangs_does_not_keep_the_answer_for_long(crew: Crew, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preview, "PATIENCE", 0.01)
    worker, link = await at_work(crew)
    crew.drawing = anyio.Event()
    await crew.pool.previewed(worker, "one")
    await until(lambda: crew.previews)
    await crew.answer(worker, *link.pushes)
    assert await crew.outbound() == ["ok", "settled"]


async def test_nothing_is_shown_after_the_end_or_of_what_nobody_asked_for(crew: Crew) -> None:
    worker, link = await at_work(crew)
    await crew.answer(worker, *link.pushes)
    await crew.pool.previewed(worker, "late")
    await crew.pool.previewed("unknown", "late")
    await anyio.wait_all_tasks_blocked()
    assert crew.previews == []


async def test_after_a_failure_nothing_more_of_this_answer_is_shown_but_of_the_next(crew: Crew) -> None:
    worker, link = await at_work(crew)
    crew.cannot_draw = OSError("the connection broke")
    await crew.pool.previewed(worker, "one")
    await until(lambda: crew.previews)
    crew.cannot_draw = None
    await paused(crew)
    await crew.pool.previewed(worker, "one two")
    await anyio.wait_all_tasks_blocked()
    assert texts(crew) == ["one"]
    await crew.answer(worker, *link.pushes)
    await crew.row("again")
    await until(lambda: len(link.pushes) == 2)
    await crew.pool.previewed(worker, "another")
    await until(lambda: len(crew.previews) == 2)
    assert texts(crew) == ["one", "another"]


async def test_a_platform_that_has_no_time_leaves_one_out(crew: Crew) -> None:
    worker, _ = await at_work(crew)
    crew.cannot_draw = TryLater("busy")
    await crew.pool.previewed(worker, "one")
    await until(lambda: crew.previews)
    crew.cannot_draw = None
    await paused(crew)
    await crew.pool.previewed(worker, "one two")
    await until(lambda: texts(crew) == ["one", "one two"])
