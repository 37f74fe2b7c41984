"""From a person's message to the answer: warm, paused, cold, and ten at once; with where the time goes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from itertools import pairwise
from typing import Any, Final

import anyio

from bench import bare, floor
from bench.figures import Figures
from bench.hosts import HostProcess, Person, host, person
from nanoclaw_core.testing import ScriptedModel

WARM_AIM, COLD_AIM, TEN_AIM, LAST_AIM, READY_AIM = 0.08, 1.3, 6.0, 9.5, 0.8

#: What the host logs on the way of a cold message, in order, and what the time until it was used for.
_COLD: Final = (
    ("message.accepted", "journal"),
    ("message.routed", "routing and inbound.db"),
    ("worker.started", "claim, folders, container start"),
    ("link.opened", "runner starts and connects"),
    ("model asked", "Claude Code starts, up to its first request"),
    ("model answered", "the model"),
    ("turn.ended", "Claude Code's end of turn, link, outbound.db"),
    ("delivery.sent", "delivery"),
)
_WARM: Final = tuple(
    (name, "push, up to Claude Code's request" if name == "model asked" else meaning)
    for name, meaning in _COLD
    if name not in ("worker.started", "link.opened")
)


async def measure(figures: Figures, rounds: int) -> None:
    await _one_at_a_time(figures, rounds)
    await _ten_at_once(figures)
    await _phases(figures, rounds)


async def _one_at_a_time(figures: Figures, rounds: int) -> None:
    ready, cold, warm, paused = [], [], [], []
    for _ in range(3):
        async with host() as found:
            ready.append(found.ready)
    async with host({"NANOCLAW_IDLE_TIMEOUT": "3600"}, agents=rounds + 1) as found:
        for name in found.agents[1:]:
            async with person(found.home, name) as somebody:
                cold.append(await somebody.ask("hello"))
                warm += [await somebody.ask("hello again") for _ in range(5)]
                await found.until_all("paused")  # an idle one is paused after 2 s
                paused.append(await somebody.ask("still there?"))
    figures.add("host ready: start to first accepted message", "s", ready, aim=READY_AIM, floor=bare.READY)
    figures.add("warm message to reply, worker running", "s", warm, aim=WARM_AIM, floor=floor.WARM_TURN)
    figures.add("warm message to reply, worker paused", "s", paused, aim=WARM_AIM, floor=floor.WARM_TURN)
    figures.add("cold message to reply", "s", cold, aim=COLD_AIM, floor=floor.FIRST_REPLY)


async def _ten_at_once(figures: Figures) -> None:
    async with host({"NANOCLAW_MAX_TURNS": "10"}, agents=11) as found, AsyncExitStack() as stack:
        people = [await stack.enter_async_context(person(found.home, name)) for name in found.agents[1:]]
        cold = await _all(people, "hello")
        warm = await _all(people, "hello again")
        warm += await _all(people, "and again")
    figures.add("ten cold at once: each", "s", cold, aim=TEN_AIM, floor=floor.FIRST_REPLY)
    figures.add("ten cold at once: the last", "s", [max(cold)], aim=LAST_AIM, floor=floor.FIRST_REPLY)
    figures.add("ten warm at once: each", "s", warm, floor=floor.WARM_TURN)


async def _all(people: Sequence[Person], text: str) -> list[float]:
    took: list[float] = []

    async def one(somebody: Person) -> None:
        took.append(await somebody.ask(text))

    async with anyio.create_task_group() as tasks:
        for somebody in people:
            tasks.start_soon(one, somebody)
    return took


class _WatchedModel(ScriptedModel):
    """Notes when it was asked, and answers at once."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[float] = []
        self.answered: list[float] = []

    async def _messages(self, request: Any) -> Any:  # Any: aiohttp's, which this module need not know
        self.asked.append(time.time())
        response = await super()._messages(request)
        self.answered.append(time.time())
        return response


async def _phases(figures: Figures, rounds: int) -> None:
    """The same once more against a model that tells when it was asked, read off the host's log."""
    async with _WatchedModel() as model:
        variables = {"NANOCLAW_PROVIDER": "anthropic", "ANTHROPIC_API_KEY": "none", "ANTHROPIC_BASE_URL": model.url}
        cold, warm = [], []
        async with host(variables, agents=rounds + 1) as found:
            for name in found.agents[1:]:
                async with person(found.home, name) as somebody:
                    cold.append(await _timed(found, somebody, model, _COLD))
                    warm.append(await _timed(found, somebody, model, _WARM))
    for kind, steps, found_times in (("cold", _COLD, cold), ("warm", _WARM, warm)):
        for name, meaning in steps:
            figures.add(f"{kind} path: {meaning}", "s", [times[name] for times in found_times])
        figures.add(f"{kind} path: the sum", "s", [sum(times.values()) for times in found_times])


async def _timed(
    found: HostProcess, somebody: Person, model: _WatchedModel, steps: Sequence[tuple[str, str]]
) -> dict[str, float]:
    seen = len(found.events())
    model.asked.clear()
    model.answered.clear()
    began = time.time()
    await somebody.ask("hello")
    await anyio.sleep(0.2)  # until the host has logged its delivery
    moments = {event["event"]: _seconds(event) for event in reversed(found.events()[seen:])}
    moments |= {"model asked": model.asked[0], "model answered": model.answered[0]}
    return _gaps(began, moments, [name for name, _ in steps])


def _seconds(event: Mapping[str, Any]) -> float:  # Any: fields of a log line
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def _gaps(began: float, moments: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    times = [began, *(moments[name] for name in names)]
    return {name: later - earlier for name, (earlier, later) in zip(names, pairwise(times), strict=True)}
