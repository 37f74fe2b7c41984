"""A clock that stands still until a test moves it."""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import count

import anyio
from anyio.lowlevel import checkpoint

#: How often `advance` lets the others run after each awakening: enough for a dozen awaits in a row.
_ROUNDS = 50


class FakeClock:
    """The `Clock` of tests: `sleep` returns when `advance` has moved time far enough, and never takes real time."""

    def __init__(self, time: float = 1_800_000_000.0) -> None:
        self._started = time
        self._elapsed = 0.0
        self._order = count()  # first come, first woken at the same moment
        self._sleepers: list[tuple[float, int, anyio.Event]] = []
        self._gone_to_sleep = anyio.Event()

    def time(self) -> float:
        return self._started + self._elapsed

    def monotonic(self) -> float:
        return self._elapsed

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            return await checkpoint()
        sleeper = (self._elapsed + seconds, next(self._order), anyio.Event())
        heappush(self._sleepers, sleeper)
        self._gone_to_sleep.set()
        self._gone_to_sleep = anyio.Event()
        try:
            await sleeper[2].wait()
        finally:
            if sleeper in self._sleepers:  # cancelled
                self._sleepers.remove(sleeper)
                self._sleepers.sort()
        return None

    async def advance(self, seconds: float) -> None:
        """Move time on, waking each sleeper at its moment and letting it run until it waits again.

        What a woken task does in threads or through sockets goes on after this returns: wait for its effect.
        """
        end = self._elapsed + seconds
        await self._let_others_run()
        while self._sleepers and self._sleepers[0][0] <= end:
            self._elapsed, _, awake = heappop(self._sleepers)
            awake.set()
            await self._let_others_run()
        self._elapsed = end

    def jump(self, seconds: float) -> None:
        """Set the wall clock, forwards or back, as a person or the network's time may: nobody is woken, nothing has passed."""
        self._started += seconds

    async def asleep(self, count: int = 1) -> None:
        """Wait until at least `count` tasks sleep, so that `advance` finds them."""
        while len(self._sleepers) < count:
            await self._gone_to_sleep.wait()

    async def _let_others_run(self) -> None:
        for _ in range(_ROUNDS):
            await checkpoint()
