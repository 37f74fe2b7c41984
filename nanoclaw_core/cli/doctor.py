"""`nanoclaw doctor`: what every plugin's checks find, as a table or as JSON, and what `--fix` did about it."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import cache
from typing import Any

import anyio
import click
from anyio import to_thread

from nanoclaw_core import __version__, installed
from nanoclaw_core.cli import logs
from nanoclaw_core.cli.connection import connect
from nanoclaw_core.cli.table import show_findings
from nanoclaw_core.cli.text import one_line
from nanoclaw_core.doctor import examine, mend
from nanoclaw_core.errors import HomeUnusable, HostNotRunning
from nanoclaw_core.host import BUILTINS
from nanoclaw_core.mask import Mask
from nanoclaw_core.offers import choose_model
from nanoclaw_core.plugins import Plugins, load
from nanoclaw_core.ports import CheckContext, CheckResult, CheckStatus, ClosingProvider, Provider, Runtime
from nanoclaw_core.settings import Settings
from nanoclaw_core.supervise import SystemClock

_HOST_ANSWERS_WITHIN = 5.0  # seconds


def run(settings: Settings, as_json: bool, fix: bool) -> int:
    """Examine, mend if asked to, print; 1 when something failed."""
    logs.silence()  # the table says it all
    code = anyio.run(_run, settings, as_json, fix)
    sys.stdout.flush()
    if threading.active_count() > 1:  # a check that was cut still waits in a thread, and would hold up the end
        os._exit(code)
    return code


async def _run(settings: Settings, as_json: bool, fix: bool) -> int:
    plugins, trouble = await to_thread.run_sync(_load, settings)
    done: list[CheckResult] = []
    async with _context(settings, plugins) as context:
        checks = [offer.value for offer in plugins.checks().values()]
        found = trouble + await examine(checks, context)
        if fix and any(line.mend for line in found):
            done = await mend(found)
            found = trouble + await examine(checks, context)
    mask = Mask(settings.secrets(plugins.fields()))
    found, done = _masked(found, mask), _masked(done, mask)
    _print_json(found, done) if as_json else show_findings(_rows(found), _rows(done), _summary(found))
    return int(any(line.status is CheckStatus.FAIL for line in found))


def _load(settings: Settings) -> tuple[Plugins, list[CheckResult]]:
    """The plugins, or the built-in ones alone with the reason why the others are not known."""
    try:
        return load(installed.enabled(settings.home), BUILTINS), []
    except HomeUnusable as error:
        return load([], BUILTINS), [CheckResult(name="plugins", status=CheckStatus.FAIL, reason=str(error))]


@asynccontextmanager
async def _context(settings: Settings, plugins: Plugins) -> AsyncIterator[CheckContext]:
    made: list[Provider] = []

    @cache
    def runtime() -> Runtime:
        return plugins.choose("runtime", settings.runtime).create()

    @cache
    def provider() -> Provider:
        made.append(choose_model(settings, plugins).provider)
        return made[0]

    yield CheckContext(
        home=settings.home,
        variables=settings.variables,
        plugins=plugins.statuses,
        fields=plugins.fields(),
        host=await _ask_host(settings),
        runtime=runtime,
        provider=provider,
        clock=SystemClock(),
        channels={name: offer.value.manifest for name, offer in plugins.channels().items()},
    )
    for each in made:
        if isinstance(each, ClosingProvider):
            await each.aclose()


async def _ask_host(settings: Settings) -> Mapping[str, Any] | None:
    """What the running host says of itself; None when none answers."""
    try:
        with anyio.fail_after(_HOST_ANSWERS_WITHIN):
            async with connect(settings.home) as client:
                return await client.call("status")
    except (HostNotRunning, HomeUnusable, TimeoutError):
        return None


def _masked(lines: Sequence[CheckResult], mask: Mask) -> list[CheckResult]:
    """Whatever a plugin's check, or the error that it met, has said of them."""
    return [replace(line, reason=mask(line.reason), fix=mask(line.fix)) for line in lines]


def _print_json(found: Sequence[CheckResult], done: Sequence[CheckResult]) -> None:
    def plain(lines: Sequence[CheckResult]) -> list[dict[str, str]]:
        return [{"name": it.name, "status": it.status.value, "reason": it.reason, "fix": it.fix} for it in lines]

    report = {"version": __version__, "checks": plain(found), "mended": plain(done)}
    click.echo(json.dumps(report, indent=2, ensure_ascii=False))


def _rows(lines: Sequence[CheckResult]) -> list[tuple[str, str, str, str]]:
    return [(it.status.value, one_line(it.name, 20), one_line(it.reason, 500), one_line(it.fix, 500)) for it in lines]


def _summary(found: Sequence[CheckResult]) -> str:
    failures = sum(line.status is CheckStatus.FAIL for line in found)
    warnings = sum(line.status is CheckStatus.WARN for line in found)
    if not failures and not warnings:
        return "All is well."
    mendable = " `nanoclaw doctor --fix` mends some of it." if any(line.mend for line in found) else ""
    return f"{_count(failures, 'failure')}, {_count(warnings, 'warning')}.{mendable}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")
