"""The workers that are there, and the waiting for their end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from nanoclaw_core.workers.shift import Shift


class Crew(dict[str, "Shift"]):
    """The shifts that have a worker, by its id.

    Once they are `dismissed`, workers are given nothing new, and leave when they are idle.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dismissed = False
        self._left = anyio.Event()

    def leave(self, worker_id: str) -> None:
        """Strike a worker off that has ended."""
        self.pop(worker_id, None)
        self._left.set()

    async def dismiss(self) -> None:
        """Return when the last one has left."""
        self.dismissed = True
        for shift in self.values():
            shift.ring()
        while self:
            self._left = anyio.Event()
            await self._left.wait()
