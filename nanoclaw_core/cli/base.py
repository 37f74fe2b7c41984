"""What all commands have in common."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from nanoclaw_core.settings import Settings

_DEBUG = click.Option(["--debug"], is_flag=True, expose_value=False, help="Show the traceback when something goes wrong.")


class Command(click.Command):
    """A command that knows `--debug`; what it does is in `main`."""

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        return [_DEBUG, *super().get_params(ctx)]


class Group(Command, click.Group):
    command_class = Command
    group_class = type


def settings() -> Settings:
    import os

    from nanoclaw_core.settings import load

    return load(os.environ, Path.cwd())


def span(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """What an option with a span of time holds, in seconds."""
    from nanoclaw_core.cli.text import seconds_in

    try:
        return None if text is None else seconds_in(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no span of time such as 90s, 10m, 2h or 1d.") from error
