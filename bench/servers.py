"""Processes that the figures of the gateway need: `python -m bench.servers model | gateway URL FOLDER | echo SOCKET`."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any, Final

import anyio
from aiohttp import web

from nanoclaw_core.cli import logs
from nanoclaw_core.gateway.server import Gateway
from nanoclaw_core.ledger.books import Ledger
from nanoclaw_core.ledger.prices import Prices
from nanoclaw_core.models import AgentGroup, Progress, TurnEnd, WorkerIdentity
from nanoclaw_core.ports import WorkerLink
from nanoclaw_core.store.database import open_database
from nanoclaw_core.supervise import SystemClock
from nanoclaw_core.upstream import HttpUpstream

WORKER: Final = "wbench"
SECRET: Final = "a secret of the bench"
_EVENT: Final = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"text":"' + b"x" * 80 + b'"}}\n\n'
_EVENTS: Final = 40


class _Nobody:
    """`WorkerEvents` that does nothing."""

    async def connected(self, worker_id: str, link: WorkerLink) -> None: ...
    async def disconnected(self, worker_id: str) -> None: ...
    async def turn_ended(self, worker_id: str, end: TurnEnd) -> None: ...
    async def progressed(self, worker_id: str, progress: Progress) -> None: ...
    async def previewed(self, worker_id: str, text: str) -> None: ...
    async def failed(self, worker_id: str, detail: str) -> None: ...


class _NoCalls:
    async def once(self, *_: object) -> Any:
        raise NotImplementedError

    async def unheard(self, *_: object) -> set[str]:
        return set()

    async def heard(self, *_: object) -> None: ...

    async def outbox(self, *_: object, more: bool = False) -> Path:
        raise NotImplementedError

    async def release(self, *_: object) -> None: ...


async def _model() -> None:
    application = web.Application(client_max_size=2**26)
    application.router.add_post("/v1/messages", _stream)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await anyio.sleep_forever()


async def _stream(request: web.Request) -> web.StreamResponse:
    await request.read()
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(_EVENTS):
        await response.write(_EVENT)
        await anyio.sleep(0)
    return response


async def _echo(path: str) -> None:
    async def answer(request: web.Request) -> web.WebSocketResponse:
        link = web.WebSocketResponse()
        await link.prepare(request)
        async for message in link:
            await link.send_str(message.data)
        return link

    application = web.Application()
    application.router.add_get("/", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.UnixSite(runner, path).start()
    print(path, flush=True)
    await anyio.sleep_forever()


async def _gateway(url: str, folder: str) -> None:
    provider = HttpUpstream(url, {"x-api-key": "none"})
    agent = AgentGroup(id="a", name="Andy", folder="main")
    digest = hashlib.sha256(SECRET.encode()).hexdigest()
    identity = WorkerIdentity(worker_id=WORKER, session_id="s", agent_group=agent, secret_hash=digest)

    logs.silence()  # standard output says where it listens, and nothing else
    async with (
        open_database(Path(folder) / "nanoclaw.db", backups=None) as database,
        Ledger(database, Prices(Path(folder)), SystemClock(), "UTC", _not_warned, lambda _: None) as ledger,
        Gateway(Path(folder), _Nobody(), provider, [], _NoCalls(), ledger=ledger) as gateway,
    ):
        print(await gateway.open(identity) / "gateway.sock", flush=True)
        await anyio.sleep_forever()


async def _not_warned(_: str) -> None:
    raise NotImplementedError


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["model"]:
            anyio.run(_model)
        case ["gateway", url, folder]:
            anyio.run(_gateway, url, folder)
        case ["echo", path]:
            anyio.run(_echo, path)
