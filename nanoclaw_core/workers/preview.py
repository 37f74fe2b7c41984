"""What a session's chat sees of an answer while it is being written: always the newest text, one call at a time.

Nobody waits for it, nothing depends on it, and at the end of the turn the answer takes its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import anyio
import structlog
from anyio import CancelScope

from nanoclaw_core.errors import TryLater
from nanoclaw_core.mailbox import Mailbox
from nanoclaw_core.models import Address, AgentGroup
from nanoclaw_core.supervise import survive
from nanoclaw_core.workers.desk import Desk

log = structlog.get_logger()

PAUSE: Final = 0.25  # seconds between two calls
PATIENCE: Final = 3.0  # seconds that the end of a turn waits for a call


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    to: Address
    text: str
    key: str


class Preview:
    """The preview of one session; `run` shows what it is offered. Previews with the same key are of the same answer."""

    def __init__(self, desk: Desk, agent_group: AgentGroup, mailbox: Callable[[], Awaitable[Mailbox]]) -> None:
        self._desk = desk
        self._agent_group = agent_group
        self._mailbox = mailbox
        self._latest: _Draft | None = None
        self._offered = anyio.Event()
        self._call: CancelScope | None = None
        self._is_over = anyio.Event()
        self._shown = ("", "")  # a key, and the text that is shown with it
        self._failed = ""  # a key

    def offer(self, to: Address, text: str, key: str) -> None:
        """Show `text`, unless a newer one is offered meanwhile."""
        if key != self._failed:
            self._latest = _Draft(to=to, text=text, key=key)
            self._offered.set()

    async def end(self) -> None:
        """Show nothing more of what was offered. When this returns, no call is under way that could undo what comes next."""
        self._latest = None
        call = self._call
        if call is not None and not await self._ends_in_time():
            log.warning("preview.cut", agent=self._agent_group.name, seconds=PATIENCE)
            call.cancel()
            await self._ends_in_time()  # what it has just shown is noted still

    async def _ends_in_time(self) -> bool:
        with anyio.move_on_after(PATIENCE):
            await self._is_over.wait()
        return self._is_over.is_set()

    async def run(self) -> None:
        """Show until cancelled."""
        while True:
            await self._offered.wait()
            self._offered = anyio.Event()
            if (draft := self._latest) is not None:
                self._latest, self._is_over = None, anyio.Event()
                try:
                    with CancelScope() as self._call:
                        await self._try(draft)
                finally:
                    self._call = None
                    self._is_over.set()
                await self._desk.clock.sleep(PAUSE)

    async def _try(self, draft: _Draft) -> None:
        """After a failure nobody knows what stands there: nothing more is shown of this answer, lest it stand there twice."""
        try:
            failure = await survive("preview", self._show(draft), passing=(TryLater,))
        except TryLater:
            return
        if failure:
            self._failed, self._latest = draft.key, None

    async def _show(self, draft: _Draft) -> None:
        text = await self._desk.dialogue.beginning(self._agent_group, draft.to, draft.text)
        key, shown = self._shown
        if text:
            shown = await self._desk.preview(
                await self._mailbox(), draft.to, text, draft.key, shown if key == draft.key else ""
            )
            self._shown = (draft.key, shown)
