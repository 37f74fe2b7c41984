"""What is killed, and at which moments."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, cycle, islice, repeat
from typing import Final

import anyio

from tests.crash.containers import ENGINE, RUNNER, of_worker
from tests.crash.house import House
from tests.crash.world import Trap

#: The moments in the life of a message, each with the step that it takes; "" for those that come in any case.
MOMENTS: Final[Mapping[str, str]] = {
    "handed in": "",
    "accepted": "",
    "message.routed": "",
    "model asked": "",
    "model streams": "",
    "bash ordered": "bash",
    "count ordered": "count",
    "action called": "count",
    "action counted": "count",
    "say ordered": "say",
    "turn.ended": "",
    "sending": "",
    "sent": "",
    "delivery.sent": "",
}
_IN_A_TURN: Final = tuple(MOMENTS)[3:11]
_SECOND_BLOW: Final = 15.0  # seconds that the second one waits for its moment


@dataclass(frozen=True, kw_only=True)
class Blow:
    """One point of a run: what happens, when, and after how many more seconds; `rng` is for what the kind itself draws."""

    kind: str
    moment: str
    delay: float
    holds: bool
    rng: random.Random


Strike = Callable[[House, Blow, str | None], Awaitable[None]]
"""Does it; the last argument is the chat in which the moment came, if it came in one."""


async def kill_host(house: House, blow: Blow, chat: str | None) -> None:
    await house.kill()
    await start(house)


async def stop_host(house: House, blow: Blow, chat: str | None) -> None:
    await house.stop()
    await start(house)


async def kill_host_as_it_starts(house: House, blow: Blow, chat: str | None) -> None:
    await house.kill()
    release(house)
    house.launch()
    await anyio.sleep(blow.rng.uniform(0.05, 1.2))
    await kill_host(house, blow, chat)


async def kill_host_as_it_adopts(house: House, blow: Blow, chat: str | None) -> None:
    await house.kill()
    release(house)
    trap = house.world.lay("worker.adopted", holds=False)
    house.launch()
    with anyio.move_on_after(_SECOND_BLOW):
        await trap.sprung.wait()
        await anyio.sleep(blow.rng.uniform(0, 0.05))
    await kill_host(house, blow, chat)


async def kill_worker(house: House, blow: Blow, chat: str | None) -> None:
    if name := await container_of(house, chat):
        await house.containers.kill(name)


async def kill_runner(house: House, blow: Blow, chat: str | None) -> None:
    if name := await container_of(house, chat):
        await house.containers.kill_inside(name, RUNNER)


async def kill_engine(house: House, blow: Blow, chat: str | None) -> None:
    if name := await container_of(house, chat):
        await house.containers.kill_inside(name, ENGINE)


async def kill_worker_without_host(house: House, blow: Blow, chat: str | None) -> None:
    name = await container_of(house, chat)
    await house.kill()
    release(house)
    if name:
        await house.containers.kill(name)
    await start(house)


async def kill_everything(house: House, blow: Blow, chat: str | None) -> None:
    """As when the machine goes down, or Docker takes its containers along."""
    await house.kill()
    release(house)
    async with anyio.create_task_group() as tasks:
        for container in await house.containers.found():
            tasks.start_soon(house.containers.kill, container.name)
    await start(house)


async def pause_worker_and_kill_host(house: House, blow: Blow, chat: str | None) -> None:
    if name := await container_of(house, chat):
        await house.containers.pause(name)
    await kill_host(house, blow, chat)


async def cut_runtime(house: House, blow: Blow, chat: str | None) -> None:
    await house.relay.cut()
    release(house)
    await anyio.sleep(blow.rng.uniform(0.1, 2.0))
    await house.relay.mend()


async def cut_runtime_and_kill_host(house: House, blow: Blow, chat: str | None) -> None:
    await house.relay.cut()
    await house.kill()
    release(house)
    house.launch()
    await anyio.sleep(blow.rng.uniform(0.5, 2.0))
    await house.relay.mend()
    await house.ready()


async def kill_worker_without_runtime(house: House, blow: Blow, chat: str | None) -> None:
    name = await container_of(house, chat)
    await house.relay.cut()
    if name:
        await house.containers.kill(name)
    release(house)
    await anyio.sleep(blow.rng.uniform(0.1, 1.0))
    await house.relay.mend()


async def start(house: House) -> None:
    release(house)
    house.launch()
    await house.ready()


def release(house: House) -> None:
    """Let go of what the trap holds: the blow has fallen."""
    if house.world.trap:
        house.world.trap.released.set()


async def container_of(house: House, chat: str | None) -> str | None:
    worker = house.worker_of(chat or house.chats[0].name)
    return of_worker(await house.containers.found(), worker) if worker else None


#: Each kind with how often it comes in a round, and the moments that suit it.
KINDS: Final[Mapping[str, tuple[Strike, int, tuple[str, ...]]]] = {
    "host killed": (kill_host, 8, tuple(MOMENTS)),
    "host stopped": (stop_host, 2, tuple(MOMENTS)),
    "host killed, and again at its start": (kill_host_as_it_starts, 2, tuple(MOMENTS)),
    "host killed, and again as it adopts": (kill_host_as_it_adopts, 2, _IN_A_TURN),
    "worker killed": (kill_worker, 3, tuple(MOMENTS)),
    "runner killed": (kill_runner, 1, _IN_A_TURN),
    "Claude Code killed": (kill_engine, 1, _IN_A_TURN),
    "host and worker killed": (kill_worker_without_host, 2, tuple(MOMENTS)),
    "host and all workers killed": (kill_everything, 2, tuple(MOMENTS)),
    "worker paused, host killed": (pause_worker_and_kill_host, 1, _IN_A_TURN),
    "runtime away": (cut_runtime, 1, tuple(MOMENTS)),
    "runtime away, host killed": (cut_runtime_and_kill_host, 1, _IN_A_TURN),
    "runtime away, worker killed": (kill_worker_without_runtime, 1, _IN_A_TURN),
}


def deck(seed: int, points: int) -> Iterator[Blow]:
    """That many blows: first each kind once, then each as often as it weighs; the moments of a kind come by turns."""
    rng = random.Random(seed)
    weighed = [kind for kind, (_, weight, _) in KINDS.items() for _ in range(weight)]
    moments = {kind: cycle(rng.sample(suitable, len(suitable))) for kind, (_, _, suitable) in KINDS.items()}
    rounds = chain([list(KINDS)], repeat(weighed))
    kinds = chain.from_iterable(rng.sample(kinds, len(kinds)) for kinds in rounds)
    for kind in islice(kinds, points):
        holds = rng.random() < 0.5
        delay = 0.0 if holds else rng.choice((rng.uniform(0, 0.02), rng.uniform(0, 0.4)))
        yield Blow(kind=kind, moment=next(moments[kind]), delay=delay, holds=holds, rng=random.Random(rng.getrandbits(64)))


async def deal(house: House, blow: Blow, trap: Trap) -> None:
    """Strike at the sprung trap."""
    await anyio.sleep(blow.delay)
    house.world.write(f"--- {blow.kind} at {blow.moment!r} + {blow.delay * 1000:.0f} ms in {trap.chat}")
    try:
        await KINDS[blow.kind][0](house, blow, trap.chat)
    finally:
        trap.released.set()
