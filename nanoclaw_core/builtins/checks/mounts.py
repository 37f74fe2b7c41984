"""The folders that agents see: the allowlist, and what of the mounts is refused."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator
from pathlib import Path

from anyio import to_thread

from nanoclaw_core.builtins.checks.lines import fail, ok, warn
from nanoclaw_core.builtins.mount_allowlist import AllowlistUnusable, allowlist_path, read_rules
from nanoclaw_core.errors import DatabaseBroken, HomeUnusable
from nanoclaw_core.models import AgentGroup, AgentMount
from nanoclaw_core.ports import CheckContext, CheckResult
from nanoclaw_core.store.inspection import looking
from nanoclaw_core.store.mounts import all_mounts


async def check(context: CheckContext) -> AsyncIterator[CheckResult]:
    for line in await to_thread.run_sync(_lines, context.home, abandon_on_cancel=True):
        yield line


def _lines(home: Path) -> list[CheckResult]:
    mounts = _mounts(home)
    return [*_allowlist(mounts), *(line for agent, mount in mounts for line in _mount(agent, mount))]


def _mounts(home: Path) -> list[tuple[AgentGroup, AgentMount]]:
    if not (path := home / "nanoclaw.db").exists():
        return []
    try:
        with looking(path) as connection:
            return all_mounts(connection)
    except (DatabaseBroken, HomeUnusable):
        return []  # the line `database` says so


def _allowlist(mounts: list[tuple[AgentGroup, AgentMount]]) -> list[CheckResult]:
    path = allowlist_path()
    try:
        rules = read_rules(path)
    except FileNotFoundError:
        said = f"{path} is not there, so agents can be given no folder"
        return [fail("mounts", said, "`nanoclaw mount allow PATH`")] if mounts else []
    except AllowlistUnusable as error:
        return [fail("mounts", f"{path} cannot be used: {error}", "mend it; docs/mounts.md shows the format")]
    said = "in {} allows nothing: it is gone, or is your whole home folder"
    idle = [warn("mounts", f"the root {root!r} {said.format(path)}", "mend or remove it") for root in rules.idle_roots()]
    count = len(rules.allowed_roots)
    return idle or [ok("mounts", f"{path}: {count} root{'s' * (count != 1)}, {len(mounts)} given to agents")]


def _mount(agent: AgentGroup, mount: AgentMount) -> list[CheckResult]:
    if not mount.notice:
        return []
    fix = f"`nanoclaw mount check {shlex.quote(str(mount.source))}` explains it"
    return [warn("mounts", f"{agent.name} works {mount.notice}", fix)]
