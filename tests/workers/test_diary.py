"""The steps of turns are kept, and nobody waits for that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from nanoclaw_core.mailbox import MailboxUnusable
from nanoclaw_core.models import Session
from nanoclaw_core.workers import diary as diaries
from nanoclaw_core.workers.diary import Diary


class Paper:
    """All mailboxes in one, on paper; `broken` are sessions whose mailbox cannot be opened."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, str, str]] = []
        self.broken: set[str] = set()
        self._written = anyio.Event()

    async def open(self, session: Session) -> Paper:
        if session.id in self.broken:
            raise MailboxUnusable(Path("outbound.db"), "disk full")
        return self

    async def note(self, kind: str, about: str, detail: str) -> None:
        self.steps.append((kind, about, detail))
        self._written.set()

    async def written(self, count: int) -> list[tuple[str, str, str]]:
        while len(self.steps) < count:
            self._written = anyio.Event()
            await self._written.wait()
        return self.steps


@pytest.fixture
def paper() -> Paper:
    return Paper()


@pytest.fixture
def diary(paper: Any) -> Diary:
    return Diary(paper)


def session(name: str) -> Session:
    return Session(id=name, agent_group_id="a", messaging_group_id="m", thread=None, folder=name)


async def test_steps_are_written_in_their_order_also_those_from_before_it_ran(diary: Diary, paper: Paper) -> None:
    diary.note_tool(session("s1"), "w1", "Bash: ls")
    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda task_status: diary.run(task_status))
        assert await paper.written(1) == [("tool", "w1", "Bash: ls")]
        diary.note_tool(session("s1"), "w1", "Read: a")
        diary.note_tool(session("s2"), "w2", "Read: b")
        assert (await paper.written(3))[1:] == [("tool", "w1", "Read: a"), ("tool", "w2", "Read: b")]
        tasks.cancel_scope.cancel()


async def test_a_mailbox_that_cannot_be_written_costs_only_its_own_steps(diary: Diary, paper: Paper) -> None:
    paper.broken = {"s1"}
    diary.note_tool(session("s1"), "w1", "Bash: ls")
    diary.note_tool(session("s2"), "w2", "Read: b")
    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda task_status: diary.run(task_status))
        assert await paper.written(1) == [("tool", "w2", "Read: b")]
        tasks.cancel_scope.cancel()


async def test_a_disk_that_does_not_follow_fills_no_memory(diary: Diary, paper: Paper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diaries, "_MOST", 3)
    for number in range(5):
        diary.note_tool(session("s1"), "w1", f"step {number}")
    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda task_status: diary.run(task_status))
        await paper.written(3)
        diary.note_tool(session("s1"), "w1", "later")
        assert [detail for _, _, detail in await paper.written(4)] == ["step 0", "step 1", "step 2", "later"]
        tasks.cancel_scope.cancel()
