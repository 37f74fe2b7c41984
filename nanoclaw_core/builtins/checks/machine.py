"""The machine: its memory and its clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from anyio import to_thread

from nanoclaw_core.builtins.checks.lines import fail, known, ok, size, warn
from nanoclaw_core.memory import total_bytes
from nanoclaw_core.ports import CheckContext, CheckResult
from nanoclaw_core.settings import Settings, read

_MIB = 1024**2
_FIRST_YEAR = 2025  # no earlier than this was written
_AHEAD = 120.0  # seconds that a stored time may lie ahead of the clock
_SYNCHRONISE = "set it, and have it kept right: `timedatectl set-ntp true`"


async def check(context: CheckContext) -> AsyncIterator[CheckResult]:
    settings = read(context.home, context.variables)
    yield _memory(settings, total_bytes())
    found = await to_thread.run_sync(known, context.home, abandon_on_cancel=True)
    yield _clock(settings.timezone, context.clock.time(), found.newest if found else 0.0)


def _memory(settings: Settings, total: int) -> CheckResult:
    """How many workers there are depends on what they hold, so as many as may work at a time need not fit."""
    one, limit = settings.worker_memory * _MIB, settings.max_memory * _MIB
    said = f"{size(total)}; a worker may use {size(one)}, all together {size(limit or total // 2)}"
    if one > total:
        return fail("memory", f"{said}: not one fits", "lower NANOCLAW_WORKER_MEMORY")
    if limit > total:
        return warn("memory", f"{said}: NANOCLAW_MAX_MEMORY is more than there is", "lower NANOCLAW_MAX_MEMORY")
    return ok("memory", said)


def _clock(zone: str, now: float, newest: float) -> CheckResult:
    local = datetime.fromtimestamp(now, ZoneInfo(zone))
    said = f"{local:%Y-%m-%d %H:%M} in {zone}"
    if local.year < _FIRST_YEAR:
        return fail("clock", f"it says {said}, which cannot be", _SYNCHRONISE)
    if newest > now + _AHEAD:
        stored = datetime.fromtimestamp(newest, UTC)
        return warn(
            "clock", f"it says {said}, but a message came at {stored:%Y-%m-%d %H:%M} UTC: it was set back", _SYNCHRONISE
        )
    return ok("clock", said)
