"""Finishing what was begun for a worker that has hung up meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar, TypeVarTuple

import anyio

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")


async def finish(function: Callable[[*Arguments], Awaitable[T]], *arguments: *Arguments) -> T:
    """Await `function` to its end, also when the request's task is cancelled, which aiohttp does when a peer hangs up.

    A plain shielded scope would not do: it keeps anyio's cancellation out, not asyncio's. A cancellation arrives afterwards.
    """
    results: list[T] = []

    async def run() -> None:
        with anyio.CancelScope(shield=True):
            results.append(await function(*arguments))

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run, name="finish")
    except BaseExceptionGroup as group:  # of the one task: its error is the error
        raise group.exceptions[0] from None
    return results[0]
