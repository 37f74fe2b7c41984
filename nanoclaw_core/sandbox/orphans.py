"""Containers that have ended or must end: those that nobody owns any more above all."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import structlog

from nanoclaw_core.models import ContainerState
from nanoclaw_core.ports import Runtime
from nanoclaw_core.sandbox.logs import keep_output
from nanoclaw_core.sandbox.spec import INSTALLATION_LABEL, WORKER_LABEL
from nanoclaw_core.supervise import survive

log = structlog.get_logger()


async def discard(runtime: Runtime, container: ContainerState, logs: Path, *, grace: float = 2.0) -> None:
    """End and remove a container; what it wrote is kept in `logs`.

    Raises:
        RuntimeUnavailable: it may still be there.
    """
    if container.running:
        await runtime.stop(container.id, grace)
    await survive("worker output", keep_output(runtime, container, logs))
    await runtime.remove(container.id)


async def sweep(
    runtime: Runtime, installation_id: str, known_worker_ids: Collection[str], logs: Path, *, grace: float = 2.0
) -> list[ContainerState]:
    """Discard the containers of this installation whose worker is not known; return them as they were found.

    Containers of other installations, and of other programs, are never touched.

    Raises:
        RuntimeUnavailable: some may be left.
    """
    found = await orphans(runtime, installation_id, known_worker_ids)
    for orphan in found:
        await discard(runtime, orphan, logs, grace=grace)
        log.info("container.swept", container=orphan.name, running=orphan.running)
    return found


async def orphans(runtime: Runtime, installation_id: str, known_worker_ids: Collection[str]) -> list[ContainerState]:
    """The containers of this installation whose worker is not known."""
    found = await runtime.containers({INSTALLATION_LABEL: installation_id})
    return [container for container in found if container.labels.get(WORKER_LABEL) not in known_worker_ids]
