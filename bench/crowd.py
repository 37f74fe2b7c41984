"""A home with many sessions, each with a finished conversation: what a host, a check and a clean-up have to cope with."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import msgspec

from nanoclaw_core.first_start import ensure_first_agent
from nanoclaw_core.mailbox import Mailboxes, NewOutbound, NewRow
from nanoclaw_core.models import Address, InboundMessage, Push, Sender, Session, TurnEnd
from nanoclaw_core.store.database import Connection, open_database

_DAY = 86400.0
_SESSIONS = """
    INSERT INTO sessions (id, agent_group_id, messaging_group_id, folder, attention, settled, created_at)
    VALUES (?, ?, ?, ?, 1, 1, ?)
"""
_CHATS = "INSERT INTO messaging_groups VALUES (?, 'terminal', '', ?, ?, false, ?)"
_WIRINGS = "INSERT INTO wirings VALUES (?, ?, ?, 'pattern', '.', ?)"
_EVENTS = """
    INSERT INTO events (channel, account, chat, message_id, payload, received_at, routed_at, outcome)
    VALUES ('terminal', '', ?, ?, ?, ?, ?, 'heard')
"""


async def make_crowd(home: Path, count: int, *, now: float, messages: int = 10, days: float = 60.0) -> None:
    """`count` idle sessions in `home`, each with `messages` answered ones that came over the last `days`."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    times = [now - days * _DAY * (messages - number) / messages for number in range(messages)]
    async with open_database(home / "nanoclaw.db", backups=None) as database:
        await database.write(partial(ensure_first_agent, name="Andy", now=times[0]))
        await database.write(partial(_fill, count=count, times=times))
    pattern = home / "sessions" / "main" / "pattern"
    await _converse(home, times)
    await asyncio.to_thread(_copy, pattern, count)


def session_folder(home: Path, number: int) -> Path:
    return home / "sessions" / "main" / f"s{number}"


def _fill(connection: Connection, count: int, times: Sequence[float]) -> None:
    execute, began = connection.exec_driver_sql, times[0]
    (agent,) = execute("SELECT id FROM agent_groups WHERE is_main").one()
    execute(_CHATS, [(f"c{n}", f"crowd-{n}", f"Crowd {n}", began) for n in range(count)])
    execute(_WIRINGS, [(f"w{n}", f"c{n}", agent, began) for n in range(count)])
    execute(_SESSIONS, [(f"s{n}", agent, f"c{n}", f"sessions/main/s{n}", began) for n in range(count)])
    execute(_EVENTS, [*_events(count, times)])


def _events(count: int, times: Sequence[float]) -> Iterator[tuple[object, ...]]:
    for number, at in enumerate(times):
        for chat in range(count):
            message = InboundMessage(
                address=Address(channel="terminal", chat=f"crowd-{chat}"),
                message_id=f"m{number}",
                sender=Sender(handle="local", name="somebody"),
                text="words " * 20,
                sent_at=at,
            )
            yield f"crowd-{chat}", f"m{number}", msgspec.json.encode(message).decode(), at, at


async def _converse(home: Path, times: Sequence[float]) -> None:
    """One mailbox, whose files all others are copies of."""
    session = Session(id="p", agent_group_id="", messaging_group_id="", thread=None, folder="sessions/main/pattern")
    clock = [0.0]
    mailboxes = Mailboxes(home, now=lambda: clock[0])
    mailbox = await mailboxes.open(session)
    here = Address(channel="terminal", chat="crowd")
    for number, at in enumerate(times):
        clock[0] = at
        row = NewRow(
            id=f"r{number}", address=here, message_id=f"m{number}", sender_id="", sender_name="", text="words " * 20, sent_at=at
        )
        await mailbox.add_rows([row])
        await mailbox.record_push(Push(uuid=f"u{number}", text="words " * 20), [f"r{number}"], "w")
        end = TurnEnd(id=f"f{number}", covered=(f"u{number}",), text="words " * 50, conversation="c")
        await mailbox.end_turn(end, [NewOutbound(to=here, text="words " * 50)], "answered")
        for due in await mailbox.due():
            await mailbox.delivered(due.seq)
    await mailboxes.close()


def _copy(pattern: Path, count: int) -> None:
    for number in range(count):
        shutil.copytree(pattern, pattern.with_name(f"s{number}"))
    shutil.rmtree(pattern)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("home", type=Path)
    parser.add_argument("count", type=int, nargs="?", default=10_000)
    chosen = parser.parse_args()
    asyncio.run(make_crowd(chosen.home, chosen.count, now=time.time()))
