"""What an assistant costs that has nothing to do."""

from __future__ import annotations

import anyio

from bench import bare, floor
from bench.figures import Figures
from bench.hosts import host, person
from bench.machine import anonymous_memory, container_pids, cpu_seconds, cpu_share, memory

HOST_AIM, HOST_CPU_AIM, WORKER_AIM = 70.0, 0.05, 130.0


async def measure(figures: Figures, seconds: float) -> None:
    async with host({"NANOCLAW_IDLE_TIMEOUT": "3600"}) as found:
        async with person(found.home, found.agents[0]) as somebody:
            await somebody.ask("hello")
        await found.until_all("idle", "paused")
        await anyio.sleep(5)
        pids = [pid for session in (await found.status())["sessions"] for pid in container_pids(session["container"])]
        before = sum(map(cpu_seconds, pids))
        share = await cpu_share(found.process.pid, seconds)
        worker_share = 100 * (sum(map(cpu_seconds, pids)) - before) / seconds
        rss, pss = memory(found.process.pid)
        figures.add("host idle, memory (RSS)", "MiB", [rss], aim=HOST_AIM, floor=bare.MEMORY)
        figures.add("host idle, memory (PSS)", "MiB", [pss])
        figures.add(f"host idle, CPU over {seconds:.0f} s", "% of a core", [share], aim=HOST_CPU_AIM)
        figures.add("idle worker, memory (anonymous)", "MiB", [anonymous_memory(pids)], aim=WORKER_AIM, floor=floor.MEMORY)
        figures.add(f"idle worker, CPU over {seconds:.0f} s", "% of a core", [worker_share], aim=0.01)
