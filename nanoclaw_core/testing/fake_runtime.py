"""A container runtime without containers: each worker is a process on this machine that runs the real runner.

For fast tests only, and never offered to users: nothing is isolated here.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Final, Self

import anyio
from anyio.abc import Process, TaskGroup
from anyio.streams.memory import MemoryObjectSendStream

from nanoclaw_core.errors import ContainerFailed, ImageBuildFailed, RuntimeUnavailable
from nanoclaw_core.models import BuildContext, ContainerSpec, ContainerState, Mount

MAX_OUTPUT: Final = 256 * 1024  # bytes kept of each container
_HERE: Final = Path(__file__).parent.parent


class FakeRuntime:
    """Implements `Runtime`, pauses, measures, can be read from. An async context manager: leaving it kills what still runs.

    Knobs for tests: `unavailable` makes every method raise, and breaks the watches; `crash_at_start` makes every container
    end at once with code 1; `images` are the tags that exist; `build_failure` is the reason the next builds fail for.
    `used_memory` is what a container is said to use, in bytes, and `memories` what some are said to use instead, by their ids;
    `cannot_pause` is why pausing fails. `engine` is the engine that every worker runs instead of the one it was launched for
    (None: that one).
    """

    def __init__(self, *, engine: str | None = "plain") -> None:
        self.engine = engine
        self.crash_at_start = False
        self.specs: list[ContainerSpec] = []
        self.read_specs: list[ContainerSpec] = []
        self.images: set[str] = set()
        self.built: list[BuildContext] = []
        self.imported: list[tuple[str, str]] = []
        self.build_failure: str | None = None
        self.used_memory = 100 * 1024 * 1024
        self.memories: dict[str, int] = {}
        self.cannot_pause = ""
        self._unavailable = False
        self._containers: dict[str, _Container] = {}
        self._watches: set[MemoryObjectSendStream[ContainerState]] = set()
        self._numbers = count(1)
        self._stack = AsyncExitStack()
        self._group: TaskGroup

    async def __aenter__(self) -> Self:
        self._group = await self._stack.enter_async_context(anyio.create_task_group())
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        for container in self._containers.values():
            container.signal(signal.SIGKILL)
        for stream in list(self._watches):
            stream.close()
        with anyio.CancelScope(shield=True):
            for container in self._containers.values():
                await container.ended.wait()
        self._group.cancel_scope.cancel()
        await self._stack.aclose()

    @property
    def unavailable(self) -> bool:
        """Whether the runtime plays dead."""
        return self._unavailable

    @unavailable.setter
    def unavailable(self, value: bool) -> None:
        self._unavailable = value
        if value:
            for stream in list(self._watches):
                stream.close()

    def kill(self, container_id: str) -> None:
        """SIGKILL to everything in a container, as the kernel does when memory runs out."""
        self._containers[container_id].signal(signal.SIGKILL)

    async def check(self) -> str:
        """See `Runtime`."""
        self._check()
        return "fake runtime 1"

    async def start(self, spec: ContainerSpec, first_line: bytes) -> str:
        """See `Runtime`: the paths in the launch document become those of the mounts' sources."""
        self._check()
        self.specs.append(spec)
        argv = (
            [sys.executable, "-c", "raise SystemExit('crashed at start')"]
            if self.crash_at_start
            else [sys.executable, "-m", "nanoclaw_runner"]
        )
        document = on_this_machine(first_line, spec.mounts, self.engine)
        with anyio.CancelScope(shield=True):  # whoever asked may be gone by then
            process = await self._open(spec, argv, json.loads(document)["workspace"])
        container_id = f"fake-{next(self._numbers)}"
        state = ContainerState(id=container_id, name=spec.name, labels=dict(spec.labels), running=True)
        container = self._containers[container_id] = _Container(process, state)
        self._group.start_soon(self._attend, container, name=spec.name)
        with anyio.CancelScope(shield=True):
            await container.write(document)
        return container_id

    async def _open(self, spec: ContainerSpec, argv: list[str], workspace: str) -> Process:
        try:
            return await anyio.open_process(
                argv,
                cwd=workspace,
                env={"PATH": os.defpath, **spec.environment, "PYTHONPATH": str(runner_folder())},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ContainerFailed(spec.name, str(error)) from error

    async def stop(self, container_id: str, grace: float) -> None:
        """See `Runtime`."""
        self._check()
        if container := self._containers.get(container_id):
            container.resume()
            container.signal(signal.SIGTERM)
            with anyio.move_on_after(grace):
                await container.ended.wait()
            container.signal(signal.SIGKILL)
            await container.ended.wait()

    async def remove(self, container_id: str) -> None:
        """See `Runtime`."""
        self._check()
        if (container := self._containers.get(container_id)) and container.ended.is_set():
            del self._containers[container_id]

    async def pause(self, container_id: str) -> None:
        """See `PausingRuntime`."""
        self._check()
        if self.cannot_pause:
            raise ContainerFailed(container_id, self.cannot_pause)
        if container := self._containers.get(container_id):
            container.pause()

    async def resume(self, container_id: str) -> None:
        """See `PausingRuntime`."""
        self._check()
        if container := self._containers.get(container_id):
            container.resume()

    async def memory(self, container_id: str) -> int:
        """See `MeasuringRuntime`."""
        self._check()
        container = self._containers.get(container_id)
        return self.memories.get(container_id, self.used_memory) if container and container.state.running else 0

    async def containers(self, labels: Mapping[str, str]) -> list[ContainerState]:
        """See `Runtime`."""
        self._check()
        return [one.state for one in self._containers.values() if labels.items() <= one.state.labels.items()]

    async def output(self, container_id: str, limit: int) -> bytes:
        """See `Runtime`."""
        self._check()
        container = self._containers.get(container_id)
        return bytes(container.output[-limit:]) if container and limit > 0 else b""

    @asynccontextmanager
    async def read(self, spec: ContainerSpec) -> AsyncIterator[AsyncIterator[bytes]]:
        """See `ReadingRuntime`: the program runs on this machine, with the Python of the tests."""
        self._check()
        self.read_specs.append(spec)
        places = {mount.target: str(mount.source) for mount in spec.mounts}
        argv = [sys.executable, *(places.get(word, word) for word in spec.argv[1:])]
        async with await anyio.open_process(argv, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            yield _output_of(process, spec.name)
            with suppress(ProcessLookupError):
                process.kill()

    async def watch(self, labels: Mapping[str, str]) -> AsyncIterator[ContainerState | None]:
        """See `Runtime`."""
        self._check()
        send, receive = anyio.create_memory_object_stream[ContainerState](1000)
        self._watches.add(send)
        try:
            async with receive:
                yield None
                async for state in receive:
                    if labels.items() <= state.labels.items():
                        yield state
        finally:
            self._watches.discard(send)
            send.close()
        self._check()
        raise RuntimeUnavailable("fake", "the connection was closed")

    async def has_image(self, tag: str) -> bool:
        """See `Runtime`."""
        self._check()
        return tag in self.images

    async def build_image(self, context: BuildContext, report: Callable[[str], None]) -> None:
        """See `Runtime`."""
        self._check()
        self.built.append(context)
        report("Step 1/1 : FROM scratch")
        if self.build_failure is not None:
            raise ImageBuildFailed(context.tag, self.build_failure)
        self.images.add(context.tag)

    async def import_image(self, tag: str, archive: str) -> None:
        """See `Runtime`."""
        self._check()
        self.imported.append((tag, archive))
        self.images.add(tag)

    def _check(self) -> None:
        if self._unavailable:
            raise RuntimeUnavailable("fake", "a test switched it off")

    async def _attend(self, container: _Container) -> None:
        """Keep the output, and tell the watches when the container ends."""
        await container.live()
        for stream in list(self._watches):
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                await stream.send(container.state)


async def _output_of(process: Process, name: str) -> AsyncIterator[bytes]:
    assert process.stdout is not None
    assert process.stderr is not None
    async for piece in process.stdout:
        yield piece
    complaint = b"".join([piece async for piece in process.stderr])
    if await process.wait() != 0:
        raise ContainerFailed(name, complaint.decode(errors="replace").strip().rpartition("\n")[2])


class _Container:
    """One process group."""

    def __init__(self, process: Process, state: ContainerState) -> None:
        self._process = process
        self.state = state
        self.output = bytearray()
        self.ended = anyio.Event()

    async def write(self, document: bytes) -> None:
        """Give it its standard input; one that is dead already does not read it."""
        assert self._process.stdin is not None
        with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._process.stdin.send(document)
        await self._process.stdin.aclose()

    async def live(self) -> None:
        """Return when it has ended. Cancelling this ends it, too, so that nobody waits for it in vain."""
        code = -signal.SIGKILL
        try:
            async with self._process, anyio.create_task_group() as group:
                group.start_soon(self._keep_output, name="output")
                code = await self._process.wait()
                self.signal(signal.SIGKILL)  # a container's other processes end with its first
        finally:
            self.state = replace(self.state, running=False, paused=False, exit_code=code if code >= 0 else 128 - code)
            self.ended.set()

    async def _keep_output(self) -> None:
        assert self._process.stdout is not None
        async for chunk in self._process.stdout:
            self.output += chunk
            del self.output[:-MAX_OUTPUT]

    def pause(self) -> None:
        """Freeze the whole group."""
        self.signal(signal.SIGSTOP)
        self.state = replace(self.state, paused=self.state.running)

    def resume(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)
        self.state = replace(self.state, paused=False)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group, which may be gone."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)


def runner_folder() -> Path:
    """Where the package `nanoclaw_runner` is: in the repository, or packed into the installed core."""
    folders = (_HERE.parent / "container" / "runner", _HERE / "_container" / "runner")
    return next(folder for folder in folders if (folder / "nanoclaw_runner").is_dir())


def on_this_machine(first_line: bytes, mounts: tuple[Mount, ...], engine: str | None) -> bytes:
    """The launch document with the container's paths replaced by the host's."""
    document = json.loads(first_line)
    for name in ("socket", "workspace", "state"):
        document[name] = _source(document[name], mounts)
    for seen in document.get("mounts", ()):
        seen["path"] = _source(seen["path"], mounts)
    document["engine"] = engine or document["engine"]
    return json.dumps(document).encode() + b"\n"


def _source(target: str, mounts: tuple[Mount, ...]) -> str:
    path = PurePosixPath(target)
    for mount in sorted(mounts, key=lambda mount: len(mount.target), reverse=True):
        if path.is_relative_to(mount.target):
            return str(mount.source / path.relative_to(mount.target))
    raise ContainerFailed(target, "no mount holds this path")
