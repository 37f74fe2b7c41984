"""`nanoclaw backup`: make a backup while the host runs, verify it, restore it."""

from __future__ import annotations

import json
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

import anyio
import click
import msgspec
from anyio import to_thread
from rich.console import Console

from nanoclaw_core import installed
from nanoclaw_core.backup.making import Backup, Wanted
from nanoclaw_core.backup.records import DATABASE, Manifest
from nanoclaw_core.backup.restoring import restore as restore_file
from nanoclaw_core.backup.verifying import verify as verify_file
from nanoclaw_core.backup.workspaces import Workspaces
from nanoclaw_core.backup.writer import failures_of, new_file
from nanoclaw_core.cli import logs
from nanoclaw_core.cli.text import one_line, short_path
from nanoclaw_core.errors import NanoClawError, RuntimeUnavailable
from nanoclaw_core.ports import ReadingRuntime
from nanoclaw_core.settings import Settings
from nanoclaw_core.supervise import SystemClock

_SHOWN: Final = 10  # of what was left out
_STANDARD_OUTPUT: Final = "-"


class BackupMissing(NanoClawError):
    """There is no such backup, or nothing that could become one."""

    exit_code = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What the person asked for."""

    secrets: bool
    workspaces: bool
    logs: bool
    force: bool


def create(settings: Settings, file: Path | None, choice: Choice, as_json: bool) -> None:
    """Back up into `file`, or to standard output, and say what is in it.

    Raises:
        BackupFailed: nothing of it is left. RuntimeUnavailable: the agents' folders cannot be read. BackupMissing: there is
            nothing to back up.
    """
    logs.silence()
    is_stream = str(file) == _STANDARD_OUTPUT
    if is_stream and as_json:
        raise click.UsageError("--json prints where the backup would go: name a FILE.")
    if is_stream and sys.stdout.isatty():
        raise click.UsageError("A backup is nothing to read: name a FILE, or send standard output elsewhere.")
    path = file or Path(f"nanoclaw-{datetime.now().astimezone():%Y%m%d-%H%M%S}.tar.gz")
    target = nullcontext(sys.stdout.buffer) if is_stream else new_file(path, force=choice.force)
    try:
        with failures_of("on standard output" if is_stream else path), target as out:
            if not (settings.home / DATABASE).exists():
                raise BackupMissing("There is nothing to back up yet: `nanoclaw chat` begins.")
            made = anyio.run(_create, settings, choice, out)
            out.flush()
    except FileExistsError as error:
        raise click.UsageError(f"{path} is there already; --force overwrites it.") from error
    if as_json:
        _print_json(path, made)
        return
    size = "" if is_stream else f" ({_size(path.stat().st_size)})"
    where = "standard output" if is_stream else short_path(path)
    click.echo(f"{short_path(settings.home)} is backed up in {where}{size}: {_contents(made)}.", err=is_stream)
    if choice.secrets and (settings.stored or (settings.home / ".env").exists()):
        click.echo("It holds the credentials: keep it as safe as them, or make one --without-secrets.", err=is_stream)
    _tell_shortcomings(made)


async def _create(settings: Settings, choice: Choice, out: BinaryIO) -> Manifest:
    workspaces = await _workspaces(settings) if choice.workspaces else None
    wanted = Wanted(workspaces=workspaces, secrets=choice.secrets, logs=choice.logs)
    return await Backup(home=settings.home, clock=SystemClock(), wanted=wanted).write(out)


async def _workspaces(settings: Settings) -> Workspaces:
    """What reads the agents' folders; the worker image is built first where it is missing.

    Raises:
        RuntimeUnavailable: with the way to go on without.
    """
    from nanoclaw_core.cli.image import Progress
    from nanoclaw_core.host import BUILTINS
    from nanoclaw_core.plugins import load
    from nanoclaw_core.sandbox.image import WorkerImage

    plugins = await to_thread.run_sync(partial(load, installed.enabled(settings.home), BUILTINS))
    runtime = plugins.choose("runtime", settings.runtime).create()
    if not isinstance(runtime, ReadingRuntime):
        raise RuntimeUnavailable(settings.runtime, "it cannot read folders for a backup", _WITHOUT)
    image = WorkerImage.of(settings, runtime)
    try:
        if await runtime.has_image(tag := await image.tag()):
            return Workspaces(runtime=runtime, image=tag)
        with Progress(Console(file=sys.stderr, highlight=False), verbose=False) as progress:
            return Workspaces(runtime=runtime, image=await image.ensure(progress.report))
    except RuntimeUnavailable as error:
        raise RuntimeUnavailable(error.runtime, error.reason, f"{error.advice} {_WITHOUT}") from error


_WITHOUT: Final = "The agents' folders are read by way of a container: --without-workspaces leaves them out."


def verify(file: Path, as_json: bool) -> None:
    """Say that `file` can be restored.

    Raises:
        BackupMissing, BackupUnusable, BackupTooNew: why not.
    """
    logs.silence()
    _require_file(file)
    found = verify_file(file)
    if as_json:
        _print_json(file, found)
        return
    click.echo(f"{short_path(file)} is whole, and this version can restore it: {_contents(found)}.")
    click.echo(f"NanoClaw {found.version} made it at {_moment(found.created_at)}.")
    _tell_shortcomings(found)


def restore(settings: Settings, file: Path, home: Path | None, replace: bool) -> None:
    """Make the home, or `home`, what the backup holds.

    Raises:
        BackupMissing, BackupUnusable, BackupTooNew, HomeUnusable, HostRunning: everything is as it was.
    """
    logs.silence()
    _require_file(file)
    target = (home or settings.home).absolute()
    found, aside = restore_file(file, target, SystemClock(), replace=replace)
    click.echo(f"{short_path(target)} is as it was at {_moment(found.created_at)}: {_contents(found)}.")
    if aside is not None:
        click.echo(f"What was there is in {short_path(aside)}: never start a host on both.")
    if not replace:
        click.echo("It is an installation of its own. Where the first one goes on, let only one of them have the channels.")
    _tell_shortcomings(found)
    start = "nanoclaw serve" if target == settings.home.absolute() else f"NANOCLAW_HOME={target} nanoclaw serve"
    click.echo(f"Start it: `{start}`.")


def _require_file(file: Path) -> None:
    if str(file) == _STANDARD_OUTPUT:
        raise click.UsageError("A backup is read from a file.")
    if not file.exists():
        raise BackupMissing(f"There is no file {file}.")


def _print_json(file: Path, manifest: Manifest) -> None:
    values = {"file": str(file), "size": file.stat().st_size, **msgspec.to_builtins(manifest)}
    click.echo(json.dumps(values, indent=2))


def _tell_shortcomings(manifest: Manifest) -> None:
    """Say what is not in it."""
    for folder in manifest.damaged:
        click.echo(f"nanoclaw: the mailbox {folder} is damaged: kept as it is, and begun anew where it is restored.", err=True)
    for name, reason in manifest.left_out[:_SHOWN]:
        click.echo(f"nanoclaw: left out {one_line(name, 200)}: {one_line(reason, 100)}", err=True)
    if (more := len(manifest.left_out) - _SHOWN) > 0:
        click.echo(f"nanoclaw: left out {more} more; --json lists them.", err=True)


def _contents(manifest: Manifest) -> str:
    return f"{manifest.members:,} files and folders, {_size(manifest.bytes)}"


def _size(count: int) -> str:
    """A number of bytes as people say it."""
    size, units = float(count), ["bytes", "KB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size, units = size / 1000, units[1:]
    return f"{size:.0f} {units[0]}" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def _moment(seconds: float) -> str:
    return f"{datetime.fromtimestamp(seconds).astimezone():%Y-%m-%d %H:%M:%S %Z}"
