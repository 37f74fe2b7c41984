"""`nanoclaw plugin ...`: what is installed, and what of it may run."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import click
from packaging.utils import canonicalize_name

from nanoclaw_core import installed
from nanoclaw_core.cli import logs
from nanoclaw_core.cli.table import show as show_table
from nanoclaw_core.cli.table import show_notes
from nanoclaw_core.cli.text import one_line
from nanoclaw_core.errors import DatabaseBroken, HomeUnusable
from nanoclaw_core.models import PluginState
from nanoclaw_core.packages.leftovers import Leftover, leftovers
from nanoclaw_core.packages.lockfile import read_lock
from nanoclaw_core.packages.notice import compare, keep_up
from nanoclaw_core.packages.records import Lock
from nanoclaw_core.plugins import Plugins, load
from nanoclaw_core.settings import Settings

_NEXT_START = "This takes effect at the next start of the host: `nanoclaw stop`, then `nanoclaw serve` or `nanoclaw chat`."


def show(settings: Settings, as_json: bool) -> None:
    """Print all plugins. Enabled ones are imported to see whether they work."""
    from nanoclaw_core.host import BUILTINS

    logs.silence()  # the list says what is broken
    plugins = load(installed.enabled(settings.home), BUILTINS)
    changes, sources = _packages(settings.home, plugins)
    gone = _leftovers(settings, plugins)
    if as_json:
        known = [
            {**asdict(status), "source": sources.get(canonicalize_name(status.distribution), "")} for status in plugins.statuses
        ]
        click.echo(
            json.dumps([*known, *({"name": it.name, "state": "uninstalled", "data": it.words} for it in gone)], indent=2)
        )
        return
    rows = [
        (it.name, it.version or "–", it.state.value, one_line(it.reason or ", ".join(it.offers), 500))
        for it in plugins.statuses
    ]
    rows += [(one_line(it.name, 48), "–", "uninstalled", f"its data is still there: {one_line(it.words, 500)}") for it in gone]
    show_table("Plugins", ("NAME", "VERSION", "STATE", "OFFERS, OR WHY NOT"), rows)
    show_notes([f"Noticed: {one_line(change, 300)}." for change in changes])


def _packages(home: Path, plugins: Plugins) -> tuple[list[str], dict[str, str]]:
    """What somebody else's pip changed, which is recorded where the home can be written; and where each package is from."""
    can_write = os.access(home, os.W_OK)
    try:
        changes = keep_up(home, plugins.remains(), time.time()) if can_write else list(compare(home).differences)
        lock = read_lock(home) or Lock()
    except HomeUnusable as error:
        return [str(error).rstrip(".")], {}
    if lock.unfinished is not None:
        changes = [f"a change was cut short ({lock.unfinished.made_by}): `nanoclaw plugin rollback` restores what was there"]
    return changes, {package.name: package.source for package in lock.current.packages}


def _leftovers(settings: Settings, plugins: Plugins) -> list[Leftover]:
    try:
        names = [status.name for status in plugins.statuses if status.state is not PluginState.MISSING]
        return leftovers(settings.home, names, plugins.channels(), settings.variables)
    except (DatabaseBroken, HomeUnusable):  # `nanoclaw doctor` says so
        return []


def enable(settings: Settings, name: str) -> None:
    """Enable a plugin.

    Raises:
        UnknownName: it is not installed. PluginUnusable: two distributions carry the name.
    """
    logs.silence()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    installed.enable(settings.home, name)
    click.echo(f"{name} is enabled. {_NEXT_START}")


def disable(settings: Settings, name: str) -> None:
    """Disable a plugin.

    Raises:
        UnknownName: it is neither enabled nor installed.
    """
    logs.silence()
    settings.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    installed.disable(settings.home, name)
    click.echo(f"{name} is disabled. {_NEXT_START}")
