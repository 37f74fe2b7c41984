"""The machine: its memory and its clock."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from anyio import to_thread

from nanoclaw_core.builtins.checks.lines import fail, ok, size, warn
from nanoclaw_core.memory import total_bytes
from nanoclaw_core.ports import CheckContext, CheckResult
from nanoclaw_core.settings import Settings, read
from nanoclaw_core.store.inspection import overview

_MIB = 1024**2
_FIRST_YEAR = 2025  # no earlier than this was written
_AHEAD = 120.0  # seconds that a stored time may lie ahead of the clock
_SYNCHRONISE = "set it, and have it kept right: `timedatectl set-ntp true`"


async def check(context: CheckContext) -> AsyncIterator[CheckResult]:
    settings = read(context.home, context.variables)
    yield _memory(settings, total_bytes())
    newest = (await to_thread.run_sync(overview, context.home / "nanoclaw.db", abandon_on_cancel=True)).newest
    yield _clock(settings.timezone, context.clock.time(), newest)


def _memory(settings: Settings, total: int) -> CheckResult:
    one = settings.worker_memory * _MIB
    all_of_them = one * settings.max_turns
    said = f"{size(total)}; {settings.max_turns} workers may use {size(one)} each"
    if one > total:
        return fail("memory", f"{said}: not one fits", "lower NANOCLAW_WORKER_MEMORY")
    if settings.max_memory * _MIB > total:
        return warn("memory", f"{said}: NANOCLAW_MAX_MEMORY is more than there is", "lower NANOCLAW_MAX_MEMORY")
    if all_of_them > total:
        return warn("memory", f"{said}: together more than there is", "lower NANOCLAW_MAX_TURNS or NANOCLAW_WORKER_MEMORY")
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
