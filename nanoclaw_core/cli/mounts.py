"""`nanoclaw mount ...`: which agents see which folders of the owner's."""

from __future__ import annotations

import json
from pathlib import Path

import click

from nanoclaw_core.builtins.mount_allowlist import allow_root, allowlist_path
from nanoclaw_core.cli import logs
from nanoclaw_core.cli.operation import operate
from nanoclaw_core.cli.table import show as show_table
from nanoclaw_core.cli.text import one_line
from nanoclaw_core.errors import MountRefused
from nanoclaw_core.operations import Json
from nanoclaw_core.settings import Settings
from nanoclaw_core.store.inspection import looking
from nanoclaw_core.store.mounts import all_mounts
from nanoclaw_core.workers.folders import listed

_SIGNS = {True: "yes", None: "but", False: "no"}
_REFUSED = 3


def add(settings: Settings, path: str, *, agent: str | None, name: str | None, read_only: bool) -> None:
    """Give an agent a folder.

    Raises:
        MountRefused, RequestFailed: the rules do not allow it.
    """
    logs.silence()
    made = operate(settings, "mount.add", path=str(_real(path)), agent=agent, name=name, read_only=read_only)
    click.echo(f"{_line(made['agent'])} sees {_line(made['source'])} as {made['target']}, {_access(made)}.")
    if made["narrowed"]:
        click.echo(f"But: {_line(made['narrowed'])}.", err=True)
    _warn(made)


def show(settings: Settings, as_json: bool) -> None:
    """Print all mounts."""
    logs.silence()
    found: list[Json] = []
    if (path := settings.home / "nanoclaw.db").exists():
        with looking(path) as connection:
            found = listed(all_mounts(connection))
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    rows = [(_line(each["agent"]), each["name"], _access(each), _line(_folder(each))) for each in found]
    show_table("Mounts", ("AGENT", "NAME", "ACCESS", "FOLDER"), rows)


def remove(settings: Settings, name: str, agent: str | None) -> None:
    """Take a folder from an agent.

    Raises:
        UnknownName, RequestFailed: it has none of this name.
    """
    logs.silence()
    gone = operate(settings, "mount.remove", name=name, agent=agent)
    click.echo(f"{_line(gone['agent'])} does not see {_line(gone['source'])} any more.")


def check(settings: Settings, path: str, *, agent: str | None, read_only: bool, as_json: bool) -> int:
    """Print what each rule says; the exit code."""
    logs.silence()
    found = operate(settings, "mount.check", path=str(_real(path)), agent=agent, read_only=read_only)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return 0 if found["allowed"] else _REFUSED
    rows = [(_SIGNS[each["passed"]], each["rule"], one_line(each["words"], 400)) for each in found["findings"]]
    show_table(f"{_line(found['source'])} for {_line(found['agent'])}", ("", "RULE", "WHY"), rows)
    _warn(found)
    if not found["allowed"]:
        click.echo("It may not be mounted.")
        return _REFUSED
    click.echo(f"It may be mounted, {_access(found)}.")
    return 0


def allow(path: str, *, read_only: bool, description: str) -> None:
    """Write a root into the allowlist.

    Raises:
        AllowlistUnwritable: the file is not in the format, or cannot be written.
    """
    root = _real(path)
    allow_root(allowlist_path(), root, writable=not read_only, description=description)
    click.echo(f"{_line(str(root))} may be given to agents, {'read-only' if read_only else 'to be written as well'}.")
    click.echo(f"It stands in {allowlist_path()}.")


def _real(path: str) -> Path:
    """What the person means from here: absolute, with all links resolved."""
    try:
        return Path(path).expanduser().resolve(strict=True)
    except (OSError, RuntimeError, ValueError) as error:
        raise MountRefused(path, f"it is not there ({getattr(error, 'strerror', None) or error})") from error


def _folder(row: Json) -> str:
    return f"{row['source']} (now {row['notice']})" if row["notice"] else str(row["source"])


def _access(row: Json) -> str:
    return "read-only" if row["read_only"] else "read-write"


def _warn(row: Json) -> None:
    for warning in row["warnings"]:
        click.echo(f"{_line(warning)}.", err=True)


def _line(text: str) -> str:
    return one_line(text, 400)
