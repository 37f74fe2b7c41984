"""Docker as a container runtime; its library is imported when the runtime is made."""

from __future__ import annotations

from collections.abc import Iterable

from nanoclaw_core.hookspecs import hookimpl
from nanoclaw_core.ports import Runtime, RuntimeFactory


def _create() -> Runtime:
    from nanoclaw_core.sandbox.docker import DockerRuntime

    return DockerRuntime()


@hookimpl
def nanoclaw_runtimes() -> Iterable[RuntimeFactory]:
    return [RuntimeFactory(name="docker", summary="Docker Engine or Docker Desktop", create=_create)]
