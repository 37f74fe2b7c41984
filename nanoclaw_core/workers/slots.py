"""How many workers may work, start and be there at all, and who is next."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field

import anyio
from anyio import CapacityLimiter


@dataclass(slots=True, eq=False, kw_only=True)
class Place:
    """One worker's share of the limits: `memory` in bytes, 0 before it is there, and whether it works.

    `group` is whom it works for: among those that wait, the group goes first for which the fewest work.
    """

    group: str
    memory: int = 0
    is_working: bool = False
    admitted: anyio.Event = field(default_factory=anyio.Event)


@dataclass(slots=True, kw_only=True)
class Slots:
    """Limits for all workers together: how many work at a time, how many start, and how many bytes those that are there hold.

    A worker that rests keeps its memory and gives its turn away. `has_room(bytes)` says whether the machine itself has that
    much memory left. Where memory is what somebody waits for, `make_room(count)` is called: so many that rest shall end. The
    only worker there is always has room, whatever the limits say: nobody waits for what nobody can give.
    """

    turns: int
    starting: int
    memory: int
    typical: int
    make_room: Callable[[int], None]
    has_room: Callable[[int], bool] = lambda _: True
    _queue: list[Place] = field(default_factory=list)
    _there: list[Place] = field(default_factory=list)
    _starts: CapacityLimiter = field(init=False)

    def __post_init__(self) -> None:
        self._starts = CapacityLimiter(self.starting)

    @property
    def waiting(self) -> int:
        """How many sessions wait for their turn."""
        return len(self._queue)

    @contextmanager
    def worker(self, group: str) -> Iterator[Place]:
        """A worker from before its first turn to its end."""
        place = Place(group=group)
        try:
            yield place
        finally:
            if place in self._there:
                self._there.remove(place)
            self._admit()

    def let_in(self, place: Place) -> None:
        """Let it work at once: it is there already, because a host before this one began it."""
        place.is_working = True
        if not place.memory:
            place.memory = self.typical
            self._there.append(place)
        place.admitted.set()

    async def work(self, place: Place) -> None:
        """Wait for the next turn."""
        place.admitted = anyio.Event()
        self._queue.append(place)
        self._admit()
        try:
            await place.admitted.wait()
        finally:
            if place in self._queue:
                self._queue.remove(place)

    def rest(self, place: Place, memory: int | None = None) -> None:
        """Give the turn to whoever waits. `memory` is what the worker holds now, where that is known."""
        place.is_working = False
        place.memory = memory or place.memory
        self._admit()
        if not self._has_memory(0):
            self.make_room(1)

    @asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        async with self._starts:
            yield

    def _admit(self) -> None:
        """Let in who is next, as far as there are turns and memory; whoever is there already needs no more memory."""
        working = Counter(place.group for place in self._there if place.is_working)
        while self._queue and working.total() < self.turns:
            has_memory = self._has_memory(self.typical)
            ready = [place for place in self._queue if has_memory or place.memory]
            if not ready:
                self.make_room(min(len(self._queue), self.turns - working.total()))
                return
            place = min(ready, key=lambda each: working[each.group])  # the first of equals
            self._queue.remove(place)
            self.let_in(place)
            working[place.group] += 1
        if any(not place.memory for place in self._queue) and not self._has_memory(self.typical):
            self.make_room(1)  # else those that are there would have every turn for themselves

    def _has_memory(self, more: int) -> bool:
        held = sum(place.memory for place in self._there)
        return not self._there or (held + more <= self.memory and self.has_room(more))
