"""Whatever happens in whatever order, and however often it is repeated: nothing is lost, nothing doubled, order is kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nanoclaw_core.mailbox import Mailboxes, NewOutbound, NewRow
from nanoclaw_core.mailbox.box import Mailbox
from nanoclaw_core.models import Address, OutboundKind, Push, Session, TurnEnd

SESSION = Session(id="s1", agent_group_id="a1", messaging_group_id="m1", thread=None, folder="sessions/andy/s1")
ADDRESSES = [Address(channel="telegram", chat=chat) for chat in ("1", "2")]
numbers = st.integers(0, 12)


class MailboxMachine(RuleBasedStateMachine):
    """Plays router, workers and delivery against one mailbox, and keeps the books in plain lists."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="nc")
        self.portal = anyio.from_thread.start_blocking_portal("asyncio")
        self.call: Callable[..., Any] = self.portal.__enter__().call  # Any: every method has its own result
        self.frames = 0
        self.rows: list[str] = []
        self.pushes: dict[str, list[str]] = {}
        self.ended: list[str] = []
        self.queued: list[str] = []
        self.delivered: list[str] = []
        self.start()

    def start(self) -> None:
        self.mailboxes = Mailboxes(Path(self.folder.name))
        self.mailbox: Mailbox = self.call(self.mailboxes.open, SESSION)

    def teardown(self) -> None:
        self.call(self.mailboxes.close)
        self.portal.__exit__(None, None, None)
        self.folder.cleanup()

    def waiting(self) -> list[str]:
        pushed = {row for rows in self.pushes.values() for row in rows}
        return [row for row in self.rows if row not in self.ended and row not in pushed]

    @rule(arrived=st.lists(numbers, max_size=4))
    def rows_arrive(self, arrived: list[int]) -> None:
        rows = [
            NewRow(
                id=str(number),
                address=ADDRESSES[number % 2],
                message_id=str(number),
                sender_id="",
                sender_name="",
                text="",
                sent_at=0.0,
            )
            for number in arrived
        ]
        new = [row for row in dict.fromkeys(map(str, arrived)) if row not in self.rows]
        assert self.call(self.mailbox.add_rows, rows) == len(new)
        self.rows += new

    @precondition(lambda self: self.waiting())
    @rule(count=st.integers(1, 3))
    def rows_are_pushed(self, count: int) -> None:
        rows = self.waiting()[:count]
        uuid = f"u{len(self.rows)}-{len(self.ended)}-{rows[0]}"
        self.call(self.mailbox.record_push, Push(uuid=uuid, text=""), rows, "w1")
        self.pushes[uuid] = rows

    @precondition(lambda self: self.pushes)
    @rule(index=numbers, every=st.booleans(), repeats=st.integers(1, 2))
    def a_turn_ends(self, index: int, every: bool, repeats: int) -> None:
        known = list(self.pushes)
        covered = known if every else [known[index % len(known)]]
        self.frames += 1
        end = TurnEnd(id=f"f{self.frames}", covered=(*covered, "unknown"), text="", conversation="c")
        answer = NewOutbound(to=ADDRESSES[0], text=f"answer {self.frames}")
        results = [self.call(self.mailbox.end_turn, end, [answer], "answered") for _ in range(repeats)]
        assert results == [True, False][:repeats]
        self.queued.append(answer.text)
        for uuid in covered:
            self.ended += self.pushes.pop(uuid)

    @precondition(lambda self: self.rows)
    @rule(failing=st.lists(numbers, max_size=3))
    def rows_fail(self, failing: list[int]) -> None:
        rows = [row for row in map(str, failing) if row in self.rows]
        fresh = [row for row in dict.fromkeys(rows) if row not in self.ended]
        self.frames += 1
        answer = NewOutbound(to=ADDRESSES[0], text=f"answer {self.frames}")
        assert self.call(self.mailbox.fail_rows, rows, [answer], "failed") == bool(fresh)
        if fresh:
            self.queued.append(answer.text)
        self.ended += fresh
        remaining = {uuid: [row for row in rows if row not in fresh] for uuid, rows in self.pushes.items()}
        self.pushes = {uuid: rows for uuid, rows in remaining.items() if rows}

    @rule(key=numbers)
    def an_action_sends(self, key: int) -> None:
        text = f"action {key}"
        known = text in self.queued
        assert self.call(self.mailbox.add_outbound, f"k{key}", NewOutbound(to=ADDRESSES[1], text=text)) is not known
        if not known:
            self.queued.append(text)

    @rule(index=numbers, repeats=st.integers(1, 2))
    def something_is_delivered(self, index: int, repeats: int) -> None:
        due = self.call(self.mailbox.due)
        if due:
            row = due[index % len(due)]
            for _ in range(repeats):
                self.call(self.mailbox.delivered, row.seq)
            if row.kind is OutboundKind.MESSAGE:
                self.delivered.append(row.text)

    @rule()
    def the_host_restarts(self) -> None:
        self.call(self.mailboxes.close)
        self.start()

    @rule()
    def the_host_dies(self) -> None:
        abandoned = self.mailbox._files
        self.start()
        if abandoned is not None:  # a dead process would not close it; here the file descriptors must not pile up
            abandoned.close()

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        assert [row.id for row in self.call(self.mailbox.waiting)] == self.waiting()
        outstanding = self.call(self.mailbox.outstanding)
        order = self.rows.index
        assert {pushed.push.uuid: [row.id for row in pushed.rows] for pushed in outstanding} == {
            uuid: sorted(rows, key=order) for uuid, rows in self.pushes.items()
        }
        due = self.call(self.mailbox.due)
        messages = [row.text for row in due if row.kind is OutboundKind.MESSAGE]
        assert messages == [text for text in self.queued if text not in self.delivered]
        assert [row.seq for row in due] == sorted(row.seq for row in due)
        assert self.call(self.mailbox.is_idle) == (not due and set(self.rows) == set(self.ended))


MailboxMachine.TestCase.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
TestAnyOrder = MailboxMachine.TestCase
