"""`nanoclaw plugin new`: a package to begin with, and what to type next."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path

import click

from nanoclaw_core.cli.base import Command
from nanoclaw_core.scaffold import KINDS

_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.command("new", cls=Command)
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option("--folder", metavar="DIR", type=_FOLDER, default=Path(), help="Make it in DIR instead of here.")
def new_plugin(kind: str, name: str, folder: Path) -> None:
    """Write the package of a new plugin, to begin with.

    It has code that works, tests that pass, a README and a CI file, and lies in a new folder, nanoclaw-NAME. Prints what to do
    next.
    """
    from nanoclaw_core.scaffold.package import has_author, main_module, make

    target = make(kind, name, folder.expanduser(), _built_in(kind))
    _warn_of_namesakes(name, target.name)
    click.echo(f"{target}: the {kind.replace('-', ' ')} {name}, which works as it is. Next:\n")
    for command in _next(target, name):
        click.echo(f"  {shlex.join(command)}")
    click.echo(f"\nMake it yours in {target / main_module(kind, name)}; {target / 'README.md'} has the rest.")
    if not has_author(target):
        click.echo(f"Put your name into {target / 'LICENSE'}.")


def _next(target: Path, name: str) -> list[list[str]]:
    """Install it with what its tests need, run them, let the host use it: by the programs of this very environment."""
    python = _program("python", sys.executable)
    nanoclaw = _program("nanoclaw", str(Path(sys.executable).with_name("nanoclaw")))
    place = f"./{target}" if len(target.parts) == 1 else str(target)  # pip takes a bare word for the name of a package
    return [
        [python, "-m", "pip", "install", "--editable", place, "pytest"],
        [python, "-m", "pytest", place],
        [nanoclaw, "plugin", "enable", name],
    ]


def _program(word: str, path: str) -> str:
    """`word`, where the shell finds this program by it, else its path."""
    found = shutil.which(word)
    return word if found is not None and Path(found).parent == Path(path).parent else path


def _built_in(kind: str) -> set[str]:
    """What a plugin's name must not be: a built-in offer of this kind keeps its name, and the plugin would be left out."""
    from nanoclaw_core.cli import logs
    from nanoclaw_core.host import BUILTINS
    from nanoclaw_core.plugins import load

    logs.silence()
    offers = (offer.partition(" ") for status in load((), BUILTINS).statuses for offer in status.offers)
    return {name.replace("_", "-") for offered, _, name in offers if offered == kind}


def _warn_of_namesakes(name: str, distribution: str) -> None:
    from packaging.utils import canonicalize_name

    from nanoclaw_core.installed import discover

    for found in [found for found in discover() if found.name == name]:
        is_same = canonicalize_name(found.distribution) == distribution
        what = "yours takes its place once it is installed" if is_same else "with both installed, NanoClaw leaves both out"
        click.echo(f"Warning: {found.label} is installed and is the plugin {name}, too: {what}.", err=True)
