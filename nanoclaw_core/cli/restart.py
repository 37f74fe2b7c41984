"""Restarting a host, the way that it was started."""

from __future__ import annotations

import sys
from contextlib import suppress

import anyio
import click

from nanoclaw_core.cli.launch import ensure_host
from nanoclaw_core.cli.operation import is_host_running
from nanoclaw_core.cli.service import ServiceFailed, ServiceManager, manager_of
from nanoclaw_core.cli.status import stop_host
from nanoclaw_core.settings import Settings

_START = "No host runs: `nanoclaw chat` starts one, `nanoclaw service install` one that stays."
_LATER = "The host that runs learns of it at its next start: `nanoclaw stop`, then `nanoclaw chat`; or --restart."


def offer_restart(settings: Settings, is_wanted: bool) -> None:
    """Restart a host that runs, if it is wanted, or if the person at the terminal says so; else say what is to be done."""
    if not is_host_running(settings):
        click.echo(_START)
        return
    if not is_wanted and sys.stdin.isatty():
        is_wanted = click.confirm("Restart the host now, so that it takes effect?", default=True)
    if is_wanted:
        restart(settings)
    else:
        click.echo(_LATER)


def restart(settings: Settings) -> None:
    """Restart the running host: the service that runs it, or else as one in the background.

    Raises:
        ServiceFailed, HostFailed: it did not start again. HostNotRunning: there was none.
    """
    if manager := _running_service(settings):
        click.echo(f"Restarting {manager.service.name} …", err=True)
        manager.start()
        return
    stop_host(settings)
    anyio.run(ensure_host, settings)


def _running_service(settings: Settings) -> ServiceManager | None:
    """The service that runs a host on this home."""
    for is_system in (True, False):
        manager = manager_of(settings, is_system)
        with suppress(ServiceFailed):
            if manager.file.exists():
                manager.require()
                if manager.is_running():
                    return manager
    return None
