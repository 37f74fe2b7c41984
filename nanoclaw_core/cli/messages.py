"""`nanoclaw messages` and `nanoclaw why`: what became of messages, for people and as JSON."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import anyio
import click

from nanoclaw_core.builtins.terminal import NAME as TERMINAL
from nanoclaw_core.cli import logs
from nanoclaw_core.cli.connection import connect
from nanoclaw_core.cli.table import show as show_table
from nanoclaw_core.cli.text import duration, one_line, short_path
from nanoclaw_core.errors import HomeUnusable, HostNotRunning
from nanoclaw_core.history import outcomes
from nanoclaw_core.history.outcomes import Outcome, Standing, State
from nanoclaw_core.history.timeline import Moment, Timeline, timeline
from nanoclaw_core.settings import Settings

#: People come back to a terminal, and what was said waits for them: that is no trouble.
_PATIENT: Final = frozenset({TERMINAL})
_WORDS: Final = {
    State.UNROUTED: "not routed yet",
    State.IGNORED: "ignored: no agent heard it",
    State.INTERRUPTED: "interrupted",
}


def show_messages(settings: Settings, limit: int, agent: str | None, chat: str | None, as_json: bool) -> int:
    """Print the newest messages."""
    logs.silence()
    found = outcomes.newest(settings.home, limit, agent=agent, chat=chat)
    if as_json:
        _print_json({"messages": [_message(each) for each in found], "faults": []})
    elif not found:
        click.echo(f"No message{' like that' if agent or chat else ''} has come yet to {short_path(settings.home)}.")
    else:
        _table(found, ZoneInfo(settings.timezone))
    return 0


def show_stuck(settings: Settings, agent: str | None, chat: str | None, as_json: bool) -> int:
    """Print what is stuck; 1 when something is."""
    logs.silence()
    now = time.time()
    found = outcomes.stuck(settings.home, now, _PATIENT, agent=agent, chat=chat)
    if as_json:
        _print_json({"messages": [_message(each) for each in found.messages], "faults": list(found.faults)})
    elif not found.messages and not found.faults:
        click.echo("Nothing is stuck: every message has an outcome, or is within its time.")
    else:
        if found.messages:
            _table(found.messages, ZoneInfo(settings.timezone))
        for fault in found.faults:
            click.echo(one_line(f"A mailbox cannot be asked: {fault}. `nanoclaw doctor` says what to do.", 500))
        if advice := _advice(settings, found.messages):
            click.echo(advice)
    return int(bool(found.messages or found.faults))


def show_why(settings: Settings, number: int, as_json: bool) -> None:
    """Print a message's way.

    Raises:
        MessageUnknown: there is none with that number.
    """
    logs.silence()
    found = timeline(settings.home, number)
    if as_json:
        _print_json(_why(found))
        return
    zone, message = ZoneInfo(settings.timezone), found.standing.message
    came = datetime.fromtimestamp(message.received_at, zone)
    show_table("", ("", ""), [(name, text) for name, text in _head(found, zone).items()])
    several = len({each.agent for each in found.moments} - {""}) > 1
    rows = [_moment(each, came, several) for each in found.moments]
    show_table("Timeline", ("AFTER", "AT", "WHAT"), rows)


# --- for people -----------------------------------------------------------------------------------------------------------


def _table(found: Sequence[Standing], zone: ZoneInfo) -> None:
    width = shutil.get_terminal_size().columns
    today = datetime.now(zone)
    rows = [
        (
            str(each.message.number),
            _time(each.message.received_at, today),
            one_line(f"{each.message.channel} {_chat(each)}", max(12, width // 6)),
            one_line(_said(each), max(16, width // 3)),
            one_line(_outcomes(each, today), 160),
        )
        for each in found
    ]
    show_table("Messages", ("NUMBER", "CAME", "CHAT", "MESSAGE", "OUTCOME"), rows)


def _chat(found: Standing) -> str:
    name = found.message.chat_name or found.message.chat
    return "" if name == found.message.channel else name


def _said(found: Standing) -> str:
    message = found.message.message
    return f"{message.sender.name}: {message.text[:500]}" if message else "(it cannot be read)"


def _outcomes(found: Standing, today: datetime) -> str:
    several = len(found.outcomes) > 1
    return "; ".join((f"{each.agent}: " if several and each.agent else "") + _outcome(each, today) for each in found.outcomes)


def _outcome(found: Outcome, today: datetime) -> str:
    at = "" if found.at is None else _time(found.at, today)
    match found.state:
        case State.WAITING | State.WORKING:
            words = f"{found.state} since {at or 'nobody knows when'}"
        case State.DELIVERED:
            words = f"delivered {at}".rstrip()
        case State.UNDELIVERED:
            words = f"could not be delivered: {found.reason}"
        case State.FAILED | State.UNKNOWN:
            words = f"{found.state}: {found.reason}"
        case _:
            words = _WORDS.get(found.state, str(found.state))
    if found.waits_for:
        words += f", waits for {found.waits_for}"
    told = found.reason if found.state in (State.WAITING, State.WORKING) else ""
    return f"{words} ({told})" if told else words


def _head(found: Timeline, zone: ZoneInfo) -> dict[str, str]:
    message = found.standing.message
    came = datetime.fromtimestamp(message.received_at, zone)
    text = message.message.text[:2000] if message.message else "(it cannot be read)"
    return {
        "Message": f"{message.number}, {came:%Y-%m-%d %H:%M:%S} {zone.key}",
        "Chat": one_line(f"{message.channel} {_chat(found.standing)}", 300),
        "From": one_line(message.message.sender.name if message.message else "?", 300),
        "Text": one_line(text, 300),
        "Outcome": one_line(_outcomes(found.standing, came), 500),
    }


def _moment(found: Moment, came: datetime, several: bool) -> tuple[str, str, str]:
    who = f"{found.agent}: " if several and found.agent else ""
    text = one_line(who + found.text, 400)
    if found.at is None:
        return "", "", text
    return _after(found.at - came.timestamp()), _time(found.at, came, exactly=True), text


def _after(seconds: float) -> str:
    """How long after the message something was.

    >>> _after(0.034), _after(-2.2), _after(3700)
    ('+0.03 s', '-2.20 s', '+1 h 1 min')
    """
    sign = "-" if seconds <= -0.005 else "+"
    return f"{sign}{abs(seconds):.2f} s" if abs(seconds) < 60 else sign + duration(abs(seconds))


def _time(at: float, today: datetime, *, exactly: bool = False) -> str:
    then = datetime.fromtimestamp(at, today.tzinfo)
    if then.date() != today.date():
        return f"{then:%Y-%m-%d %H:%M}"
    return f"{then:%H:%M:%S}" + (f".{then.microsecond // 1000:03}" if exactly else "")


def _advice(settings: Settings, found: Sequence[Standing]) -> str:
    more = f"`nanoclaw why {found[-1].message.number}` says more. " if found else ""
    return f"{more}{'' if _host_runs(settings) else 'No host runs on this home: `nanoclaw chat` starts one. '}".rstrip()


def _host_runs(settings: Settings) -> bool:
    async def ask() -> bool:
        try:
            async with connect(settings.home):
                return True
        except (HostNotRunning, HomeUnusable):
            return False

    return anyio.run(ask)


# --- as JSON --------------------------------------------------------------------------------------------------------------


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _message(found: Standing) -> dict[str, Any]:  # Any: JSON
    message = found.message
    words = message.message
    return {
        "number": message.number,
        "accepted_at": message.received_at,
        "routed_at": message.routed_at,
        "channel": message.channel,
        "account": message.account,
        "chat": message.chat,
        "chat_name": message.chat_name,
        "thread": message.address.thread,
        "message_id": message.message_id,
        "sender": words.sender.user_id(message.channel) if words else None,
        "sender_name": words.sender.name if words else None,
        "text": words.text if words else None,
        "outcomes": [_plain_outcome(each) for each in found.outcomes],
    }


def _plain_outcome(found: Outcome) -> Mapping[str, Any]:  # Any: JSON
    names = ("agent", "session", "state", "at", "reason", "waits_for")
    return {name: getattr(found, name) for name in names}


def _why(found: Timeline) -> dict[str, Any]:  # Any: JSON
    came = found.standing.message.received_at
    return {
        "message": _message(found.standing),
        "turns": [{"agent": agent, **_flat(asdict(turn))} for agent, turn in found.turns],
        "timeline": [
            {
                "at": each.at,
                "after": None if each.at is None else each.at - came,
                "kind": each.kind,
                "agent": each.agent,
                "text": each.text,
            }
            for each in found.moments
        ],
        "faults": list(found.faults),
    }


def _flat(turn: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    usage = turn.pop("usage")
    return {**turn, **usage}
