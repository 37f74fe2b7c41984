"""Runs the checks of `nanoclaw doctor` side by side, each within its time, and mends what mends itself."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import anyio

from nanoclaw_core.errors import NanoClawError
from nanoclaw_core.ports import Check, CheckContext, CheckResult, CheckStatus
from nanoclaw_core.supervise import survive


async def examine(checks: Sequence[Check], context: CheckContext) -> list[CheckResult]:
    """The lines of all checks, in the order of `checks`. One that hangs or fails costs its own lines, and says so."""
    lines: list[list[CheckResult]] = [[] for _ in checks]
    async with anyio.create_task_group() as tasks:
        for check, found in zip(checks, lines, strict=True):
            tasks.start_soon(_examine, check, context, found, name=f"check {check.name}")
    return [line for found in lines for line in found]


async def _examine(check: Check, context: CheckContext, lines: list[CheckResult]) -> None:
    async def collect() -> None:
        async for line in check.run(context):
            if not isinstance(line, CheckResult):
                raise TypeError(f"it yields {type(line).__name__}, not CheckResult")
            lines.append(line)

    with anyio.move_on_after(check.time_limit) as time:
        try:
            if reason := await survive(f"check {check.name}", collect(), passing=(NanoClawError,)):
                lines.append(_failed(check, f"this check itself failed: {reason}"))
        except NanoClawError as error:  # it says what to do
            lines.append(_failed(check, str(error)))
    if time.cancelled_caught:
        lines.append(_failed(check, f"this check had no result after {check.time_limit:g} s"))


def _failed(check: Check, reason: str) -> CheckResult:
    return CheckResult(name=check.name, status=CheckStatus.FAIL, reason=reason)


async def mend(lines: Sequence[CheckResult]) -> list[CheckResult]:
    """Do what the lines offer to do, one after another; return for each what was done, or why it could not be."""
    return [await _mend(line, line.mend()) for line in lines if line.mend is not None]


async def _mend(line: CheckResult, work: Awaitable[str]) -> CheckResult:
    said: list[str] = []

    async def listen() -> None:
        said.append(await work)

    if reason := await survive(f"mending {line.name}", listen()):
        return CheckResult(name=line.name, status=CheckStatus.FAIL, reason=reason, fix=line.fix)
    return CheckResult(name=line.name, status=CheckStatus.OK, reason=said[0])
