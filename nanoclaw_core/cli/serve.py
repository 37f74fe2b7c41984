"""`nanoclaw serve`: the host and its control socket in the foreground."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

import anyio
import structlog
from anyio.abc import TaskStatus

from nanoclaw_core import __version__
from nanoclaw_core.cli import logs
from nanoclaw_core.control import ControlServer, socket_path
from nanoclaw_core.loopwatch import LoopWatch
from nanoclaw_core.mask import Mask
from nanoclaw_core.settings import Settings

log = structlog.get_logger()

_M_ARENA_MAX: Final = -8  # see mallopt(3)


def run(settings: Settings, log_file: Path | None) -> int:
    """Serve until a signal or `nanoclaw stop`; 130 when it was ctrl-C."""
    mask = Mask(settings.secrets())
    logs.configure(settings.log_level, log_file, mask)
    os.umask(0o077)  # what the host writes is for its owner alone; what workers read is given to them by name
    _take_files()
    keep_memory_together()
    with LoopWatch() as watch:
        return anyio.run(_serve, settings, mask, watch, backend_options={"loop_factory": watch.new_loop})


def _take_files() -> None:
    """Use as many open files as the system allows: each connection of a worker is one, and the usual limit is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError):  # macOS calls the hard limit infinite, and takes no such number
        log.debug("host.file_limit_stays", limit=soft)


def keep_memory_together() -> None:
    """Let all threads allocate from one heap.

    glibc gives them up to eight per core, and what the mailboxes' threads free in each stays there: after 2,000 turns, a fifth
    of what the host held was such leftovers.
    """
    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


async def _serve(settings: Settings, mask: Mask, watch: LoopWatch) -> int:
    stop = anyio.CancelScope()
    signals: list[int] = []
    async with anyio.create_task_group() as tasks:
        await tasks.start(_heed_signals, stop, signals)
        with stop:
            await _run_host(settings, stop, mask, watch)
        tasks.cancel_scope.cancel()
    log.info("host.stopped", home=str(settings.home))
    return 130 if signals == [signal.SIGINT] else 0


async def _heed_signals(stop: anyio.CancelScope, signals: list[int], *, task_status: TaskStatus[None]) -> None:
    """End gracefully at the first signal, at once at the second."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as received:
        task_status.started()
        async for number in received:
            if signals:
                os._exit(128 + number)
            signals.append(number)
            log.info("host.stopping", signal=signal.Signals(number).name)
            stop.cancel()


async def _run_host(settings: Settings, stop: anyio.CancelScope, mask: Mask, watch: LoopWatch) -> None:
    from nanoclaw_core.host import open_host

    async with open_host(settings, mask=mask, watch=watch) as host, anyio.create_task_group() as tasks:
        await tasks.start(host.run)
        await tasks.start(ControlServer(host, socket_path(settings.home), stop.cancel).serve)
        _say_ready(settings)


def _say_ready(settings: Settings) -> None:
    """One line for whoever started this; it may have left meanwhile. systemd is told in its own way."""
    _notify("READY=1")
    try:
        print(f"nanoclaw {__version__} is ready on {settings.home} (pid {os.getpid()}).", flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _notify(state: str) -> None:
    """Tell systemd, where it started this and asked for it (see sd_notify(3))."""
    address = os.environ.pop("NOTIFY_SOCKET", "")  # not for the children
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        try:
            manager.sendto(state.encode(), address.replace("@", "\0", 1) if address.startswith("@") else address)
        except OSError as error:
            log.warning("host.not_announced", reason=str(error))
