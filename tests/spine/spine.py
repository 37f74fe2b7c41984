"""A whole host on a home of its own, with a chat, a clock and a container runtime that belong to the test."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest

from nanoclaw_core.errors import HostNotRunning
from nanoclaw_core.hookspecs import hookimpl
from nanoclaw_core.host import BUILTINS, Host, open_host
from nanoclaw_core.mask import Mask
from nanoclaw_core.models import AgentGroup, ContainerSpec, ContainerState, EngageMode, MessagingGroup
from nanoclaw_core.ports import Action
from nanoclaw_core.sandbox.spec import WORKER_LABEL
from nanoclaw_core.settings import Settings, load
from nanoclaw_core.store import agents, chats
from nanoclaw_core.store.database import Connection
from nanoclaw_core.testing import FakeChannel, FakeClock, FakeRuntime, fake_runtime
from tests.house import _template

BASE_IMAGE = "debian:bookworm-slim"
_PLATFORM = "nanoclaw_spine_platform"


class Containers(FakeRuntime):
    """The fake runtime, with a record of what each worker was launched with; `is_deserted` while its host is being killed."""

    def __init__(self) -> None:
        super().__init__()
        self.is_deserted = False
        self.images.add(BASE_IMAGE)
        self.documents: list[dict[str, Any]] = []  # Any: the engine's options
        self._started = anyio.Event()

    async def start(self, spec: ContainerSpec, first_line: bytes) -> str:
        container_id = await super().start(spec, first_line)
        self.documents.append(json.loads(first_line))
        self._started.set()
        self._started = anyio.Event()
        return container_id

    async def stop(self, container_id: str, grace: float) -> None:
        if not self.is_deserted:
            await super().stop(container_id, grace)

    async def remove(self, container_id: str) -> None:
        if not self.is_deserted:
            await super().remove(container_id)

    async def started(self, count: int) -> dict[str, Any]:
        """Wait until that many workers were started; return the launch document of the last of these."""
        while len(self.documents) < count:
            await self._started.wait()
        return self.documents[count - 1]

    async def dead(self) -> list[ContainerState]:
        return [container for container in await self.containers({}) if not container.running]

    async def living(self) -> list[ContainerState]:
        return [container for container in await self.containers({}) if container.running]

    def kill_all(self) -> None:
        """SIGKILL to everything in every container."""
        for container_id in self._containers:
            self.kill(container_id)

    def process_of(self, worker_id: str) -> int:
        found = (one for one in self._containers.values() if one.state.labels[WORKER_LABEL] == worker_id)
        return next(found)._process.pid


@dataclass(kw_only=True)
class Spine:
    """The parts of the world that outlive a host. `host` begins one; `chat` is a platform on which it has `chat-1`."""

    home: Path
    runtime: Containers
    clock: FakeClock = field(default_factory=FakeClock)
    chat: FakeChannel = field(default_factory=FakeChannel)
    variables: dict[str, str] = field(default_factory=dict)
    actions: list[Action[Any]] = field(default_factory=list)  # Any: each action has parameters of its own
    limit: float | None = 60.0  # seconds that a host may live

    def settings(self, **changes: Any) -> Settings:  # Any: as diverse as the settings
        environment = {"NANOCLAW_HOME": str(self.home), "NANOCLAW_REFUSE_REAL_MODELS": "1", **self.variables}
        return replace(load(environment, self.home), **changes)

    @asynccontextmanager
    async def built(self, mask: Mask | None = None, **changes: Any) -> AsyncIterator[Host]:
        """A host that does not run yet, and for `limit` seconds at most."""
        if not (database := self.home / "nanoclaw.db").exists():
            shutil.copy(_template(), database)
        _offer(self.chat, self.actions)
        settings = self.settings(**changes)
        builtins = (*BUILTINS, _PLATFORM)
        with anyio.fail_after(self.limit):
            async with open_host(settings, clock=self.clock, runtime=self.runtime, builtins=builtins, mask=mask) as host:
                await host.database.write(partial(wire, chat="chat-1", name="Family"))
                yield host

    @asynccontextmanager
    async def host(self, **changes: Any) -> AsyncIterator[Host]:
        """A host that runs until the end of the block."""
        async with self.built(**changes) as host, anyio.create_task_group() as tasks:
            await tasks.start(host.run)
            yield host
            tasks.cancel_scope.cancel()

    @asynccontextmanager
    async def killed_host(self, **changes: Any) -> AsyncIterator[Host]:
        """A host that is killed at the end of the block: its sockets break, nothing is tidied up, its workers go on."""
        async with self.built(**changes) as host, anyio.create_task_group() as tasks:
            await tasks.start(host.run)
            try:
                yield host
            finally:
                self.runtime.is_deserted = True
                host.database.write = _unheard  # type: ignore[method-assign,assignment]  # for the rest of its life
                for mailbox in host.mailboxes._known.values():
                    mailbox._transact = _unheard  # type: ignore[method-assign,assignment]  # nor does an action that still runs end
                for door in list(host.gateway._doors.values()):
                    await host.gateway._shut(door)
                tasks.cancel_scope.cancel()
        self.runtime.is_deserted = False

    @asynccontextmanager
    async def no_pauses(self, host: Host) -> AsyncIterator[None]:
        """Let time pass whenever a session, or its delivery, does nothing but wait for its next try."""

        async def pass_time() -> None:
            while True:
                await until(lambda: is_pausing(host) or host.delivery._retried)
                await self.clock.advance(1)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pass_time)
            yield
            tasks.cancel_scope.cancel()

    async def wire(self, host: Host, chat: str, **rules: Any) -> None:  # Any: see `wire`
        await host.database.write(partial(wire, chat=chat, **rules))

    async def texts(self, count: int) -> list[str]:
        """What people see, as soon as there are that many messages."""
        return [message.text for message in await self.chat.sent(count)]

    async def settled(self, count: int = 1) -> list[tuple[tuple[str, ...], str]]:
        """Which messages are done with, and how, as soon as there are that many signs."""
        return [(ids, outcome) for _, ids, outcome in await self.chat.settlement(count)]

    def files_holding(self, needle: str) -> list[Path]:
        """The files below the home in whose bytes `needle` is found."""
        files = (path for path in self.home.rglob("*") if path.is_file() and not path.is_socket())
        return [path.relative_to(self.home) for path in files if needle.encode() in path.read_bytes()]


async def _unheard(*_: object) -> Any:  # Any: nobody gets an answer
    raise HostNotRunning(Path())


def wire(
    connection: Connection,
    *,
    chat: str,
    name: str = "",
    mode: EngageMode = EngageMode.PATTERN,
    pattern: str = ".",
    agent: AgentGroup | None = None,
) -> MessagingGroup:
    """Let an agent, the main one by default, hear `chat`."""
    agent = agent or agents.main_agent_group(connection)
    assert agent is not None
    group = chats.ensure_messaging_group(
        connection, channel="fake", account="", chat=chat, name=name or chat, is_group=False, now=1.0
    )
    chats.wire(connection, messaging_group_id=group.id, agent_group_id=agent.id, engage_mode=mode, pattern=pattern, now=1.0)
    return group


def runner_that(patch: pytest.MonkeyPatch, folder: Path, does: str) -> None:
    """Let workers run this Python text instead of the real runner."""
    (folder / "nanoclaw_runner").mkdir(exist_ok=True)
    (folder / "nanoclaw_runner" / "__main__.py").write_text(does)
    patch.setattr(fake_runtime, "runner_folder", lambda: folder)


async def routed(host: Host) -> None:
    """Wait until every message that was accepted is in its sessions' mailboxes."""
    while await host.journal.unrouted():  # noqa: ASYNC110  # see `until`
        await anyio.sleep(0.001)


async def until(is_so: Callable[[], object]) -> None:
    """Look every millisecond whether something is so that nobody announces."""
    while not is_so():  # noqa: ASYNC110  # it sets no event
        await anyio.sleep(0.001)


def doing(host: Host) -> list[str]:
    """What each session does, as `nanoclaw status` says it."""
    sessions: Any = host.pool.status()["sessions"]
    return [session["state"] for session in sessions]


def is_pausing(host: Host) -> bool:
    """Whether a session waits for its next try."""
    return any(state.startswith("waiting: ") for state in doing(host))


def _offer(channel: FakeChannel, actions: list[Action[Any]]) -> None:
    """A module that offers them through the hooks, as any plugin does."""
    platform: Any = ModuleType(_PLATFORM)
    platform.nanoclaw_channels = hookimpl(lambda: [channel.factory()])
    platform.nanoclaw_actions = hookimpl(lambda: actions)
    sys.modules[_PLATFORM] = platform


def open_files() -> Counter[str]:
    """What this process has open: sockets, pipes and files, each with how often."""
    links = (os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink())  # noqa: PTH115
    return Counter(link.partition(":[")[0] for link in links)
