"""`nanoclaw logs`: what the host wrote, or one of its workers."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import anyio
import click
from anyio import to_thread

from nanoclaw_core import installed
from nanoclaw_core.cli import logs
from nanoclaw_core.cli.loglines import LogFile, LogLine, is_part
from nanoclaw_core.cli.service import manager_of
from nanoclaw_core.cli.text import one_line, plain, short_path
from nanoclaw_core.cli.workerlog import find_worker, written_by
from nanoclaw_core.errors import HomeUnusable, NanoClawError
from nanoclaw_core.host import BUILTINS
from nanoclaw_core.mask import Mask
from nanoclaw_core.plugins import Plugins, load
from nanoclaw_core.settings import Settings

_LINES = 100


class LogMissing(NanoClawError):
    """Nothing was written where the log should be."""

    exit_code = 3


def show_host(
    settings: Settings, *, follow: bool, component: str | None, since: float | None, lines: int | None, as_json: bool
) -> None:
    """Print the last lines of the host's log, and with `follow` what comes, until ctrl-C.

    Raises:
        LogMissing: there is no log file.
    """
    logs.silence()
    journal = _journal(settings)
    if journal:
        click.echo(f"A service runs this host, and its log is in the journal: {journal}", err=True)
    mask = Mask(settings.secrets(_plugins(settings).fields()))
    limit = lines if lines is not None or since is not None else _LINES
    moment = None if since is None else time.time() - since

    def show(found: Iterable[LogLine]) -> None:
        for line in found:
            if line.is_of(component):
                text = line.as_json() if as_json else line.for_people(ZoneInfo(settings.timezone), colors=sys.stdout.isatty())
                click.echo(mask(text))

    with LogFile(settings.home / "logs" / "host.log") as file:
        if not file.is_there and not follow:
            raise LogMissing(_nothing(settings, journal))
        found = file.last(limit, lambda line: line.is_of(component), moment)
        show(found)
        if component is not None and not found:
            for words in _unheard(component, file.components()):
                click.echo(mask(words), err=True)
        if follow:
            show(file.follow())


def show_worker(settings: Settings, name: str, *, follow: bool, lines: int | None) -> None:
    """Print the last lines that a worker wrote, and with `follow` what comes, until it ends.

    Raises:
        UnknownName: no worker is called that, or nothing of it was kept. RuntimeUnavailable: it lives, and cannot be asked.
    """
    logs.silence()
    plugins = _plugins(settings)
    mask = Mask(settings.secrets(plugins.fields()))
    worker = find_worker(settings.home, name)

    async def show() -> None:
        runtime = await to_thread.run_sync(plugins.choose("runtime", settings.runtime).create) if worker.is_living else None
        async for text in written_by(worker, runtime, _LINES if lines is None else lines, follow=follow):
            click.echo(mask(plain(text)))

    anyio.run(show)


def _plugins(settings: Settings) -> Plugins:
    """Those that are enabled; where nobody can tell which, the built-in ones: the log is wanted then most of all."""
    try:
        return load(installed.enabled(settings.home), BUILTINS)
    except HomeUnusable:
        return load([], BUILTINS)


def _journal(settings: Settings) -> str:
    """The command that shows the log of the service on this home, '' where there is none that writes to the journal."""
    if sys.platform == "darwin":
        return ""
    for is_system in (False, True):
        manager = manager_of(settings, is_system)
        if manager.file.exists():
            return f"journalctl {'' if is_system else '--user '}-u {manager.service.name}"
    return ""


def _unheard(component: str, said: Collection[str]) -> Iterator[str]:
    """Nothing for a component that spoke at any time.

    >>> print(*_unheard("wrokers", ["workers", "", "host"]))
    Nothing of 'wrokers' is in the log. It has: host, workers.
    """
    if not any(is_part(name, component) for name in said):
        names = ", ".join(sorted(one_line(name, 60) for name in said if name))
        yield f"Nothing of {one_line(component, 60)!r} is in the log." + (f" It has: {names}." if names else "")


def _nothing(settings: Settings, journal: str) -> str:
    path: Path = settings.home / "logs" / "host.log"
    if journal:
        return f"There is no file {short_path(path)}: read the journal, with `{journal}`."
    return (
        f"There is no log at {short_path(path)}. A host that `nanoclaw chat` starts writes it; `nanoclaw serve` does with "
        f"`--log-file {short_path(path)}`, and writes to standard error otherwise."
    )
