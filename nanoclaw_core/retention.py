"""Everything that grows has a rule, and here is who keeps them: once a day, in small pieces, behind everybody else's back.

The table of all rules is in docs/retention.md. It can be cut off anywhere, and begun again from the beginning.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from anyio import to_thread
from anyio.abc import TaskStatus

from nanoclaw_core.mailbox import Mailboxes
from nanoclaw_core.mailbox.aside import forget_copies
from nanoclaw_core.models import Session
from nanoclaw_core.ports import Clock
from nanoclaw_core.store import pruning, sessions, spending, workers
from nanoclaw_core.store.database import Connection, Database
from nanoclaw_core.store.pruning import DAY, YEAR, Horizon
from nanoclaw_core.store.tables import new_id
from nanoclaw_core.supervise import survive

log = structlog.get_logger()

AFTER_START: Final = 600.0  # seconds: a start has other things to do
_SLICE: Final = 100  # rows in one transaction: a message that comes meanwhile waits for so long
_SESSIONS_AT_LEAST: Final = 200  # looked at in a run; of more sessions, each is looked at within a week
_PART: Final = 7


@dataclass(slots=True, kw_only=True)
class Retention:
    """Forgets what is finished and older than `days`."""

    database: Database
    mailboxes: Mailboxes
    home: Path
    clock: Clock
    days: int
    _last_session: str = field(default_factory=new_id)  # anywhere: a host that ends every day shall reach all of them, too

    async def run(self, task_status: TaskStatus[None]) -> None:
        """Work shortly after the start and then once a day, until cancelled."""
        task_status.started()
        await self.clock.sleep(AFTER_START)
        while True:
            await self.prune()
            await self.clock.sleep(DAY)

    async def prune(self, most: int | None = None) -> dict[str, int]:
        """Do all of it once, for `most` sessions (by default as many as give each its turn within a week); say what went."""
        began = self.clock.monotonic()
        gone = {"folders": await self._forget_folders()}
        old = await self.database.write(partial(pruning.horizon, now=self.clock.time(), keep=self.days * DAY))
        if old is not None:
            gone["rows"] = await self._prune_mailboxes(old, most)
            gone |= await self._prune_database(old)
        log.info("retention.done", seconds=round(self.clock.monotonic() - began, 1), **gone)
        return gone

    async def _forget_folders(self) -> int:
        """Of sockets whose worker is no more: a worker is known before its folder is made."""
        folder = self.home / "workers"
        there = await to_thread.run_sync(_names_in, folder)
        living = {record.id for record in await self.database.read(workers.live_workers)}
        dead = sorted(there - living)
        for name in dead:
            await to_thread.run_sync(partial(shutil.rmtree, folder / name, ignore_errors=True))
        return len(dead)

    async def _prune_mailboxes(self, old: Horizon, most: int | None) -> int:
        """Of the sessions that follow those of the last run, round and round."""
        total = await self.database.read(sessions.count)
        left = min(total, most or max(_SESSIONS_AT_LEAST, -(-total // _PART)))
        count = 0
        while left > 0:
            find = partial(sessions.next_sessions, after=self._last_session, limit=min(left, _SLICE))
            found = await self.database.read(find)
            for session in found:
                count += await self._prune_mailbox(session, old)
                self._last_session = session.id
            if not found and not self._last_session:
                break  # there is none any more
            self._last_session = self._last_session if found else ""
            left -= len(found)
        return count

    async def _prune_mailbox(self, session: Session, old: Horizon) -> int:
        counts: list[int] = []

        async def work() -> None:
            await to_thread.run_sync(forget_copies, self.home / session.folder, old.before)
            counts.append(await self.mailboxes.prune(session, old.before))

        await survive("retention", work())  # one that cannot be used holds up no other
        return sum(counts)

    async def _prune_database(self, old: Horizon) -> dict[str, int]:
        write, read = self.database.write, self.database.read
        last, reached = await read(partial(pruning.old_events, old=old, emptied=False)), 0
        while (step := await write(partial(pruning.empty_events, last=last, after=reached, limit=_SLICE))) is not None:
            reached = step
        keys = await read(partial(pruning.old_events, old=old.earlier(YEAR), emptied=True))
        gone = {
            "messages": await self._slices(partial(pruning.forget_events, last=keys, limit=_SLICE)),
            "strangers": await self._slices(partial(pruning.forget_strangers, old=old, limit=_SLICE)),
            "model_calls": await self._slices(partial(spending.forget_calls, old=old, limit=_SLICE)),
            "workers": await self._slices(partial(pruning.forget_workers, old=old, limit=_SLICE)),
        }
        while await write(partial(pruning.give_back, pages=_SLICE)):
            pass
        return gone

    async def _slices(self, forget: Callable[[Connection], int]) -> int:
        count = 0
        while gone := await self.database.write(forget):
            count += gone
        return count


def _names_in(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
