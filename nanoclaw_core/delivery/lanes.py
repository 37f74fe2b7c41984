"""A lane: what waits for one chat of one session, in order, and since when."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

import anyio

from nanoclaw_core.mailbox import Mailbox, NewOutbound
from nanoclaw_core.models import OutboundRow
from nanoclaw_core.ports import Clock

DEADLINE: Final = 72 * 3600.0  # seconds
_LEAST_TRYING: Final = 3600.0  # also for what grew old while no host ran


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """Whose lane it is."""

    session_id: str
    channel: str
    account: str
    chat: str


@dataclass(slots=True, kw_only=True)
class Lane:
    """The rows of one `Key`. `nudge` ends the pause between two tries of the `current` one."""

    mailbox: Mailbox
    clock: Clock
    began: float  # monotonic
    current: OutboundRow | None = None
    rows: deque[OutboundRow] = field(default_factory=deque)
    nudge: anyio.Event = field(default_factory=anyio.Event)
    _queued: dict[int, float] = field(default_factory=dict)  # monotonic: the wall clock may be set meanwhile

    def offer(self, row: OutboundRow) -> None:
        if row != self.current and all(row.seq != known.seq for known in self.rows):
            self.rows.append(row)
            age = 0.0 if row.queued_at is None else self.clock.time() - row.queued_at
            self._queued[row.seq] = self.clock.monotonic() - max(0.0, age)

    @property
    def is_over(self) -> bool:
        """Whether the current row has waited for too long, here and in earlier hosts."""
        now = self.clock.monotonic()
        queued = self._queued.get(self.current.seq, self.began) if self.current else now
        return now - queued > DEADLINE and now - self.began >= _LEAST_TRYING

    def next(self) -> OutboundRow | None:
        self.current = self.rows.popleft() if self.rows else None
        return self.current

    async def queue(self, key: str, notice: NewOutbound, *, first: bool) -> None:
        """Add a notice, before everything that waits or behind it."""
        await self.mailbox.add_outbound(key, notice)
        same = [
            row for row in await self.mailbox.due() if (row.kind, row.to, row.text) == (notice.kind, notice.to, notice.text)
        ]
        for row in same[-1:]:  # none when an earlier host did this, too, and the notice was delivered since
            self.offer(row)
            if first:
                self.rows = deque([row, *(other for other in self.rows if other.seq != row.seq)])
