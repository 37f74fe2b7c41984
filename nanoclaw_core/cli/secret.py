"""`nanoclaw secret ...`: what the secret store holds, without its values."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import click

from nanoclaw_core import installed, secrets
from nanoclaw_core.cli import logs
from nanoclaw_core.cli.table import show as show_table
from nanoclaw_core.cli.text import short_path
from nanoclaw_core.host import BUILTINS
from nanoclaw_core.mask import SHORTEST
from nanoclaw_core.plugins import load
from nanoclaw_core.settings import Settings
from nanoclaw_core.settings import load as load_settings

NEXT_START = "The host uses it from its next start on."


def put(settings: Settings, name: str, from_stdin: bool) -> None:
    """Keep a secret.

    Raises:
        ValueRefused: a name or a value that cannot be kept. HomeUnusable: it cannot be written.
    """
    secrets.require_name(name)
    value = read_stdin(name) if from_stdin else _ask(name)
    say_mended(secrets.put(settings.home, name, value))
    click.echo(f"{name} is kept. {NEXT_START}")
    if len(value) < SHORTEST:
        click.echo(f"It is shorter than {SHORTEST} characters: what is so short is not hidden in logs.", err=True)
    if os.environ.get(name, value) != value:
        click.echo(f"{name} is set in this environment, too, to something else: that wins.", err=True)


def show(settings: Settings, as_json: bool) -> None:
    """Print names, times and users of all secrets."""
    logs.silence()
    users, times = users_of(settings), secrets.set_times(settings.home)
    if as_json:
        rows = [
            {"name": name, "set_at": at, "used_by": users.get(name, []), "overridden": _is_overridden(settings, name)}
            for name, at in times.items()
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    zone = ZoneInfo(settings.timezone)
    lines = [
        (
            name,
            f"{datetime.fromtimestamp(at, zone):%Y-%m-%d %H:%M}",
            ", ".join(users.get(name, [])) or "nobody",
            "the environment has another value, which wins" if _is_overridden(settings, name) else "",
        )
        for name, at in times.items()
    ]
    show_table("Secrets", ("NAME", "SET", "USED BY", ""), lines)


def remove(settings: Settings, name: str) -> None:
    """Forget a secret, and say who misses it.

    Raises:
        UnknownName: there is none with this name.
    """
    logs.silence()
    secrets.remove(settings.home, name)
    if name in load_settings(os.environ, Path.cwd()).variables:
        click.echo(f"{name} is removed. It is also set in the environment or in .env: that is used now.")
        return
    users = users_of(settings).get(name, [])
    missed = f" {' and '.join(users)} will miss it from the next start of the host on." if users else ""
    click.echo(f"{name} is removed.{missed}")


def users_of(settings: Settings) -> dict[str, list[str]]:
    """Whose manifests name a variable, like 'channel telegram'."""
    plugins = load(installed.enabled(settings.home), BUILTINS)
    offers = [("channel", name, offer.value.manifest) for name, offer in plugins.channels().items()]
    offers += [("provider", name, offer.value.manifest) for name, offer in plugins.providers().items()]
    users: dict[str, list[str]] = {}
    for kind, name, manifest in offers:
        for field in manifest.fields:
            users.setdefault(field.variable, []).append(f"{kind} {name}")
    return users


def say_mended(paths: Iterable[Path]) -> None:
    for path in paths:
        click.echo(f"Other users had rights on {short_path(path)}; they have none any more.", err=True)


def read_stdin(name: str) -> str:
    """All of standard input as a secret, which the caller looks at before it keeps it.

    Raises:
        ValueRefused: it is no text.
    """
    return secrets.text_of(name, sys.stdin.buffer.read(secrets.LONGEST + 1))


def _ask(name: str) -> str:
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask at: --stdin reads the value from standard input.")
    value: str = click.prompt(f"{name} (not shown)", hide_input=True, default="", show_default=False, err=True)
    return value


def _is_overridden(settings: Settings, name: str) -> bool:
    return os.environ.get(name, settings.stored.get(name)) != settings.stored.get(name)
