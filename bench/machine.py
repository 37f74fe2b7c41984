"""What the kernel says about processes and control groups."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Final

import anyio

_TICK: Final = os.sysconf("SC_CLK_TCK")
MIB: Final = 1024 * 1024


def cpu_seconds(pid: int) -> float:
    """What the process and its threads have used (proc(5), fields 14 and 15 of stat)."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) / _TICK


def memory(pid: int) -> tuple[float, float]:
    """Resident and proportional memory of the process, in MiB (proc(5), smaps_rollup)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    rss, pss = (int(re.search(rf"^{kind}:\s+(\d+)", text, re.MULTILINE)[1]) / 1024 for kind in ("Rss", "Pss"))  # type: ignore[index]
    return rss, pss


async def cpu_share(pid: int, seconds: float) -> float:
    """Percent of one core that the process uses."""
    before, began = cpu_seconds(pid), time.monotonic()
    await anyio.sleep(seconds)
    return 100 * (cpu_seconds(pid) - before) / (time.monotonic() - began)


def container_pids(name: str) -> list[int]:
    """The processes of a container, as the host numbers them."""
    output = subprocess.run(["docker", "top", name, "-eo", "pid"], check=True, capture_output=True, text=True).stdout
    return [int(word) for word in output.split()[1:]]


def anonymous_memory(pids: list[int]) -> float:
    """MiB that these processes hold and no file backs."""
    total = 0
    for pid in pids:
        found = re.search(r"^RssAnon:\s+(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
        total += int(found[1]) if found else 0
    return total / 1024
