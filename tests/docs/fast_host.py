"""A host on the home and with the plugins of this environment, until standard input ends. Its workers are plain processes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio
import structlog
from anyio import to_thread

from nanoclaw_core.host import open_host
from nanoclaw_core.settings import load
from nanoclaw_core.supervise import State
from tests.spine.spine import Containers, until


async def main() -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    settings = load(os.environ, Path(os.environ["NANOCLAW_HOME"]))
    async with Containers() as runtime, open_host(settings, runtime=runtime) as host, anyio.create_task_group() as tasks:
        await tasks.start(host.run)
        await until(lambda: all(health.state is State.RUNNING for health in host.healths.values()))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await to_thread.run_sync(sys.stdin.read)
        tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main)
