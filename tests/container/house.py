"""A whole host in this process, with real containers and the real Claude Code, and a person at its terminal."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio

from nanoclaw_core.builtins.terminal import Said, Settled, Update, Viewer, Working
from nanoclaw_core.hookspecs import hookimpl
from nanoclaw_core.host import BUILTINS, Host, open_host
from nanoclaw_core.mailbox import Mailbox
from nanoclaw_core.ports import Action, Runtime
from nanoclaw_core.sandbox.spec import INSTALLATION_LABEL
from nanoclaw_core.settings import load
from nanoclaw_core.store import sessions
from nanoclaw_core.testing import FakeChannel

_PLUGIN = "nanoclaw_container_plugin"


@dataclass(kw_only=True)
class Person:
    """Somebody at the terminal: says things, and sees what comes back."""

    host: Host
    chat: str
    viewer: Viewer
    notes: list[str] = field(default_factory=list)
    _ids: count[int] = field(default_factory=count)

    async def say(self, text: str) -> str:
        message_id = f"message-{next(self._ids)}"
        await self.host.terminal.say(self.chat, text, message_id)
        return message_id

    async def ask(self, text: str) -> list[str]:
        """Say something and return all that was answered until it was settled."""
        message_id = await self.say(text)
        return await self.hear(message_id)

    async def hear(self, message_id: str) -> list[str]:
        heard: list[str] = []
        async for number, update in self.viewer:
            self.viewer.confirm(number)
            self._note(update, heard)
            if isinstance(update, Settled) and message_id in update.message_ids:
                return heard
        raise AssertionError("the terminal was detached")

    async def mailbox(self) -> Mailbox:
        """That of the host's only session."""
        (session,) = await self.host.database.read(sessions.sessions)
        return await self.host.mailboxes.open(session)

    def _note(self, update: Update, heard: list[str]) -> None:
        if isinstance(update, Said):
            heard.append(update.text)
        elif isinstance(update, Working):
            self.notes.append(update.note)


@asynccontextmanager
async def living_host(
    variables: Mapping[str, str] | None = None,
    *,
    runtime: Runtime | None = None,
    actions: Sequence[Action[Any]] = (),
    channels: Sequence[FakeChannel] = (),
) -> AsyncIterator[Person]:
    """A host on an empty home; `variables` are settings, `actions` and `channels` those of a plugin."""
    plugin: Any = ModuleType(_PLUGIN)
    plugin.nanoclaw_actions = hookimpl(lambda: actions)
    plugin.nanoclaw_channels = hookimpl(lambda: [channel.factory() for channel in channels])
    sys.modules[_PLUGIN] = plugin
    with tempfile.TemporaryDirectory(prefix="nc", ignore_cleanup_errors=True) as folder:
        settings = load({"NANOCLAW_HOME": folder, **(variables or {})}, Path(folder))
        with anyio.fail_after(90):
            async with (
                open_host(settings, runtime=runtime, builtins=(*BUILTINS, _PLUGIN)) as host,
                anyio.create_task_group() as tasks,
            ):
                await tasks.start(host.run)
                _, chat = await host.terminal_chat(None)
                with host.terminal.attach(chat) as viewer:
                    try:
                        yield Person(host=host, chat=chat, viewer=viewer)
                    finally:
                        tasks.cancel_scope.cancel()
                installation = host.pool._desk.terms.installation
        remove_containers(installation)  # a host leaves those at work, and those that have something in the background


def remove_containers(installation: str) -> None:
    """End what a host of a test has left to a next one, which will not come."""
    if names := docker("ps", "-aq", "--filter", f"label={INSTALLATION_LABEL}={installation}").split():
        docker("rm", "-f", *names)


def docker(*arguments: str) -> str:
    """The output of a docker command."""
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True, timeout=60).stdout


def container_of(person: Person) -> str:
    """The name of the one container of this host."""
    names = [shift.life.name for shift in person.host.pool.shifts if shift.life]
    assert len(names) == 1
    return names[0]


def inspect(name: str) -> dict[str, Any]:
    (found,) = json.loads(docker("inspect", name))
    return dict(found)


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that happens in a container and tells nobody."""
    while not await holds():  # noqa: ASYNC110  # there is no event to wait for
        await anyio.sleep(0.02)
