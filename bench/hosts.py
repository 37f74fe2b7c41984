"""A real host in a process of its own, on a home made for the run, and people at its terminal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import anyio

from nanoclaw_core.cli.connection import ControlClient, connect
from nanoclaw_core.first_start import ensure_first_agent
from nanoclaw_core.store import agents
from nanoclaw_core.store.database import Connection, open_database


@dataclass(kw_only=True)
class HostProcess:
    """A running `nanoclaw serve`; `ready` is the seconds from its start until its first message was accepted."""

    home: Path
    process: subprocess.Popen[bytes]
    ready: float
    agents: Sequence[str]

    def events(self) -> list[dict[str, Any]]:  # Any: the fields of log lines
        """What it has logged, oldest first."""
        lines = (self.home / "logs" / "host.log").read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    async def status(self) -> dict[str, Any]:  # Any: see `nanoclaw status --json`
        async with connect(self.home) as client:
            return await client.call("status")

    async def until_all(self, *states: str, within: float = 60) -> None:
        """Wait until every session is in one of `states`.

        Raises:
            RuntimeError: it is not so after `within` seconds.
        """
        end = time.monotonic() + within
        while others := {each["state"] for each in (await self.status())["sessions"]}.difference(states):
            if time.monotonic() > end:
                raise RuntimeError(f"after {within:g} s, sessions are still {', '.join(others)}, not {' or '.join(states)}")
            await anyio.sleep(0.1)


@dataclass(kw_only=True)
class Person:
    """Somebody who talks to one agent."""

    client: ControlClient
    _ids: count[int]

    async def ask(self, text: str) -> float:
        """Say `text`; return the seconds until the answer was there."""
        message_id = f"bench-{os.getpid()}-{next(self._ids)}"
        began = time.perf_counter()
        await self.client.call("chat.send", text=text, message_id=message_id)
        took = 0.0
        async for method, update in self.client.notifications:
            if "number" in update:
                await self.client.tell("chat.seen", number=update["number"])
            if method == "chat.message" and not took:
                took = time.perf_counter() - began
            if method == "chat.settled" and message_id in update["message_ids"]:
                if update["outcome"] != "answered":
                    raise RuntimeError(f"the turn ended as {update['outcome']}")
                return took
        raise RuntimeError("the host has gone")


@asynccontextmanager
async def host(variables: Mapping[str, str] | None = None, *, agents: int = 1) -> AsyncIterator[HostProcess]:
    """A host on an empty home with that many agents; what it left is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="ncb", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        names = await furnish(home, agents)
        async with running(home, names, variables or {}) as found:
            yield found


async def furnish(home: Path, number: int) -> list[str]:
    """Make the agents in the database, as a host would."""
    names = [f"Andy{number}" if number else "Andy" for number in range(number)]

    def make(connection: Connection) -> None:
        ensure_first_agent(connection, names[0], time.time())
        for name in names[1:]:
            agents.create_agent_group(connection, name=name, folder=name.lower(), now=time.time())

    home.chmod(0o700)
    async with open_database(home / "nanoclaw.db", backups=None) as database:
        await database.write(make)
    return names


@asynccontextmanager
async def running(home: Path, names: Sequence[str], variables: Mapping[str, str]) -> AsyncIterator[HostProcess]:
    began = time.perf_counter()
    process = start(home, variables)
    try:
        ready = await _first_acceptance(home, process, began)
        yield HostProcess(home=home, process=process, ready=ready, agents=names)
    finally:
        process.terminate()
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(partial(process.wait, timeout=60))


def start(home: Path, variables: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a host; it says on its standard output when it is ready."""
    log = home / "logs" / "host.log"
    log.parent.mkdir(mode=0o700, exist_ok=True)
    command = [sys.executable, "-m", "nanoclaw_core.cli", "serve", "--log-file", str(log)]
    given = environment(home, variables)
    return subprocess.Popen(command, env=given, cwd=home, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)


def environment(home: Path, variables: Mapping[str, str]) -> dict[str, str]:
    """What a program of ours is given that works on `home`, with nothing of the settings of whoever measures."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NANOCLAW_", "ANTHROPIC_"))}
    return {**kept, "NANOCLAW_HOME": str(home), "NANOCLAW_PROVIDER": "demo", **variables}


async def _first_acceptance(home: Path, process: subprocess.Popen[bytes], began: float) -> float:
    assert process.stdout is not None
    if not await anyio.to_thread.run_sync(process.stdout.readline):
        raise RuntimeError(f"the host did not start: {(home / 'logs' / 'host.log').read_text()[-2000:]}")
    async with connect(home) as client:
        await client.call("chat.open", agent=None)
        await client.call("chat.send", text="hello", message_id=f"first-{process.pid}")  # new to a home that had a host before
        took = time.perf_counter() - began
        async for method, update in client.notifications:  # so that nothing of it is left for the next one
            if "number" in update:
                await client.tell("chat.seen", number=update["number"])
            if method == "chat.settled":
                break
    return took


@asynccontextmanager
async def person(home: Path, agent: str) -> AsyncIterator[Person]:
    async with connect(home) as client:
        await client.call("chat.open", agent=agent)
        yield Person(client=client, _ids=count())
