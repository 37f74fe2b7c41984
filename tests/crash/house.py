"""A real `nanoclaw serve` on a home of its own, with the world around it: to be killed, started again, and looked into."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
from anyio import to_thread

from bench import hosts
from nanoclaw_core.cli.connection import connect
from nanoclaw_core.errors import NanoClawError
from nanoclaw_core.models import EngageMode
from nanoclaw_core.store import agents, chats
from nanoclaw_core.store.database import Connection, open_database
from nanoclaw_core.store.installation import installation_id
from tests.crash.containers import Docker
from tests.crash.outside import CHANNELS, SOCKET
from tests.crash.world import Chat, World
from tests.peers.docker_relay import CuttableSocket

ROOT: Final = Path(__file__).parents[2]
READY: Final = 60.0  # seconds that a host may take to start


@dataclass(kw_only=True)
class House:
    """The host of the moment, and how to look into its home from outside."""

    home: Path
    world: World
    containers: Docker
    relay: CuttableSocket
    chats: Sequence[Chat]
    variables: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None

    # --- the host's life --------------------------------------------------------------------------------------------------

    def launch(self) -> None:
        """Start a host without waiting for it."""
        self.world.write("host starts")
        self.process = hosts.start(self.home, self.variables)

    async def ready(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        with anyio.fail_after(READY):
            line = await to_thread.run_sync(self.process.stdout.readline, abandon_on_cancel=True)
        if not line:
            raise AssertionError(f"the host did not start, see {self.home / 'logs' / 'host.log'}")
        self.world.write("host is ready")

    async def kill(self) -> None:
        """SIGKILL: from this moment on, nothing that the host had begun can be finished."""
        assert self.process is not None
        self.process.kill()
        self.world.life += 1
        await to_thread.run_sync(self.process.wait)
        self.world.write("host is dead")

    async def stop(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        await to_thread.run_sync(partial(self.process.wait, timeout=READY))
        self.world.life += 1
        self.world.write("host has stopped")

    # --- what is there ----------------------------------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:  # Any: see `nanoclaw status --json`
        async with connect(self.home) as client:
            return await client.call("status")

    async def is_quiet(self) -> bool:
        """Whether every session has nothing to do."""
        try:
            return all(session["state"] in ("idle", "paused") for session in (await self.status())["sessions"])
        except NanoClawError:
            return False

    def query(self, statement: str, *parameters: object) -> list[Any]:  # Any: rows
        """Ask the central database."""
        return _query(self.home / "nanoclaw.db", statement, *parameters)

    def mailbox(self, side: str, statement: str) -> list[Any]:  # Any: rows
        """Ask one side of every mailbox, as one list."""
        paths = sorted((self.home / "sessions").glob(f"*/*/{side}.db"))
        return [row for path in paths for row in _query(path, statement)]

    def worker_of(self, chat: str) -> str | None:
        """The worker that serves this chat's session."""
        found = self.query(
            "SELECT workers.id FROM workers JOIN sessions ON sessions.id = session_id"
            " JOIN messaging_groups ON messaging_groups.id = messaging_group_id WHERE ended_at IS NULL AND chat = ?",
            chat,
        )
        return found[0][0] if found else None

    def claims(self) -> set[str]:
        return {worker for (worker,) in self.query("SELECT id FROM workers WHERE ended_at IS NULL")}

    def doors(self) -> set[str]:
        """The workers that have a folder for sockets."""
        return {path.name for path in (self.home / "workers").iterdir()}

    def appended(self, number: int) -> int:
        """How often Bash appended the number."""
        files = (self.home / "groups").glob("*/counted")
        return sum(path.read_text().split().count(str(number)) for path in files)

    def open_files(self) -> tuple[int, int]:
        """File descriptors and threads of the host."""
        assert self.process is not None
        itself = Path(f"/proc/{self.process.pid}")
        return len(list((itself / "fd").iterdir())), len(list((itself / "task").iterdir()))

    def record(self) -> list[str]:
        """What happened at this point and what the mailboxes hold, for whoever looks into a fault."""
        tables = [("inbound", "rows"), ("inbound", "parts"), ("inbound", "finals"), ("outbound", "messages")]
        tables += [("outbound", name) for name in ("pushes", "turns", "turn_rows", "calls", "steps")]
        kept = [f"{side} {name}: {row}" for side, name in tables for row in self.mailbox(side, f"SELECT * FROM {name}")]
        workers = [f"worker: {row}" for row in self.query("SELECT * FROM workers ORDER BY claimed_at")]
        return [*self.world.timeline, "", *workers, *kept]

    def learn_sessions(self) -> None:
        """So that events can be told by chat."""
        rows = self.query(
            "SELECT sessions.id, chat FROM sessions JOIN messaging_groups ON messaging_groups.id = messaging_group_id"
        )
        for session, chat in rows:
            self.world.name_session(session, chat)


def _query(path: Path, statement: str, *parameters: object) -> list[Any]:  # Any: rows
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        return connection.execute(statement, parameters).fetchall()


@asynccontextmanager
async def open_house(home: Path, sessions: int) -> AsyncIterator[House]:
    """A running host on the empty folder `home`; what it leaves is removed, but for the home."""
    async with World(home).model as model, CuttableSocket() as relay, anyio.create_task_group() as tasks:
        world = model.world
        await tasks.start(world.serve)
        found = await _furnish(home, sessions)
        house = House(
            home=home,
            world=world,
            containers=Docker(installation=found[1]),
            relay=relay,
            chats=found[0],
            variables=_variables(home, world, relay),
        )
        try:
            house.launch()
            await house.ready()
            yield house
        finally:
            with anyio.CancelScope(shield=True):
                if house.process is not None and house.process.poll() is None:
                    await house.kill()
                await house.containers.remove_all()
            tasks.cancel_scope.cancel()


def _variables(home: Path, world: World, relay: CuttableSocket) -> dict[str, str]:
    return {
        SOCKET: str(world.socket),
        "PYTHONPATH": os.pathsep.join((str(home / "site"), str(ROOT))),
        "DOCKER_HOST": relay.address,
        "NANOCLAW_PROVIDER": "anthropic",
        "ANTHROPIC_API_KEY": "sk-ant-of-the-crash-test",
        "ANTHROPIC_BASE_URL": world.model.url,
        "NANOCLAW_START_TIMEOUT": "30",
    }


async def _furnish(home: Path, sessions: int) -> tuple[list[Chat], str]:
    """Agents, their chats, and the plugin, as their owner would have made them."""
    names = await hosts.furnish(home, sessions)
    kinds = list(CHANNELS)
    made = [Chat(channel=kinds[number % len(kinds)], name=f"chat-{number}", agent=name) for number, name in enumerate(names)]
    async with open_database(home / "nanoclaw.db", backups=None) as database:
        await database.write(partial(_wire, made=made))
        installation = await database.write(installation_id)
    await to_thread.run_sync(_install_plugin, home)
    return made, installation


def _wire(connection: Connection, made: Sequence[Chat]) -> None:
    known = {agent.name: agent for agent in agents.agent_groups(connection)}
    now = time.time()
    for chat in made:
        group = chats.ensure_messaging_group(
            connection, channel=chat.channel, account="", chat=chat.name, name=chat.name, is_group=False, now=now
        )
        wire = partial(chats.wire, connection, messaging_group_id=group.id, agent_group_id=known[chat.agent].id, now=now)
        wire(engage_mode=EngageMode.PATTERN, pattern=".")


def _install_plugin(home: Path) -> None:
    info = home / "site" / "nanoclaw_crash-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nanoclaw-crash\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[nanoclaw]\ncrash = tests.crash.outside\n")
    (home / "plugins.json").write_text(json.dumps({"enabled": ["crash"]}))
