"""The driver's own hand on the containers of the host under test, past the host."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from nanoclaw_core.sandbox.spec import INSTALLATION_LABEL, WORKER_LABEL

#: What runs in a worker, by a part of its command line; the brackets keep the shell that looks for it from finding itself.
RUNNER: Final = "nanoclaw_runne[r]"
ENGINE: Final = "claud[e]*--output-format"
_KILL: Final = 'for p in /proc/[0-9]*; do case "$(tr "\\0" " " <$p/cmdline)" in *{}*) kill -9 ${{p#/proc/}};; esac; done'


@dataclass(frozen=True, kw_only=True)
class Found:
    """A container of the installation."""

    name: str
    worker: str
    state: str


@dataclass(kw_only=True)
class Docker:
    """Docker, by its command line; `installation` is known once the host has started for the first time."""

    installation: str = ""

    async def found(self) -> list[Found]:
        label = f"label={INSTALLATION_LABEL}={self.installation}"
        lines = await self._run("ps", "-a", "--no-trunc", "--filter", label, "--format", "{{json .}}")
        return [_found(json.loads(line)) for line in lines.splitlines()]

    async def kill(self, name: str) -> None:
        await self._run("kill", name)

    async def kill_inside(self, name: str, pattern: str) -> None:
        """SIGKILL to what runs in the container under a command line like that."""
        await self._run("exec", name, "sh", "-c", _KILL.format(pattern))

    async def pause(self, name: str) -> None:
        await self._run("pause", name)

    async def remove_all(self) -> None:
        for container in await self.found():
            await self._run("rm", "-f", container.name)

    async def _run(self, *arguments: str) -> str:
        """Output of a docker command; one that fails, because the container is gone for instance, did nothing."""
        with anyio.fail_after(60):
            done = await anyio.run_process(["docker", *arguments], check=False, stderr=subprocess.DEVNULL)
        return done.stdout.decode()


def _found(line: dict[str, str]) -> Found:
    labels = dict(label.partition("=")[::2] for label in line["Labels"].split(","))
    return Found(name=line["Names"], worker=labels.get(WORKER_LABEL, ""), state=line["State"])


def of_worker(containers: Sequence[Found], worker: str) -> str | None:
    """The name of a worker's container."""
    return next((container.name for container in containers if container.worker == worker), None)
