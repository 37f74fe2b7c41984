"""What one message costs with many before it: in the whole home, and in the mailbox of its own session."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from anyio import sleep, to_thread

from bench.acceptance import Intake, intake, wire
from bench.figures import Figures
from nanoclaw_core.mailbox import Mailbox, Mailboxes, NewOutbound, NewRow, inbound, outbound
from nanoclaw_core.mailbox.files import MailboxFiles
from nanoclaw_core.models import Address, OutboundKind, Push, Session, TurnEnd
from nanoclaw_core.store.database import Connection, open_database

FLAT: Final = 1.5  # times what it costs with the fewest
_HOME: Final = "one message, {:,} messages and sessions stored"
_MAILBOX: Final = "one message, row to delivered answer, {:,} in the same mailbox"
_HERE: Final = Address(channel="bench", chat="0")
_TEXT: Final = "words " * 20


async def measure(figures: Figures, sizes: Sequence[int], rounds: int) -> None:
    await _each(figures, _HOME, sizes, partial(_in_home, rounds=rounds))
    await _each(figures, _MAILBOX, sizes, partial(in_mailbox, rounds=rounds))


async def _each(figures: Figures, name: str, sizes: Sequence[int], take: Callable[[Path, int], Awaitable[list[float]]]) -> None:
    """The same for each size, held against the first."""
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="ncb") as folder:
            took = await take(Path(folder), size)
        against = {} if size == sizes[0] else {"floor": name.format(sizes[0]), "most_ratio": FLAT}
        figures.add(name.format(size), "s", took, **against)


async def _in_home(home: Path, size: int, *, rounds: int) -> list[float]:
    await _fill(home, size)
    async with intake(home) as found:
        return [await _one(found, number * 97 % size) for number in range(rounds)]


async def _one(found: Intake, chat: int) -> float:
    found.routed.clear()
    _, began, _ = await found.accept(chat)
    while not found.routed:
        await sleep(0)
    return next(iter(found.routed.values())) - began


async def _fill(home: Path, size: int) -> None:
    """That many chats with a session and a routed message each; mailbox files are made when they are first needed."""
    async with open_database(home / "nanoclaw.db", backups=None) as database:
        await database.write(partial(_insert, size=size))


def _insert(connection: Connection, size: int) -> None:
    wire(connection, 0, 1)
    run = connection.exec_driver_sql
    run(
        "INSERT INTO messaging_groups (id, channel, account, chat, name, is_group, created_at) "
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) "
        "SELECT 'g' || i, 'bench', '', i, i, 0, 1.0 FROM n",
        (size - 1,),
    )
    run(
        "INSERT INTO wirings (id, messaging_group_id, agent_group_id, engage_mode, pattern, created_at) "
        "SELECT 'w' || g.id, g.id, a.id, 'pattern', '.', 1.0 FROM messaging_groups g, agent_groups a WHERE g.id LIKE 'g%'"
    )
    run(
        "INSERT INTO sessions (id, agent_group_id, messaging_group_id, folder, created_at) "
        "SELECT 's' || g.id, a.id, g.id, 'sessions/main/s' || g.id, 1.0 FROM messaging_groups g, agent_groups a"
        " WHERE g.id LIKE 'g%'"
    )
    run(
        "INSERT INTO events (channel, account, chat, message_id, payload, received_at, routed_at, outcome) "
        "SELECT 'bench', '', chat, 'old', '{}', 1.0, 1.0, 'heard' FROM messaging_groups"
    )


async def in_mailbox(home: Path, size: int, *, rounds: int) -> list[float]:
    session = Session(id="s", agent_group_id="", messaging_group_id="", thread=None, folder="sessions/main/s")
    mailboxes = Mailboxes(home)
    await (await mailboxes.open(session)).is_idle()  # makes the files
    await mailboxes.close()
    await to_thread.run_sync(_converse, home / session.folder, size)
    mailbox = await mailboxes.open(session)
    took = [await _through(mailbox, size + number) for number in range(rounds)]
    await mailboxes.close()
    return took


async def _through(mailbox: Mailbox, number: int) -> float:
    """Seconds of one message's whole way through the mailbox, with each step as durable as in a host."""
    began = time.perf_counter()
    await mailbox.add_rows([_row(number)])
    rows = await mailbox.waiting()
    push, end, answer = _turn(number)
    await mailbox.record_push(push, [row.id for row in rows], "w")
    await mailbox.end_turn(end, [answer], "answered")
    for due in await mailbox.due():
        if due.kind is OutboundKind.MESSAGE:
            await mailbox.sending(due.seq, 0)
            await mailbox.sent(due.seq, 0, f"p{due.seq}")
        await mailbox.delivered(due.seq)
    return time.perf_counter() - began


def _converse(folder: Path, size: int) -> None:
    """The same for `size` messages, step by step for all of them at once."""
    files = MailboxFiles(folder)
    now = time.time()
    with files.transaction("inbound") as db:
        inbound.add_rows(db, [_row(number) for number in range(size)], now)
    with files.transaction("outbound") as db:
        for number in range(size):
            push, end, answer = _turn(number)
            outbound.record_push(db, push, [_row(number).id], "w", now)
            outbound.end_turn(db, end, [answer], "answered", now)
    with files.transaction("inbound") as db:
        for due in inbound.due(db):
            if due.kind is OutboundKind.MESSAGE:
                inbound.sending(db, due.seq, 0, now)
                inbound.sent(db, due.seq, 0, f"p{due.seq}", now)
            inbound.finish(db, due.seq, None, now)
    files.close()


def _row(number: int) -> NewRow:
    name = f"r{number}"
    return NewRow(id=name, address=_HERE, message_id=name, sender_id="bench:somebody", sender_name="", text=_TEXT, sent_at=1.0)


def _turn(number: int) -> tuple[Push, TurnEnd, NewOutbound]:
    push = Push(uuid=f"u{number}", text=_TEXT)
    end = TurnEnd(id=f"f{number}", covered=(push.uuid,), text=_TEXT, conversation="c")
    return push, end, NewOutbound(to=_HERE, text=_TEXT)
