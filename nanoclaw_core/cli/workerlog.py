"""What a worker wrote: kept after its end, asked of the runtime while it lives."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nanoclaw_core.errors import NanoClawError, UnknownName
from nanoclaw_core.ports import Clock, Runtime
from nanoclaw_core.sandbox.logs import KEPT_BYTES
from nanoclaw_core.sandbox.spec import container_name
from nanoclaw_core.store.history import WorkerLife, lives
from nanoclaw_core.store.inspection import looking
from nanoclaw_core.supervise import SystemClock

_LOOK: Final = 1.0  # seconds between two looks at a worker that is followed
_LISTED: Final = 10
_OVERLAP: Final = 4096  # bytes by which what was written before is found again


class WorkerAmbiguous(NanoClawError):
    """Several workers answer to a name."""

    exit_code = 3

    def __init__(self, name: str, found: list[WorkerLife]) -> None:
        who = ", ".join(f"{each.id} ({each.agent})" for each in found[:_LISTED])
        super().__init__(f"{name!r} may mean several workers: {who}. Name one of them by its id.")


class OutputMissing(NanoClawError):
    """Nothing is kept of what a worker wrote."""

    exit_code = 3

    def __init__(self, worker: WorkerLife, folder: Path) -> None:
        why = f"it ended ({worker.reason}), and its log is not in {folder} any more" if worker.ended_at else "it is starting"
        super().__init__(f"Nothing that worker {worker.id} of {worker.agent} wrote is there: {why}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundWorker:
    """A worker, and where its output is kept once it has ended."""

    life: WorkerLife
    kept: Path

    @property
    def is_living(self) -> bool:
        return self.life.ended_at is None and self.life.container_id is not None


def find_worker(home: Path, name: str) -> FoundWorker:
    """The worker with this id (its beginning is enough) or container, else the newest of the session or agent of that name.

    Raises:
        UnknownName: there is none. WorkerAmbiguous: there are several, or several of an agent live.
    """
    if not (home / "nanoclaw.db").exists():
        raise UnknownName("worker", name, [])
    with looking(home / "nanoclaw.db") as connection:
        known = lives(connection)
    wanted = name.casefold()
    exact = [each for each in known if wanted in (each.id, container_name(each.agent, each.id))]
    begun = exact or [each for each in known if len(wanted) > 2 and each.id.startswith(wanted)]
    if len(begun) > 1:
        raise WorkerAmbiguous(name, begun)
    life = begun[0] if begun else _newest(name, [each for each in known if wanted in (each.session_id, each.agent.casefold())])
    if life is None:
        raise UnknownName("worker", name, [each.id for each in known[-_LISTED:]])
    return FoundWorker(life=life, kept=home / "logs" / "workers" / f"{container_name(life.agent, life.id)}.log")


def _newest(name: str, found: list[WorkerLife]) -> WorkerLife | None:
    living = [each for each in found if each.ended_at is None]
    if len(living) > 1:
        raise WorkerAmbiguous(name, living)
    newest_last = living or found
    return newest_last[-1] if newest_last else None


async def written_by(
    worker: FoundWorker, runtime: Runtime | None, limit: int, *, follow: bool = False, clock: Clock | None = None
) -> AsyncIterator[str]:
    """The last `limit` lines of a worker's output, and with `follow` what it goes on to write, until it ends.

    `runtime` is where it lives, None for one that has ended.

    Raises:
        OutputMissing: nothing is kept. RuntimeUnavailable: the runtime cannot be asked.
    """
    if runtime is None:
        if not worker.kept.exists():
            raise OutputMissing(worker.life, worker.kept.parent)
        for text in _texts(worker.kept.read_bytes())[-limit:]:
            yield text
        return
    container, clock = worker.life.container_id or "", clock or SystemClock()
    said = await runtime.output(container, KEPT_BYTES)
    for text in _texts(said)[-limit:]:
        yield text
    while follow and any(each.running for each in await runtime.containers({}) if each.id == container):
        await clock.sleep(_LOOK)
        now = await runtime.output(container, KEPT_BYTES)
        for text in _texts(_news(said, now)):
            yield text
        said = now


def _news(before: bytes, now: bytes) -> bytes:
    """What `now` has behind the end of `before`; all of it where nothing of that is left."""
    place = now.rfind(before[-_OVERLAP:]) if before else -1
    return now[place + len(before[-_OVERLAP:]) :] if place >= 0 else now


def _texts(output: bytes) -> list[str]:
    return output.decode("utf-8", "replace").splitlines()
