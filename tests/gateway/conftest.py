"""A gateway with one worker's door open, and a client behind that door."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from nanoclaw_core.builtins.demo import Demo
from nanoclaw_core.errors import NanoClawError
from nanoclaw_core.gateway.server import Gateway
from nanoclaw_core.ledger.books import Ledger
from nanoclaw_core.models import AgentGroup, OutboundFile, Progress, Sent, TurnEnd, WorkerIdentity
from nanoclaw_core.ports import Action, ActionCall, Outcome, Provider, WorkerLink
from nanoclaw_core.testing import FakeActionHost, Said

SECRET = "the-secret-of-w1"


def identity_of(worker_id: str) -> WorkerIdentity:
    return WorkerIdentity(
        worker_id=worker_id,
        session_id=f"session-of-{worker_id}",
        agent_group=AgentGroup(id="a1", name="Andy", folder="main", is_main=True),
        secret_hash=hashlib.sha256(SECRET.encode()).hexdigest(),
    )


@dataclass
class Heard:
    """`WorkerEvents` that writes everything down, and stores a turn's end only when `storing` is set."""

    log: list[tuple[str, str, Any]] = field(default_factory=list)
    links: list[WorkerLink] = field(default_factory=list)
    storing: anyio.Event = field(default_factory=anyio.Event)
    began_to_store: anyio.Event = field(default_factory=anyio.Event)
    _changed: anyio.Event = field(default_factory=anyio.Event)

    async def connected(self, worker_id: str, link: WorkerLink) -> None:
        self.links.append(link)
        self._note("connected", worker_id, None)

    async def disconnected(self, worker_id: str) -> None:
        self._note("disconnected", worker_id, None)

    async def turn_ended(self, worker_id: str, end: TurnEnd) -> None:
        self.began_to_store.set()
        await self.storing.wait()
        self._note("turn_ended", worker_id, end)

    async def progressed(self, worker_id: str, progress: Progress) -> None:
        self._note("progressed", worker_id, progress.note)

    async def previewed(self, worker_id: str, text: str) -> None:
        self._note("previewed", worker_id, text)

    async def failed(self, worker_id: str, detail: str) -> None:
        self._note("failed", worker_id, detail)

    def _note(self, *entry: Any) -> None:
        self.log.append(entry)
        self._changed.set()
        self._changed = anyio.Event()

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.log]

    async def wait_for(self, name: str, times: int = 1) -> Any:
        with anyio.fail_after(30):
            while self.names.count(name) < times:
                await self._changed.wait()
        return [what for heard, _, what in self.log if heard == name][times - 1]


@dataclass
class Calls:
    """`ActionCalls` in memory, which remembers what was sent and with which key; `missing` are calls without a result."""

    sent: list[tuple[str, str | None, str]] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)
    broken: NanoClawError | None = None
    folder: Path = Path()
    full: NanoClawError | None = None  # raised when there is no room, and when something is released
    released: list[str] = field(default_factory=list)

    async def outbox(self, identity: WorkerIdentity, *, more: bool = False) -> Path:
        if more and self.full:
            raise self.full
        return self.folder

    async def release(self, identity: WorkerIdentity, uploads: Collection[str]) -> None:
        self.released += uploads
        if self.full:
            raise self.full

    async def once(
        self,
        identity: WorkerIdentity,
        action: Action[Any],
        key: str,
        arguments: str,
        carry_out: Callable[[ActionCall], Awaitable[Outcome]],
    ) -> Outcome:
        if self.broken:
            raise self.broken
        self.asked.append((action.name, key, arguments))
        if key not in self.outcomes:
            session, host = identity.session_id, OneCall(self, key)
            call = ActionCall(agent_group=identity.agent_group, session_id=session, key=key, host=host)
            self.outcomes[key] = await carry_out(call)
        return self.outcomes[key]

    async def unheard(self, identity: WorkerIdentity) -> set[str]:
        if self.broken:
            raise self.broken
        return set(self.missing)

    async def heard(self, identity: WorkerIdentity, keys: Collection[str]) -> None:
        self.missing.difference_update(keys)


class OneCall(FakeActionHost):
    def __init__(self, calls: Calls, key: str) -> None:
        super().__init__(here="terminal")
        self._calls = calls
        self._call_key = key

    async def send(self, text: str, to: str | None = None, *, files: Sequence[OutboundFile] = ()) -> Sent:
        sent = await super().send(text, to, files=files)
        self._calls.sent.append((text, to, self._call_key))
        self._calls.said += self.said
        return sent


@dataclass
class Rig:
    gateway: Gateway
    heard: Heard
    calls: Calls
    socket: Path
    client: aiohttp.ClientSession

    async def ask(self, path: str, document: Any, **headers: str) -> tuple[int, Any, Any]:
        """POST JSON; return status, headers and JSON of the answer."""
        async with self.client.post(f"http://gateway{path}", data=json.dumps(document), headers=headers) as answer:
            return answer.status, answer.headers, await answer.json()

    @asynccontextmanager
    async def link(
        self, secret: str = SECRET, hello: dict[str, Any] | None = None
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A runner's connection; with `hello` {} it stays silent."""
        headers = {"Authorization": f"Bearer {secret}"}
        async with self.client.ws_connect("http://gateway/link", headers=headers) as socket:
            first = {"type": "hello", "protocols": [1], "worker": "w1", "engine": "test 1"} if hello is None else hello
            if first:
                await socket.send_json(first)
            yield socket


MakeRig = Callable[..., AbstractAsyncContextManager[Rig]]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name."""
    with tempfile.TemporaryDirectory(prefix="nc") as folder:
        yield Path(folder)


@pytest.fixture
def make_rig(short_folder: Path) -> MakeRig:
    @asynccontextmanager
    async def make(
        provider: Provider | None = None,
        actions: Sequence[Action[Any]] = (),
        hello_within: float = 10.0,
        ledger: Ledger | None = None,
    ) -> AsyncIterator[Rig]:
        heard, calls = Heard(), Calls(folder=short_folder / "outbox")
        heard.storing.set()
        calls.folder.mkdir()
        root = short_folder / "workers"
        more: Any = {"hello_within": hello_within, "ledger": ledger}
        async with Gateway(root, heard, provider or Demo(), actions, calls, **more) as gateway:
            socket = await gateway.open(identity_of("w1")) / "gateway.sock"
            async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(socket))) as client:
                yield Rig(gateway, heard, calls, socket, client)

    return make


@pytest.fixture
async def rig(make_rig: MakeRig) -> AsyncIterator[Rig]:
    async with make_rig() as made:
        yield made


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def calls() -> Calls:
    return Calls()


@pytest.fixture
def identity() -> Callable[[str], WorkerIdentity]:
    return identity_of
