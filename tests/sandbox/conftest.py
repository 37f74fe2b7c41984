"""A small image and readable containers, for the tests that need the real engine."""

from __future__ import annotations

import io
import tarfile
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from nanoclaw_core.models import BuildContext, ContainerSpec, Limits, Mount
from nanoclaw_core.sandbox.base import DEFAULT_BASE, ensure_base
from nanoclaw_core.sandbox.docker import DockerRuntime
from nanoclaw_core.sandbox.image import container_files

SMALL_IMAGE = "nanoclaw-test:sandbox"
_SMALL_DOCKERFILE = """
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
RUN command -v python3 tini >/dev/null || { apt-get update && apt-get install -y --no-install-recommends python3 tini; }
ENTRYPOINT ["/usr/bin/tini", "--"]
"""

Start = Callable[..., Awaitable[str]]
"""Starts a container of the small image with the given argv; the test's end removes it."""


def dockerfile_context(tag: str, dockerfile: str, **arguments: str) -> BuildContext:
    """A build of nothing but a Dockerfile."""
    buffer, content = io.BytesIO(), dockerfile.encode()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("Dockerfile")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return BuildContext(tag=tag, archive=buffer.getvalue(), arguments=arguments)


@pytest.fixture(scope="session")
def small_image() -> str:
    async def build() -> None:
        runtime = DockerRuntime()
        base = await ensure_base(runtime, DEFAULT_BASE, container_files() / "base.sh", print)
        await runtime.build_image(dockerfile_context(SMALL_IMAGE, _SMALL_DOCKERFILE, BASE_IMAGE=base), print)

    anyio.run(build)
    return SMALL_IMAGE


@pytest.fixture
def runtime() -> DockerRuntime:
    return DockerRuntime()


@pytest.fixture
def labels() -> dict[str, str]:
    """Labels that no other test's containers carry."""
    return {"nanoclaw.test": uuid.uuid4().hex}


@pytest.fixture
async def start(runtime: DockerRuntime, small_image: str, labels: dict[str, str]) -> AsyncIterator[Start]:
    async def start(
        *argv: str, first_line: bytes = b"\n", mounts: tuple[Mount, ...] = (), more_labels: dict[str, str] | None = None
    ) -> str:
        spec = ContainerSpec(
            name=f"nanoclaw-test-{uuid.uuid4().hex[:8]}",
            image=small_image,
            argv=argv,
            user="70007:70007",
            mounts=mounts,
            environment={"LANG": "C.UTF-8"},
            labels=labels | (more_labels or {}),
            limits=Limits(memory=64 << 20, cpus=0.5, pids=32, tmp=8 << 20),
        )
        return await runtime.start(spec, first_line)

    yield start
    for container in await runtime.containers(labels):
        await runtime.remove(container.id)
