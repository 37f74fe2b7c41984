"""`nanoclaw plugin ...`: what is installed, and what of it may run."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from nanoclaw_core import installed
from nanoclaw_core.cli import logs
from nanoclaw_core.cli.table import show as show_table
from nanoclaw_core.cli.text import one_line
from nanoclaw_core.settings import Settings

_NEXT_START = "This takes effect at the next start of the host: `nanoclaw stop`, then `nanoclaw serve` or `nanoclaw chat`."


def show(settings: Settings, as_json: bool) -> None:
    """Print all plugins. Enabled ones are imported to see whether they work."""
    from nanoclaw_core.host import BUILTINS
    from nanoclaw_core.plugins import load

    logs.silence()  # the list says what is broken
    statuses = load(installed.enabled(settings.home), BUILTINS).statuses
    if as_json:
        click.echo(json.dumps([asdict(status) for status in statuses], indent=2))
        return
    rows = [(it.name, it.version or "–", it.state.value, one_line(it.reason or ", ".join(it.offers), 500)) for it in statuses]
    show_table("Plugins", ("NAME", "VERSION", "STATE", "OFFERS, OR WHY NOT"), rows)


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
