"""Containers that nobody owns any more: those of a host that died, or of a start that was cut."""

from __future__ import annotations

from collections.abc import Collection

import structlog

from nanoclaw_core.models import ContainerState
from nanoclaw_core.ports import Runtime
from nanoclaw_core.sandbox.spec import INSTALLATION_LABEL, WORKER_LABEL

log = structlog.get_logger()


async def sweep(
    runtime: Runtime, installation_id: str, known_worker_ids: Collection[str], *, grace: float = 2.0
) -> list[ContainerState]:
    """End and remove the containers of this installation whose worker is not known; return them as they were found.

    Containers of other installations, and of other programs, are never touched.

    Raises:
        RuntimeUnavailable: some may be left.
    """
    found = await orphans(runtime, installation_id, known_worker_ids)
    for orphan in found:
        if orphan.running:
            await runtime.stop(orphan.id, grace)
        await runtime.remove(orphan.id)
        log.info("container.swept", container=orphan.name, running=orphan.running)
    return found


async def orphans(runtime: Runtime, installation_id: str, known_worker_ids: Collection[str]) -> list[ContainerState]:
    """The containers of this installation whose worker is not known."""
    found = await runtime.containers({INSTALLATION_LABEL: installation_id})
    return [container for container in found if container.labels.get(WORKER_LABEL) not in known_worker_ids]
