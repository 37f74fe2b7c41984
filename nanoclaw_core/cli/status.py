"""`nanoclaw status` and `nanoclaw stop`: what the running host says of itself, and its end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence

import anyio
import click

from nanoclaw_core.cli.connection import connect
from nanoclaw_core.cli.text import duration, one_line
from nanoclaw_core.control import Json
from nanoclaw_core.settings import Settings

_GONE = 60.0  # seconds that a host may take to end


def show_status(settings: Settings, as_json: bool) -> None:
    """Print the host's state.

    Raises:
        HostNotRunning: there is none.
    """

    async def ask() -> Json:
        async with connect(settings.home) as client:
            return await client.call("status")

    status = anyio.run(ask)
    if as_json:
        click.echo(json.dumps(status, indent=2, ensure_ascii=False))
        return
    _summary(status)
    now = time.time()
    _table("Channels", ("NAME", "STATE", ""), [(it["name"], it["state"], it.get("reason", "")) for it in status["channels"]])
    _table(
        "Agents", ("NAME", "FOLDER", ""), [(it["name"], it["folder"], "main" if it["main"] else "") for it in status["agents"]]
    )
    _table(
        "Workers",
        ("ID", "AGENT", "STATE", "FOR"),
        [(it["id"], it["agent"], it["state"], duration(now - it["since"])) for it in status["workers"]],
    )


def _summary(status: Json) -> None:
    demo = " (it only echoes; set ANTHROPIC_API_KEY to talk to Claude)" if status["provider"]["demo"] else ""
    broken = [plugin["name"] for plugin in status["plugins"] if plugin["state"] in ("broken", "missing")]
    _table(
        "",
        ("", ""),
        [
            ("Host", f"{status['version']}, pid {status['pid']}, up for {duration(status['uptime'])}"),
            ("Home", status["home"]),
            ("Provider", status["provider"]["name"] + demo),
            ("Runtime", _state(status["runtime"])),
            ("Image", _state(status["image"])),
            ("Waiting", f"{status['waiting']} sessions for a worker"),
            ("Plugins", f"{len(status['plugins'])}" + (f", left out: {', '.join(broken)}" if broken else "")),
        ],
    )


def _state(part: Json) -> str:
    reason = f" ({part['reason']})" if part.get("reason") else ""
    return f"{part['name']}: {part['state']}{reason}"


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    from nanoclaw_core.cli.table import show

    show(title, columns, [[one_line(str(cell), 300) for cell in row] for row in rows])


def stop_host(settings: Settings) -> None:
    """End the running host and wait until its process is gone.

    Raises:
        HostNotRunning: there is none.
    """

    async def end() -> tuple[int, bool]:
        async with connect(settings.home) as client:
            pid: int = (await client.call("stop"))["pid"]
            with anyio.move_on_after(_GONE) as scope:
                await client.gone()
            return pid, not scope.cancelled_caught

    pid, is_gone = anyio.run(end)
    if not is_gone:
        raise click.ClickException(
            f"The host (pid {pid}) has not ended within {_GONE:.0f} s. Its log says why; `kill {pid}` insists."
        )
    click.echo(f"The host (pid {pid}) has ended.")
