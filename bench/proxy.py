"""What the gateway adds: to a model's stream, to twenty at once, and to a frame of the link."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import anyio

from bench.figures import Figures
from bench.servers import SECRET, WORKER

STREAMS: Final = 20
_ECHO: Final = "floor: WebSocket echo over a Unix socket"
_TEXT: Final = {"role": "user", "content": "x" * 60_000}
_BODY: Final = json.dumps({"model": "m", "max_tokens": 1, "stream": True, "messages": [_TEXT]})


async def measure(figures: Figures, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="ncb") as folder:
        async with server("model") as url, server("gateway", url, folder) as socket, aiohttp.ClientSession() as direct:
            connector = aiohttp.UnixConnector(path=socket, limit=0)
            async with aiohttp.ClientSession(connector=connector) as proxied:
                await _streams(figures, direct, url, proxied, rounds)
                await _echo(figures, folder, rounds)
                await _link(figures, proxied, rounds)


@asynccontextmanager
async def server(*words: str) -> AsyncIterator[str]:
    """A process of its own that prints where it listens."""
    command = [sys.executable, "-m", "bench.servers", *words]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield (await anyio.to_thread.run_sync(process.stdout.readline)).strip()
    finally:
        process.terminate()
        process.wait()


async def _streams(
    figures: Figures, direct: aiohttp.ClientSession, url: str, proxied: aiohttp.ClientSession, rounds: int
) -> None:
    first, whole, floors = [], [], []
    for _ in range(rounds):  # in turn, so that whatever else the machine does meets both
        bare = await _ask(direct, url)
        ours = await _ask(proxied, "http://gateway")
        floors.append(bare[1])
        first.append(ours[0] - bare[0])
        whole.append(ours[1] - bare[1])
    figures.add("model proxy: one stream of 40 events, without it", "ms", [1000 * each for each in floors])
    figures.add("model proxy: added until the first byte", "ms", [1000 * each for each in first])
    figures.add("model proxy: added to the whole stream", "ms", [1000 * each for each in whole])
    bare_many = [await _many(direct, url) for _ in range(5)]
    ours_many = [await _many(proxied, "http://gateway") for _ in range(5)]
    without = figures.add(f"model proxy: {STREAMS} streams at once, without it", "ms", bare_many)
    figures.add(f"model proxy: {STREAMS} streams at once, through it", "ms", ours_many, floor=without.name)


async def _ask(session: aiohttp.ClientSession, url: str) -> tuple[float, float]:
    """Seconds until the first byte and until the last."""
    began = time.perf_counter()
    headers = {"content-type": "application/json", "anthropic-version": "2023-06-01"}
    async with session.post(f"{url}/v1/messages", data=_BODY, headers=headers) as response:
        response.raise_for_status()
        await response.content.readany()
        first = time.perf_counter() - began
        await response.read()
    return first, time.perf_counter() - began


async def _many(session: aiohttp.ClientSession, url: str) -> float:
    """Milliseconds until the last of them has ended."""
    began = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(STREAMS):
            tasks.start_soon(_ask, session, url)
    return 1000 * (time.perf_counter() - began)


async def _echo(figures: Figures, folder: str, rounds: int) -> None:
    """A frame of that size up and down again, with nothing that reads it."""
    took = []
    async with (
        server("echo", str(Path(folder, "echo.sock"))) as path,
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(path=path)) as session,
        session.ws_connect("http://echo/") as link,
    ):
        for number in range(rounds):
            began = time.perf_counter()
            await link.send_json(_frame(number))
            await link.receive_json()
            took.append(1000 * (time.perf_counter() - began))
    figures.add(_ECHO, "ms", took)


async def _link(figures: Figures, session: aiohttp.ClientSession, rounds: int) -> None:
    """A frame up, its acknowledgement down, with nothing stored."""
    took = []
    async with session.ws_connect("http://gateway/link", headers={"Authorization": f"Bearer {SECRET}"}) as link:
        await link.send_json({"type": "hello", "protocols": [1], "worker": WORKER, "engine": "bench"})
        await link.receive_json()
        for number in range(rounds):
            began = time.perf_counter()
            await link.send_json(_frame(number))
            await link.receive_json()
            took.append(1000 * (time.perf_counter() - began))
    figures.add("link round trip: end of turn to acknowledgement", "ms", took, floor=_ECHO)


def _frame(number: int) -> dict[str, object]:
    usage = dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "model_calls"), 1)
    frame = {"type": "turn_end", "id": f"{WORKER}-{number}", "covered": ["u"], "text": "Done.", "conversation": "c"}
    return {**frame, "failure": None, "usage": usage}
