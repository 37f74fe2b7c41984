"""`nanoclaw wiring ...`: which agents hear which chats."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from nanoclaw_core import installed
from nanoclaw_core.cli import logs
from nanoclaw_core.cli.operation import operate
from nanoclaw_core.cli.table import show as show_table
from nanoclaw_core.cli.text import duration, one_line
from nanoclaw_core.errors import UnknownName
from nanoclaw_core.host import BUILTINS
from nanoclaw_core.operations import Json, wirings
from nanoclaw_core.plugins import load
from nanoclaw_core.settings import Settings
from nanoclaw_core.store.inspection import looking

_UNHEARD = "Nobody has written there yet, as far as this host knows: is the id right?"


def create(settings: Settings, *, channel: str, **wish: Any) -> None:  # Any: `NewWiring` checks them
    """Wire a chat.

    Raises:
        UnknownName: there is no such channel or agent. RequestFailed, ChatAmbiguous, InvalidPattern, TriggerInvalid: why not.
    """
    logs.silence()
    channels = load(installed.enabled(settings.home), BUILTINS).channels()
    if channel not in channels:
        raise UnknownName("channel", channel, channels)
    made = operate(settings, "wiring.create", channel=channel, **wish)
    what = "hears" if made["is_new"] else "now hears"
    click.echo(f"{_line(made['agent'])} {what} {_chat(made)}: {_hears(made)}. (Wiring {made['id']}.)")
    if not made["is_known"]:
        click.echo(_UNHEARD, err=True)


def show(settings: Settings, as_json: bool) -> None:
    """Print the wirings, and the chats that wrote without one."""
    logs.silence()
    path = settings.home / "nanoclaw.db"
    found: Json = {"wirings": [], "unwired": []}
    if path.exists():
        with looking(path) as connection:
            found = wirings(connection)
    if as_json:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        return
    rows = [(each["id"], _line(each["channel"]), _chat(each), _line(each["agent"]), _hears(each)) for each in found["wirings"]]
    show_table("Wirings", ("ID", "CHANNEL", "CHAT", "AGENT", "HEARS"), rows)
    now = time.time()
    others = [
        (_line(each["channel"]), _line(each["chat"]), str(each["count"]), f"{duration(now - each['last_seen'])} ago")
        for each in found["unwired"]
    ]
    show_table("Chats that wrote, and that nobody wired", ("CHANNEL", "ID", "MESSAGES", "LAST"), others)
    if others:
        click.echo("`nanoclaw wiring create --channel NAME --chat ID` lets an agent hear one. Nothing said there was stored.")


def remove(settings: Settings, wiring_id: str) -> None:
    """Remove a wiring.

    Raises:
        UnknownName: there is none with this id.
    """
    logs.silence()
    gone = operate(settings, "wiring.remove", id=wiring_id)
    click.echo(f"{_line(gone['agent'])} does not hear {_chat(gone)} any more.")


def _chat(row: Json) -> str:
    name = f"{row['chat_name']} ({row['chat']})" if row["chat_name"] else row["chat"]
    return _line(name + (f" of {row['account']}" if row["account"] else ""))


def _hears(row: Json) -> str:
    if row["mode"] == "mention":
        return _line(f"what mentions it or says {row['trigger']}")
    return "everything" if row["trigger"] == "." else _line(f"what matches {row['trigger']}")


def _line(text: str) -> str:
    return one_line(text, 100)
