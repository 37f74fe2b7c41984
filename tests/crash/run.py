"""A run: blow after blow on one home for as long as nothing is wrong with it, and what came of each."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import anyio

from tests.crash import checks
from tests.crash.checks import Findings, Kind
from tests.crash.house import House, open_house
from tests.crash.mind import STEPS
from tests.crash.strikes import MOMENTS, Blow, deal, deck
from tests.crash.world import Message

SESSIONS: Final = 3
RECORD: Final = "crash.txt"  # in the home with which something is wrong
_MOMENT_WITHIN: Final = 20.0  # seconds; a moment that does not come is struck at all the same
_RECOVERED_WITHIN: Final = 120.0
_TIDY_WITHIN: Final = 30.0
_REST: Final = 4.0
_LOOK: Final = 0.05


@dataclass(frozen=True, kw_only=True)
class Point:
    """One blow and what came of it: `recovery` is the seconds until people were told the last outcome."""

    number: int
    blow: Blow
    messages: int
    recovery: float
    came: bool  # the moment that was waited for
    findings: Findings
    home: Path
    timeline: Sequence[str] = field(default=(), repr=False)


async def run(seed: int, points: int, *, first: int = 1) -> AsyncIterator[Point]:
    """Strike at the points `first` to `points` of the seed.

    A home with which something is wrong is kept, with a record of its last point; another one takes its place.
    """
    waiting = [(number, blow) for number, blow in enumerate(deck(seed, points), start=1) if number >= first]
    numbers = count(1)
    while waiting:
        async with aclosing(_on_one_home(waiting, numbers)) as struck:
            async for point in struck:
                yield point


async def _on_one_home(waiting: list[tuple[int, Blow]], numbers: Iterator[int]) -> AsyncGenerator[Point, None]:
    async with _home() as home, open_house(home, SESSIONS) as house:
        baseline = await _warm_up(house, numbers)
        while waiting:
            number, blow = waiting.pop(0)
            point = await _strike(house, number, blow, numbers, baseline)
            if not waiting and not point.findings.faults:
                point.findings.add(Kind.LEFT, await _clean_end(house))
                checks.judge_all(house, point.findings)
            if point.findings.faults:
                (home / RECORD).write_text("\n".join(house.record()), encoding="utf-8")
            yield point
            if point.findings.faults:
                return


@asynccontextmanager
async def _home() -> AsyncIterator[Path]:
    """An empty folder, which stays where a record of faults was left in it."""
    home = Path(tempfile.mkdtemp(prefix="nck"))
    try:
        yield home
    finally:
        if not (home / RECORD).exists():
            shutil.rmtree(home, ignore_errors=True)


async def _warm_up(house: House, numbers: Iterator[int]) -> tuple[int, int]:
    """Each session has a worker and has done everything once; return what the host has open then."""
    messages = [Message(number=next(numbers), chat=chat, steps=STEPS) for chat in house.chats]
    for message in messages:
        await house.world.say(message)
    with anyio.fail_after(_RECOVERED_WITHIN):
        await house.world.until(lambda: all(message.outcomes for message in messages))
        await _until(house.is_quiet)
    house.learn_sessions()
    return house.open_files()


async def _strike(house: House, number: int, blow: Blow, numbers: Iterator[int], baseline: tuple[int, int]) -> Point:
    house.world.begin_point()
    await anyio.sleep(blow.rng.choice((0.0, 0.0, blow.rng.uniform(0, _REST))))  # workers may be paused by then, or being paused
    messages = list(_messages(house, blow, numbers))
    trap = house.world.lay(blow.moment, holds=blow.holds)
    findings = Findings()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_say_all, house, messages)  # which the trap may hold
        with anyio.move_on_after(_MOMENT_WITHIN):
            await trap.sprung.wait()
        came = trap.sprung.is_set()
        began = time.perf_counter()
        await deal(house, blow, trap)
        with anyio.move_on_after(_RECOVERED_WITHIN):
            await house.world.until(lambda: all(message.outcomes for message in messages))
    recovery = time.perf_counter() - began
    with anyio.move_on_after(_TIDY_WITHIN):
        await _until(partial(checks.is_tidy, house))
    findings.add(Kind.STUCK, checks.stuck(house))
    findings.add(Kind.LEFT, [*await checks.left_over(house), *checks.leaked(house, baseline)])
    checks.judge_messages(house, messages, findings)
    return Point(
        number=number,
        blow=blow,
        messages=len(messages),
        recovery=recovery,
        came=came,
        findings=findings,
        home=house.home,
        timeline=tuple(house.world.timeline),
    )


def _messages(house: House, blow: Blow, numbers: Iterator[int]) -> Iterator[Message]:
    """One or two for each chat; the first one takes the step whose moment is waited for."""
    wanted = MOMENTS[blow.moment]
    for chat in blow.rng.sample(list(house.chats), len(house.chats)):
        for _ in range(blow.rng.choice((1, 1, 2))):
            steps = tuple(step for step in STEPS if step == wanted or blow.rng.random() < 0.5)
            yield Message(number=next(numbers), chat=chat, steps=steps)
            wanted = ""


async def _say_all(house: House, messages: list[Message]) -> None:
    for message in messages:
        await house.world.say(message)


async def _clean_end(house: House) -> list[str]:
    """What is left of a host that is stopped while nobody works."""
    await house.stop()
    left = [f"the container {found.name} is left" for found in await house.containers.found()]
    return left + [f"the folder of sockets {name} is left" for name in house.doors()]


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Look again and again for what a host in another process tells nobody."""
    while not await holds():
        await anyio.sleep(_LOOK)
