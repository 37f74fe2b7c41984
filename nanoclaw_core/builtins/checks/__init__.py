"""The lines of `nanoclaw doctor` that NanoClaw itself offers, through the hook that every plugin may use."""

from __future__ import annotations

from collections.abc import Iterable

from nanoclaw_core.builtins.checks import channels, containers, database, home, host, machine, messages, mounts, setup
from nanoclaw_core.hookspecs import hookimpl
from nanoclaw_core.ports import Check

_SLOW = 60.0  # seconds for what reads whole files


@hookimpl
def nanoclaw_checks() -> Iterable[Check]:
    return [
        Check(name="host", run=host.check),
        Check(name="channels", run=channels.check),
        Check(name="runtime", run=containers.check),
        Check(name="provider", run=setup.check_provider),
        Check(name="settings", run=setup.check_settings),
        Check(name="prices", run=setup.check_prices),
        Check(name="plugins", run=setup.check_plugins),
        Check(name="packages", run=setup.check_packages),
        Check(name="home", run=home.check),
        Check(name="database", run=database.check, time_limit=_SLOW),
        Check(name="mailboxes", run=database.check_mailboxes, time_limit=_SLOW),
        Check(name="messages", run=messages.check, time_limit=_SLOW),
        Check(name="mounts", run=mounts.check),
        Check(name="machine", run=machine.check),
    ]
