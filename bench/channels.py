"""What a chat platform costs a host: the same host without it, and with Telegram enabled, whose servers are on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from bench.figures import Figures
from bench.hosts import HostProcess, furnish, running
from bench.machine import cpu_share, memory
from nanoclaw_core import installed
from tests.peers.telegram import TelegramPeer

_READY = "host ready, no platform"
_MEMORY = "host idle, no platform, memory (RSS)"


async def measure(figures: Figures, rounds: int) -> None:
    async with TelegramPeer() as peer:
        await _measure(figures, rounds, {}, "no platform", None)
        variables = {"TELEGRAM_BOT_TOKEN": peer.token, "TELEGRAM_API_URL": peer.url}
        await _measure(figures, rounds, variables, "Telegram enabled", peer)


async def _measure(figures: Figures, rounds: int, variables: Mapping[str, str], name: str, peer: TelegramPeer | None) -> None:
    ready, resident, proportional, share = [], [], [], []
    for _ in range(rounds):
        async with _host(variables, ["telegram"] if peer else []) as found:
            ready.append(found.ready)
            if peer:
                await _connected(found)
            await anyio.sleep(5)
            share.append(await cpu_share(found.process.pid, 10))
            rss, pss = memory(found.process.pid)
            resident.append(rss)
            proportional.append(pss)
    figures.add(f"host ready, {name}", "s", ready, floor=_READY if peer else None)
    figures.add(f"host idle, {name}, memory (RSS)", "MiB", resident, floor=_MEMORY if peer else None)
    figures.add(f"host idle, {name}, memory (PSS)", "MiB", proportional)
    figures.add(f"host idle, {name}, CPU over 10 s", "% of a core", share)


@asynccontextmanager
async def _host(variables: Mapping[str, str], plugins: list[str]) -> AsyncIterator[HostProcess]:
    with tempfile.TemporaryDirectory(prefix="ncb", ignore_cleanup_errors=True) as folder:
        home = Path(folder)
        names = await furnish(home, 1)
        for plugin in plugins:
            installed.enable(home, plugin)
        async with running(home, names, variables) as found:
            yield found


async def _connected(found: HostProcess) -> None:
    """Wait until the channel says that it is running."""
    with anyio.fail_after(30):
        while ("telegram", "running") not in [(each["name"], each["state"]) for each in (await found.status())["channels"]]:
            await anyio.sleep(0.1)
