"""`nanoclaw status` and `nanoclaw stop`: what the running host says of itself, and its end."""

from __future__ import annotations

import json

import anyio
import click

from nanoclaw_core.cli.connection import connect
from nanoclaw_core.cli.table import show as show_table
from nanoclaw_core.cli.text import duration, one_line
from nanoclaw_core.cli.units import STOP_WITHIN
from nanoclaw_core.control import Json
from nanoclaw_core.settings import Settings


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
    show_table("Channels", ("NAME", "STATE", ""), [_safe(it["name"], it["state"], it["reason"]) for it in status["channels"]])
    agents = [_safe(it["name"], f"groups/{it['folder']}", "main" if it["main"] else "") for it in status["agents"]]
    show_table("Agents", ("NAME", "FOLDER", ""), agents)
    sessions = [_safe(it["agent"], it["state"], it["container"] or "") for it in status["sessions"]]
    show_table("Sessions", ("AGENT", "STATE", "CONTAINER"), sessions)


def _summary(status: Json) -> None:
    demo = " (it only echoes; set ANTHROPIC_API_KEY to talk to Claude)" if status["provider"]["demo"] else ""
    broken = [plugin["name"] for plugin in status["plugins"] if plugin["state"] in ("broken", "missing")]
    rows = [
        _safe("Host", f"{status['version']}, pid {status['pid']}, up for {duration(status['uptime'])}"),
        _safe("Home", status["home"]),
        _safe("Provider", status["provider"]["name"] + demo),
        _safe("Runtime", status["runtime"]),
        _safe("Image", f"{status['image']['name']}: {status['image']['state']}"),
        _safe("Waiting", f"{status['waiting']} sessions for their turn or for memory"),
        _safe("Plugins", f"{len(status['plugins'])}" + (f", left out: {', '.join(broken)}" if broken else "")),
    ]
    if blocked := status.get("blocked"):
        rows.append(_safe("Held up", f"{len(blocked)} times, last for {_block(blocked[-1])}"))
    show_table("", ("", ""), rows)


def _block(last: Json) -> str:
    by = f"by the plugin {last['plugin']}" if last["plugin"] else "by no plugin"
    return f"{last['seconds']:.1f} s {by}" + (f" ({last['where']})" if last["where"] else "")


def _safe(*cells: str) -> list[str]:
    return [one_line(cell, 300) for cell in cells]


def stop_host(settings: Settings) -> None:
    """End the running host and wait until its process is gone.

    Raises:
        HostNotRunning: there is none.
    """

    async def end() -> tuple[int, bool]:
        async with connect(settings.home) as client:
            pid: int = (await client.call("stop"))["pid"]
            with anyio.move_on_after(STOP_WITHIN) as scope:
                await client.gone()
            return pid, not scope.cancelled_caught

    pid, is_gone = anyio.run(end)
    if not is_gone:
        raise click.ClickException(
            f"The host (pid {pid}) has not ended within {STOP_WITHIN} s. Its log says why; `kill {pid}` insists."
        )
    click.echo(f"The host (pid {pid}) has ended.")
