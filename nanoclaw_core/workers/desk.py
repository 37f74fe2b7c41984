"""What every shift shares: the services of the host and the limits that hold for all workers together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from anyio import CapacityLimiter

from nanoclaw_core.errors import RuntimeUnavailable
from nanoclaw_core.mailbox import Mailboxes
from nanoclaw_core.models import Address, Event, Limits, Progress
from nanoclaw_core.ports import Clock, Dialogue, Runtime, Wake, WorkerDoors
from nanoclaw_core.store.database import Database
from nanoclaw_core.supervise import sleep_or


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How workers are run: times in seconds, `user` as 'uid:gid'."""

    home: Path
    installation: str
    user: str
    runtime: str
    timezone: str
    engine: str
    model: str | None
    limits: Limits
    max_turns: int
    start_timeout: float
    idle_timeout: float
    hung_timeout: float = 120.0
    stop_grace: float = 5.0
    starts_at_once: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The services behind every worker.

    `image` returns the tag of the worker image, building it first where it is missing. `require_room` raises while the disk
    has no room for a new turn. `say` is for what no mailbox can hold. `doors` is bound late: the gateway needs the pool as
    much as the pool needs the gateway.
    """

    terms: Terms
    database: Database
    mailboxes: Mailboxes
    runtime: Runtime
    doors: Callable[[], WorkerDoors]
    dialogue: Dialogue
    clock: Clock
    image: Callable[[], Awaitable[str]]
    require_room: Callable[[], Awaitable[None]]
    deliver: Wake
    say: Callable[[Address, str], Awaitable[None]]
    typing: Callable[[Address, Progress], Awaitable[None]]
    tell: Callable[[Event], None]


@dataclass(slots=True, eq=False)
class _Place:
    """Somebody's place. `token` is what the limit counts it by; None while it is beyond the limit."""

    token: object = None


@dataclass(slots=True)
class Slots:
    """How many workers may be there, and how many of them may be starting; both served in the order of asking.

    `make_room` is called when somebody has to wait: an idle worker may then give way. A worker that is there already, because
    a host before this one started it, never waits; while there are more than there may be, no new one is let in.
    """

    total: int
    starting: int
    make_room: Callable[[], None]
    _taken: CapacityLimiter = field(init=False)
    _starts: CapacityLimiter = field(init=False)
    _beyond: list[_Place] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._taken = CapacityLimiter(self.total)
        self._starts = CapacityLimiter(self.starting)

    @property
    def waiting(self) -> int:
        """How many sessions wait for a worker's place."""
        return self._taken.statistics().tasks_waiting

    @property
    def is_short(self) -> bool:
        """Whether whoever is idle should give its place away."""
        return bool(self.waiting or self._beyond)

    @asynccontextmanager
    async def worker(self, *, is_there: bool = False) -> AsyncIterator[None]:
        place = _Place()
        if self._taken.available_tokens < 1:
            self.make_room()
        if is_there and self._taken.available_tokens < 1:
            self._beyond.append(place)
        else:
            await self._taken.acquire_on_behalf_of(place)
            place.token = place
        try:
            yield
        finally:
            self._give_back(place)

    def _give_back(self, place: _Place) -> None:
        """Free a place, unless somebody is here beyond the limit, who then has it."""
        if place in self._beyond:
            self._beyond.remove(place)
        elif self._beyond:
            self._beyond.pop(0).token = place.token
        else:
            self._taken.release_on_behalf_of(place.token)

    @asynccontextmanager
    async def start(self) -> AsyncIterator[None]:
        async with self._starts:
            yield


@dataclass(slots=True, kw_only=True)
class Outage:
    """Whether the container runtime answers, as the pool's watch sees it. `reason` is empty while it does."""

    runtime: str
    reason: str = ""
    _over: anyio.Event = field(default_factory=anyio.Event)

    def begin(self, reason: str) -> None:
        if not self.reason:
            self._over = anyio.Event()
        self.reason = reason

    def end(self) -> None:
        self.reason = ""
        self._over.set()

    def check(self) -> None:
        """Raise RuntimeUnavailable during an outage."""
        if self.reason:
            raise RuntimeUnavailable(self.runtime, self.reason)

    async def pause(self, clock: Clock, seconds: float) -> None:
        """Sleep; during an outage at most until it is over."""
        if self.reason:
            await sleep_or(clock, seconds, self._over)
        else:
            await clock.sleep(seconds)
