"""The steps of turns, kept for people who ask later what became of a message; whoever takes a step does not wait for it."""

from __future__ import annotations

from collections import deque
from typing import Final

import anyio
import structlog
from anyio.abc import TaskStatus

from nanoclaw_core.errors import NanoClawError
from nanoclaw_core.mailbox import Mailboxes
from nanoclaw_core.models import Session

log = structlog.get_logger()

_MOST: Final = 1000  # steps that wait to be written; what comes beyond is left out


class Diary:
    """Writes steps into the mailboxes, one by one. A host that is killed takes those of its last moment along."""

    def __init__(self, mailboxes: Mailboxes) -> None:
        self._mailboxes = mailboxes
        self._steps: deque[tuple[Session, str, str]] = deque()
        self._bell = anyio.Event()

    def note_tool(self, session: Session, worker_id: str, detail: str) -> None:
        """The engine of this worker has called a tool."""
        if len(self._steps) < _MOST:
            self._steps.append((session, worker_id, detail))
            self._bell.set()

    async def run(self, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Write until cancelled."""
        task_status.started()
        while True:
            await self._bell.wait()
            self._bell = anyio.Event()
            while self._steps:
                await self._write(*self._steps.popleft())

    async def _write(self, session: Session, worker_id: str, detail: str) -> None:
        try:
            await (await self._mailboxes.open(session)).note("tool", worker_id, detail)
        except NanoClawError as error:  # whoever needs the mailbox says so
            log.debug("diary.not_written", session=session.id, reason=str(error))
