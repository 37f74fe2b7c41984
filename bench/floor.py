"""The floor: a container that does nothing, and Claude Code alone in one, with nothing of ours around it but the image."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
from anyio import to_thread
from docker import APIClient, from_env

from bench.figures import Figures
from bench.machine import anonymous_memory, container_pids
from nanoclaw_core.builtins.docker_runtime import nanoclaw_runtimes
from nanoclaw_core.sandbox.image import WorkerImage
from nanoclaw_core.testing import ScriptedModel

NOTHING: Final = "floor: container start of a no-op"
FIRST_REPLY: Final = "floor: Claude Code, container start to first reply"
WARM_TURN: Final = "floor: Claude Code's own warm turn"
MEMORY: Final = "floor: Claude Code alone, idle memory"
_PROGRAM: Final = "/opt/nanoclaw/bin/claude"
_WORDS: Final = ("--print", "--verbose", "--input-format", "stream-json", "--output-format", "stream-json")


async def measure(figures: Figures, rounds: int) -> None:
    (runtime,) = nanoclaw_runtimes()
    image = await WorkerImage(runtime.create()).ensure(print)
    figures.add(NOTHING, "s", [await to_thread.run_sync(_no_op, image) for _ in range(rounds)])
    first, warm, memory = [], [], []
    for _ in range(rounds):
        async with claude_code(image) as (took, ask, name):
            first.append(took)
            warm += [await ask() for _ in range(3)]
            memory.append(anonymous_memory(container_pids(name)))
    figures.add(FIRST_REPLY, "s", first)
    figures.add(WARM_TURN, "s", warm)
    figures.add(MEMORY, "MiB", memory)


def _no_op(image: str) -> float:
    """Seconds from asking the engine for a container until its program has ended."""
    client = from_env().api
    try:
        began = time.perf_counter()
        created = client.create_container(image, ["/bin/true"], entrypoint=[], host_config=_hardened(client))
        client.start(created["Id"])
        client.wait(created["Id"])
        took = time.perf_counter() - began
        client.remove_container(created["Id"], v=True, force=True)
        return took
    finally:
        client.close()


@asynccontextmanager
async def claude_code(image: str) -> AsyncIterator[tuple[float, Any, str]]:  # Any: an async function without parameters
    """Claude Code, answered over a Unix socket; yields how long its first reply took, a way to ask again, and its name."""
    with tempfile.TemporaryDirectory(prefix="ncb") as folder:
        Path(folder).chmod(0o755)
        socket = Path(folder, "model.sock")
        async with ScriptedModel(socket):
            socket.chmod(0o666)
            name = f"nanoclaw-bench-{uuid.uuid4().hex[:8]}"
            began = time.perf_counter()
            process = await to_thread.run_sync(_start, image, name, folder)
            try:
                await to_thread.run_sync(_turn, process)
                took = time.perf_counter() - began

                async def ask() -> float:
                    began = time.perf_counter()
                    await to_thread.run_sync(_turn, process)
                    return time.perf_counter() - began

                yield took, ask, name
            finally:
                process.kill()
                with anyio.CancelScope(shield=True):
                    await to_thread.run_sync(_remove, name)
                    await to_thread.run_sync(process.wait)


def _start(image: str, name: str, folder: str) -> subprocess.Popen[str]:
    environment = {
        "ANTHROPIC_UNIX_SOCKET": "/s/model.sock",
        "ANTHROPIC_API_KEY": "none",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "HOME": "/tmp",  # noqa: S108  # inside of the container
    }
    command = ["docker", "run", "--interactive", "--rm", "--name", name, "--network", "none", "--read-only"]
    command += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp:exec"]  # noqa: S108
    command += ["--workdir", "/tmp", "--volume", f"{folder}:/s:ro"]  # noqa: S108
    for key, value in environment.items():
        command += ["--env", f"{key}={value}"]
    command += ["--entrypoint", _PROGRAM, image, *_WORDS]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _turn(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    message = {"type": "user", "message": {"role": "user", "content": "hello"}, "parent_tool_use_id": None}
    process.stdin.write(json.dumps(message) + "\n")
    process.stdin.flush()
    for line in process.stdout:
        if json.loads(line).get("type") == "result":
            return
    raise RuntimeError("Claude Code ended")


def _remove(name: str) -> None:
    subprocess.run(["docker", "rm", "--force", "--volumes", name], check=False, capture_output=True)


def _hardened(client: APIClient) -> Any:  # Any: as the SDK types it
    return client.create_host_config(
        network_mode="none", cap_drop=["ALL"], security_opt=["no-new-privileges:true"], read_only=True
    )
