"""Starting the host in the background, when a command needs one and none runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio
import click

from nanoclaw_core.cli.connection import RequestFailed, connect
from nanoclaw_core.cli.text import one_line, plain, short_path
from nanoclaw_core.errors import HomeUnusable, HostNotRunning, HostRunning
from nanoclaw_core.settings import Settings

_START = 120.0  # seconds that a host may take to be ready
_OTHER_START = 60.0  # the same, when somebody else starts it


class HostFailed(RequestFailed):
    """The host that was started ended before it was ready; the exit code is its own."""

    def __init__(self, reason: str, log: Path, exit_code: int) -> None:
        super().__init__(f"The host did not start: {reason} (its log: {short_path(log)})", exit_code)


async def ensure_host(settings: Settings) -> None:
    """Return once a host runs on the home; start one, and say so, when there is none.

    Raises:
        HostFailed: with the host's last words. HomeUnusable: its log cannot be written.
    """
    try:
        async with connect(settings.home):
            return
    except HostNotRunning:
        log = settings.home / "logs" / "host.log"
        click.echo(f"Starting the host in the background (its log: {short_path(log)}).", err=True)
    begin = _prepare(settings.home, log)
    process, ready = _start(log)
    try:
        with anyio.fail_after(_START):
            await anyio.wait_readable(ready)
        if os.read(ready, 1):
            return
    except TimeoutError as error:
        process.terminate()
        raise HostFailed(f"it was not ready within {_START:.0f} s", log, 1) from error
    except BaseException:
        process.terminate()
        raise
    finally:
        os.close(ready)
    code = await anyio.to_thread.run_sync(process.wait)
    if code != HostRunning.exit_code:
        raise HostFailed(_last_words(log, begin), log, code if code > 0 else 1)
    await _await_other(settings.home)


def _prepare(home: Path, log: Path) -> int:
    """Make the log and its folder; return where this start's lines will begin."""
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        log.touch(mode=0o600)
        return log.stat().st_size
    except OSError as error:
        raise HomeUnusable(home, f"{log} cannot be written ({error.strerror})") from error


def _start(log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start a host in a session of its own: neither ctrl-C here nor the end of this terminal reaches it.

    What can be read from the descriptor is its line that it is ready; the end of file, that it ended before.
    """
    ready, writing = os.pipe()
    try:
        with log.open("ab") as words:
            process = subprocess.Popen(
                _command(log), stdin=subprocess.DEVNULL, stdout=writing, stderr=words, start_new_session=True
            )
    finally:
        os.close(writing)
    return process, ready


def _command(log: Path) -> list[str]:
    return [sys.executable, "-m", "nanoclaw_core.cli", "serve", "--log-file", str(log)]


async def _await_other(home: Path) -> None:
    """Another process starts a host on this home at the same time, or has just done so."""
    with anyio.move_on_after(_OTHER_START):
        while True:
            try:
                async with connect(home):
                    return
            except HostNotRunning:
                await anyio.sleep(0.1)
    raise HostNotRunning(home)


def _last_words(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - 65536))
        lines = [line.strip() for line in plain(file.read().decode("utf-8", "replace")).splitlines() if line.strip()]
    complaints = [line.removeprefix("nanoclaw: ") for line in lines if line.startswith("nanoclaw: ")]
    return one_line((complaints or lines or ["it wrote nothing"])[-1], 500)
