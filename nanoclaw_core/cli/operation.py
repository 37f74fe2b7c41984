"""Changing the central database: through the host that runs, or in its place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial

import anyio

from nanoclaw_core.cli.connection import connect
from nanoclaw_core.control import Json
from nanoclaw_core.errors import HostNotRunning
from nanoclaw_core.first_start import ensure_first_agent
from nanoclaw_core.home import own_home
from nanoclaw_core.models import MountRequest, MountVerdict
from nanoclaw_core.operations import operations
from nanoclaw_core.pairing import begin_pairing
from nanoclaw_core.sandbox.mounts import MountRules
from nanoclaw_core.sandbox.spec import worker_user
from nanoclaw_core.settings import Settings
from nanoclaw_core.store.database import open_database
from nanoclaw_core.store.installation import installation_id
from nanoclaw_core.supervise import SystemClock
from nanoclaw_core.workers.folders import Folders


def operate(settings: Settings, method: str, **params: object) -> Json:
    """Do one of the `operations`.

    Raises:
        RequestFailed, or what the operation raises: why it was not done. HostRunning: a host is just starting.
    """
    return anyio.run(partial(_operate, settings, method, params))


async def _operate(settings: Settings, method: str, params: Json) -> Json:
    try:
        async with connect(settings.home) as client:
            return await client.call(method, **params)
    except HostNotRunning:
        return await _operate_alone(settings, method, params)


async def _operate_alone(settings: Settings, method: str, params: Json) -> Json:
    clock = SystemClock()
    os.umask(0o077)  # as the host does
    with own_home(settings.home):
        async with open_database(settings.home / "nanoclaw.db", backups=settings.home / "backups") as database:

            async def pair(channel: str) -> str:
                code, _ = await database.write(partial(begin_pairing, channel=channel, now=clock.time()))
                return code

            await database.write(partial(ensure_first_agent, name=settings.assistant_name, now=clock.time()))
            user = worker_user(await database.write(installation_id))
            rules = MountRules(home=settings.home, judge=partial(_judge, settings), user=user)
            folders = Folders(database=database, rules=rules, clock=clock)
            return await operations(database, clock, pair, folders, settings.timezone)[method](params)


def _judge(settings: Settings, request: MountRequest) -> Mapping[str, MountVerdict]:
    from nanoclaw_core import installed  # here, because other operations ask no plugin
    from nanoclaw_core.host import BUILTINS
    from nanoclaw_core.plugins import load

    return load(installed.enabled(settings.home), BUILTINS).mount_verdicts(request)


def is_host_running(settings: Settings) -> bool:
    """Whether a host answers on the home."""
    return status_of_host(settings) is not None


def status_of_host(settings: Settings) -> Json | None:
    """What the running host says of itself; None when none answers."""

    async def ask() -> Json | None:
        try:
            with anyio.fail_after(5):
                async with connect(settings.home) as client:
                    return await client.call("status")
        except (HostNotRunning, TimeoutError):
            return None

    return anyio.run(ask)
