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
