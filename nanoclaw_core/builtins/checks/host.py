"""The host: whether it runs and answers, and what one that died has left at the sockets."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from anyio import to_thread

from nanoclaw_core import __version__
from nanoclaw_core.builtins.checks.lines import fail, known, ok, warn
from nanoclaw_core.home import own_home, owner
from nanoclaw_core.ports import CheckContext, CheckResult

_CONTROL = "control.sock"


async def check(context: CheckContext) -> AsyncIterator[CheckResult]:
    """The host, and the folders of workers that are no more."""
    if context.host and (held_up := _held_up(context.host.get("blocked", []))):
        yield held_up
    yield _running(context) if context.host else await to_thread.run_sync(_absent, context.home, abandon_on_cancel=True)
    for line in await to_thread.run_sync(_folders, context, abandon_on_cancel=True):
        yield line


def _running(context: CheckContext) -> CheckResult:
    host = context.host or {}
    who = f"it runs and answers (version {host['version']}, pid {host['pid']})"
    if host["version"] != __version__:
        restart = "`nanoclaw stop`, then start it again"
        return warn("host", f"{who}, but {__version__} is installed", restart)
    return ok("host", who)


def _held_up(blocks: Sequence[Mapping[str, Any]]) -> CheckResult | None:
    """What kept everything else waiting: a plugin that is named; NanoClaw itself; or a machine that is overloaded."""
    if not blocks:
        return None
    guilty = Counter(str(block["plugin"]) for block in blocks if block["plugin"])
    longest = max(blocks, key=lambda block: float(block["seconds"]))
    place = longest["where"] or "an unknown place"
    said = f"everything was held up {len(blocks)} times, for {longest['seconds']:.1f} s at most, in {place}"
    if not guilty:
        return warn("event loop", f"{said}; no plugin was at work", "if it repeats on a machine that is not busy, report it")
    names = ", ".join(f"{name} ({count} times)" for name, count in guilty.most_common())
    fix = f"tell its author (`nanoclaw logs` has the places), or `nanoclaw plugin disable {guilty.most_common(1)[0][0]}`"
    return warn("event loop", f"{said}; by plugins: {names}", fix)


def _absent(home: Path) -> CheckResult:
    pid = owner(home)
    if pid is not None:
        who, kill = (f" (pid {pid})", f"`kill {pid}`, if need be `kill -9 {pid}`; then ") if pid else ("", "")
        return fail("host", f"one runs{who}, but does not answer", f"{kill}`nanoclaw chat` starts another")
    if (home / _CONTROL).is_socket():
        return warn(
            "host",
            "none runs; the last one was killed, and left its control socket",
            "`nanoclaw chat` starts one; nothing is lost",
            partial(_remove_control_socket, home),
        )
    return ok("host", "none runs; `nanoclaw chat` starts one")


async def _remove_control_socket(home: Path) -> str:
    with own_home(home):
        (home / _CONTROL).unlink(missing_ok=True)
    return f"removed {_CONTROL}, which the last host left"


def _folders(context: CheckContext) -> list[CheckResult]:
    """The folders with the sockets of workers, as far as no worker lives there."""
    folder = context.home / "workers"
    there = {path.name for path in folder.iterdir() if path.is_dir()} if folder.is_dir() else set()
    found = known(context.home) if there else None
    if found is None:  # also where nobody can say whose they are
        return []
    dead = sorted(there - found.live_workers)
    if not dead:
        return [ok("sockets", f"folders of workers: {len(there)}, all in use")]
    mend = None if context.host else partial(_remove_folders, context.home, dead)
    reason = f"{len(dead)} folders below workers/ belong to workers that are no more"
    return [warn("sockets", reason, "`nanoclaw doctor --fix` while no host runs removes them", mend)]


async def _remove_folders(home: Path, dead: list[str]) -> str:
    with own_home(home):
        for name in dead:
            await to_thread.run_sync(shutil.rmtree, home / "workers" / name)
    return f"removed {len(dead)} folders of workers that are no more"
