"""What the kernel says about processes and control groups, and what kind of machine this is."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import anyio

_TICK: Final = os.sysconf("SC_CLK_TCK")


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


def description() -> str:
    """Processor, memory, and what the workers run on, in a few words."""
    cores = f"{os.cpu_count()} × {processor(Path('/proc/cpuinfo').read_text())}"
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return f"{cores}, {gib:.0f} GiB, Docker {_docker()}, Claude Code {_claude_code()}, Python {platform.python_version()}"


def processor(cpuinfo: str) -> str:
    """The model's name without what is said for the law's sake (proc(5), cpuinfo)."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return " ".join(re.sub(r"\((?:R|TM)\)", "", found[1]).split()) if found else platform.machine()


def _docker() -> str:
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "(none)"


def _claude_code() -> str:
    """The one that the SDK brings, whose version here is that of the image."""
    spec = find_spec("claude_agent_sdk")
    folder = next(iter(spec.submodule_search_locations or ()), "") if spec else ""
    version = Path(folder, "_bundled", "claude.version")
    return version.read_text().split()[0] if version.is_file() else "(none)"
