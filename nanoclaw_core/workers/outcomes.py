"""How rows end without an engine, and what their chats are told meanwhile."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from nanoclaw_core.commands import calls_off
from nanoclaw_core.mailbox import Mailbox, NewOutbound
from nanoclaw_core.models import Address, FailureKind, Row, Session
from nanoclaw_core.store import sessions
from nanoclaw_core.workers import notices
from nanoclaw_core.workers.desk import Desk

ALL: Final = 1_000_000  # rows: however many wait


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What one session's chats hear from the host itself."""

    desk: Desk
    session: Session

    async def queue(self, mailbox: Mailbox, key: str, row: NewOutbound, *, in_place: bool = False) -> None:
        """Have `row` delivered, once for each `key`, `in_place` of a preview where there is one.

        The session is marked first, so that the next host looks for it, too.
        """
        await self.desk.database.write(partial(sessions.mark_attention, session_id=self.session.id))
        await mailbox.add_outbound(key, row, in_place=in_place)
        self.desk.deliver(self.session.id)

    async def give_up(self, mailbox: Mailbox, rows: Sequence[Row], text: str) -> None:
        """End `rows` without an answer, and say so."""
        await self._end(mailbox, rows, [NewOutbound(to=rows[0].address, text=text)], "failed")

    async def call_off(self, mailbox: Mailbox, running: Sequence[Row], told: Collection[Address]) -> None:
        """End `running`, and what waits up to the last `/stop`; that is answered, save in chats that were `told` already."""
        waiting = await mailbox.waiting(ALL)
        last = max((number for number, row in enumerate(waiting) if calls_off(row)), default=-1)
        rows = [*running, *waiting[: last + 1]]
        stops = [row for row in rows if calls_off(row)]
        others = [row for row in rows if row not in stops]
        if others:
            await self._end(mailbox, others, [], FailureKind.INTERRUPTED.value)
        if stops:
            text = notices.STOPPED if others or told else notices.NOTHING_RUNS
            to = stops[-1].address
            await self._end(mailbox, stops, [] if to in told else [NewOutbound(to=to, text=text)], "answered")

    async def say_once(self, mailbox: Mailbox, rows: Sequence[Row], error: Exception) -> None:
        """Tell the chat why its message waits, once for each message and kind of trouble."""
        if rows:
            notice = NewOutbound(to=rows[-1].address, text=notices.of_waiting(str(error)))
            await self.queue(mailbox, f"waiting-{rows[-1].id}-{type(error).__name__}", notice)

    async def _end(self, mailbox: Mailbox, rows: Sequence[Row], words: Sequence[NewOutbound], outcome: str) -> None:
        await mailbox.fail_rows([row.id for row in rows], words, outcome)
        self.desk.deliver(self.session.id)
