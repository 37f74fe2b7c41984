"""A runtime made of lists, for what only asks and tells."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from nanoclaw_core.models import BuildContext, ContainerSpec, ContainerState


@dataclass
class ListedRuntime:
    """Remembers what it was told; images and containers are what its lists say."""

    images: set[str] = field(default_factory=set)
    listed: list[ContainerState] = field(default_factory=list)
    built: list[BuildContext] = field(default_factory=list)
    imported: list[tuple[str, bytes]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    written: bytes = b""

    async def check(self) -> str:
        return "lists"

    async def start(self, spec: ContainerSpec, first_line: bytes) -> str:
        raise NotImplementedError

    async def stop(self, container_id: str, grace: float) -> None:
        self.stopped.append(container_id)

    async def remove(self, container_id: str) -> None:
        self.removed.append(container_id)

    async def containers(self, labels: Mapping[str, str]) -> list[ContainerState]:
        return [state for state in self.listed if labels.items() <= state.labels.items()]

    async def output(self, container_id: str, limit: int) -> bytes:
        return self.written[-limit:]

    def watch(self, labels: Mapping[str, str]) -> AsyncIterator[ContainerState | None]:
        raise NotImplementedError

    async def has_image(self, tag: str) -> bool:
        return tag in self.images

    async def build_image(self, context: BuildContext, report: Callable[[str], None]) -> None:
        await anyio.lowlevel.checkpoint()
        self.built.append(context)
        self.images.add(context.tag)

    async def import_image(self, tag: str, archive: str) -> None:
        self.imported.append((tag, Path(archive).read_bytes()))  # noqa: ASYNC240  # a few bytes
        self.images.add(tag)


@dataclass
class PullingLists(ListedRuntime):
    """Fetches what `registry` has, and gives `refusal` as the reason for everything else."""

    registry: set[str] = field(default_factory=set)
    refusal: str = "no such host"

    async def pull_image(self, tag: str, report: Callable[[str], None]) -> str | None:
        if tag not in self.registry:
            return self.refusal
        report(f"Pulling {tag}")
        self.images.add(tag)
        return None
