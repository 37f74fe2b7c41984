"""The machine's clock, for a context that brings none."""

from __future__ import annotations

import time

import anyio


class MachineClock:
    """A `Clock`."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)
