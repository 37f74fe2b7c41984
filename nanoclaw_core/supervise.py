"""Keeping things running: the system's clock, growing pauses, restarts, and clean-up that cancellation cannot cut."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum

import anyio
import structlog
from anyio.abc import TaskStatus

from nanoclaw_core.errors import NanoClawError
from nanoclaw_core.ports import Clock

log = structlog.get_logger()

#: What somebody else's code may end with; SystemExit is a library that calls `sys.exit`.
_FAILURES = (Exception, SystemExit)


class SystemClock:
    """The machine's own clock."""

    def time(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await anyio.sleep(seconds)


@dataclass(slots=True)
class Pauses:
    """Pauses in seconds that double from `first` to `most`.

    >>> pauses = Pauses(first=1, most=5)
    >>> [pauses.next() for _ in range(5)]
    [1, 2, 4, 5, 5]
    """

    first: float
    most: float
    count: int = 0

    def next(self) -> float:
        pause: float = min(self.first * 2 ** min(self.count, 30), self.most)
        self.count += 1
        return pause

    def reset(self) -> None:
        self.count = 0


class Callers:
    """Names that ask to be looked at, each waiting once however often it asks, served in the order of asking."""

    def __init__(self) -> None:
        self._waiting: dict[str, None] = {}
        self._asked = anyio.Event()

    def ask(self, name: str) -> None:
        self._waiting[name] = None
        self._asked.set()

    async def next(self) -> str:
        """The one that has waited longest; waits for one."""
        while not self._waiting:
            self._asked = anyio.Event()
            await self._asked.wait()
        name = next(iter(self._waiting))
        del self._waiting[name]
        return name


class State(StrEnum):
    """How a supervised part is."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"  # it failed and will be started again
    ENDED = "ended"


@dataclass(slots=True)
class Health:
    """What `nanoclaw status` says of a supervised part. `since` is seconds since the epoch."""

    name: str
    state: State = State.STARTING
    reason: str = ""
    since: float = 0.0
    restarts: int = 0

    def become(self, state: State, now: float, reason: str = "") -> None:
        self.state, self.since, self.reason = state, now, reason


@dataclass(slots=True)
class _Started(TaskStatus[None]):
    """Hands `started()` on as a change of health."""

    on_started: Callable[[], None]
    _is_started: bool = field(default=False)

    def started(self, value: None = None) -> None:  # noqa: ARG002 (the signature is anyio's)
        if not self._is_started:
            self._is_started = True
            self.on_started()


def reason_of(error: BaseException) -> str:
    """One line for people: the text of a NanoClaw error, the kind and text of any other, the first of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, NanoClawError):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


async def supervise(
    run: Callable[[TaskStatus[None]], Awaitable[None]],
    health: Health,
    clock: Clock,
    *,
    most: float = 60.0,
    steady: float = 120.0,
    final: tuple[type[NanoClawError], ...] = (),
) -> str:
    """Call `run` again and again until cancelled, with pauses growing to `most` seconds between failures.

    After `steady` seconds without a failure the pauses begin anew. `run` returning is a failure too: nothing that is supervised
    ends by itself. Only an error in `final` ends it: no other try could help. Then its reason is returned.
    """
    pauses = Pauses(first=1.0, most=most)
    while True:
        health.become(State.STARTING, clock.time())
        began = clock.monotonic()
        try:
            await run(_Started(lambda: health.become(State.RUNNING, clock.time())))
            reason = "it ended by itself"
        except final as error:
            log.error("supervised.ended", part=health.name, reason=str(error))
            health.become(State.ENDED, clock.time(), str(error))
            return str(error)
        except _FAILURES as error:
            reason = reason_of(error)
            log.warning("supervised.failed", part=health.name, reason=reason, exc_info=not isinstance(error, NanoClawError))
        if clock.monotonic() - began >= steady:
            pauses.reset()
        pause = pauses.next()
        health.restarts += 1
        health.become(State.WAITING, clock.time(), f"{reason} (next try within {pause:.0f} s)")
        await clock.sleep(pause)


async def survive(
    what: str,
    work: Awaitable[object],
    *,
    passing: tuple[type[Exception], ...] = (),
    warn: Callable[..., object] | None = None,
) -> str | None:
    """Await `work` that must not end its caller; return the reason of its failure, or None. Errors in `passing` are raised."""
    try:
        await work
    except passing:
        raise
    except _FAILURES as error:
        reason = reason_of(error)
        (warn or log.warning)("survived", what=what, reason=reason, exc_info=not isinstance(error, NanoClawError))
        return reason
    return None


async def first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Await all of them at once until one returns; the others are cancelled."""
    async with anyio.create_task_group() as all_of_them:

        async def wait_for(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            all_of_them.cancel_scope.cancel()

        for wait in waits:
            all_of_them.start_soon(wait_for, wait)


async def both(first: Callable[[], Awaitable[object]], second: Callable[[], Awaitable[object]]) -> None:
    """Await both at once. What one of them raises is raised as it is, and the other is cancelled."""

    async def beside() -> None:
        await first()

    try:
        async with anyio.create_task_group() as two:
            two.start_soon(beside)
            await second()
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors


async def sleep_or(clock: Clock, seconds: float, event: anyio.Event) -> bool:
    """Sleep for `seconds`, or until `event`; return whether it was the event."""
    await first_of(lambda: clock.sleep(seconds), event.wait)
    return event.is_set()


@asynccontextmanager
async def clean_up(seconds: float = 5.0) -> AsyncIterator[None]:
    """Let the body finish although its task is cancelled, for at most `seconds`."""
    with anyio.move_on_after(seconds, shield=True) as scope:
        yield
    if scope.cancelled_caught:
        log.warning("clean_up.cut", seconds=seconds)
