"""What is written to `outbound.db`: pushes on their way to the engine, and everything that comes of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

import msgspec

from nanoclaw_core.mailbox.records import NewOutbound, OutstandingPush, address_values, read_row
from nanoclaw_core.models import Address, OutboundKind, Push, Row, TurnEnd

_INSERT: Final = """
    INSERT INTO messages (key, channel, account, chat, thread, text, kind, reply_to, settles, outcome)
    VALUES (:key, :channel, :account, :chat, :thread, :text, :kind, :reply_to, :settles, :outcome)
    ON CONFLICT (key) DO NOTHING
"""
_TURN: Final = """
    INSERT INTO turns VALUES (
        :id, :started_at, :ended_at, :outcome, :detail,
        :input_tokens, :output_tokens, :cache_read_tokens, :cache_write_tokens, :model_calls)
"""
_PUSHED_AT: Final = "SELECT min(pushed_at) FROM pushes WHERE uuid IN (SELECT value FROM json_each(?))"
_ROWS_OF: Final = "SELECT row_id FROM push_rows WHERE uuid IN (SELECT value FROM json_each(?))"
_BY_ADDRESS: Final = """
    SELECT * FROM unacknowledged WHERE id IN (SELECT value FROM json_each(?))
    ORDER BY channel, account, chat, thread, seq
"""
_RAISE_FLOOR: Final = """
    UPDATE acknowledged
    SET floor = coalesce((SELECT min(seq) - 1 FROM unacknowledged), (SELECT max(seq) FROM inbound.rows), 0)
"""


def record_push(db: sqlite3.Connection, push: Push, row_ids: Sequence[str], worker_id: str, now: float) -> None:
    insert = "INSERT INTO pushes VALUES (?, ?, ?, 1, ?) ON CONFLICT (uuid) DO NOTHING"
    if not db.execute(insert, (push.uuid, push.text, worker_id, now)).rowcount:
        return
    query = "INSERT INTO push_rows SELECT id, ? FROM unacknowledged WHERE id IN (SELECT value FROM json_each(?))"
    if not row_ids or db.execute(query, (push.uuid, _list(row_ids))).rowcount != len(row_ids):
        raise ValueError(f"the push {push.uuid} names rows that do not wait")


def outstanding(db: sqlite3.Connection) -> list[OutstandingPush]:
    return [_outstanding(db, push) for push in db.execute("SELECT * FROM pushes ORDER BY rowid").fetchall()]


def begin_attempt(db: sqlite3.Connection, uuids: Iterable[str], worker_id: str) -> None:
    change = "UPDATE pushes SET attempts = attempts + 1, worker_id = ? WHERE uuid = ?"
    db.executemany(change, [(worker_id, uuid) for uuid in uuids])


def replace_push(db: sqlite3.Connection, old_uuid: str, new_uuid: str) -> None:
    db.execute("UPDATE pushes SET uuid = ? WHERE uuid = ?", (new_uuid, old_uuid))


def end_turn(db: sqlite3.Connection, end: TurnEnd, answers: Iterable[NewOutbound], outcome: str, now: float) -> bool:
    if not db.execute("INSERT INTO frames VALUES (?) ON CONFLICT DO NOTHING", (end.id,)).rowcount:
        return False
    covered = _list(end.covered)
    (started_at,) = db.execute(_PUSHED_AT, (covered,)).fetchone()
    if started_at is None:
        return False
    _end_rows(db, [row_id for (row_id,) in db.execute(_ROWS_OF, (covered,))], answers, outcome)
    db.execute("DELETE FROM pushes WHERE uuid IN (SELECT value FROM json_each(?))", (covered,))
    if end.conversation:
        db.execute("DELETE FROM conversation")
        db.execute("INSERT INTO conversation VALUES (?)", (end.conversation,))
    turn = {"id": end.id, "started_at": started_at, "ended_at": now, "outcome": outcome}
    db.execute(_TURN, {**turn, "detail": end.failure and end.failure.detail, **msgspec.to_builtins(end.usage)})
    return True


def fail_rows(db: sqlite3.Connection, row_ids: Sequence[str], answers: Iterable[NewOutbound], outcome: str) -> bool:
    if not _end_rows(db, row_ids, answers, outcome):
        return False
    db.execute("DELETE FROM push_rows WHERE row_id IN (SELECT value FROM json_each(?))", (_list(row_ids),))
    db.execute("DELETE FROM pushes WHERE uuid NOT IN (SELECT uuid FROM push_rows)")
    return True


def add_outbound(db: sqlite3.Connection, key: str | None, row: NewOutbound) -> bool:
    return _insert(db, key, row.to, row.kind, text=row.text, reply_to=row.reply_to)


def call_result(db: sqlite3.Connection, key: str) -> str | None:
    row = db.execute("SELECT result FROM calls WHERE key = ?", (key,)).fetchone()
    return row and str(row["result"])


def store_call(db: sqlite3.Connection, key: str, result: str, rows: Iterable[NewOutbound]) -> bool:
    if not db.execute("INSERT INTO calls VALUES (?, ?) ON CONFLICT DO NOTHING", (key, result)).rowcount:
        return False
    for row in rows:
        add_outbound(db, None, row)
    return True


def conversation(db: sqlite3.Connection) -> str | None:
    row = db.execute("SELECT id FROM conversation").fetchone()
    return row and str(row["id"])


def anything_unacknowledged(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM unacknowledged LIMIT 1").fetchone() is not None


def _list(values: Sequence[str]) -> str:
    """A list of any length in one parameter, for json_each."""
    return msgspec.json.encode(values).decode()


def _end_rows(db: sqlite3.Connection, row_ids: Sequence[str], answers: Iterable[NewOutbound], outcome: str) -> bool:
    """Acknowledge the rows, with the answers and, for each address among them, the sign that nothing more will come."""
    rows = [read_row(row) for row in db.execute(_BY_ADDRESS, (_list(row_ids),))]
    if not rows:
        return False
    for answer in answers:
        add_outbound(db, None, answer)
    for address, heard in groupby(rows, key=lambda row: row.address):
        settles = _list([row.message_id for row in heard])
        _insert(db, None, address, OutboundKind.SETTLED, settles=settles, outcome=outcome)
    _acknowledge(db, rows)
    return True


def _acknowledge(db: sqlite3.Connection, rows: Sequence[Row]) -> None:
    db.executemany("INSERT INTO acks VALUES (?) ON CONFLICT DO NOTHING", [(row.seq,) for row in rows])
    db.execute(_RAISE_FLOOR)
    db.execute("DELETE FROM acks WHERE seq <= (SELECT floor FROM acknowledged)")


def _insert(
    db: sqlite3.Connection,
    key: str | None,
    to: Address,
    kind: OutboundKind,
    *,
    text: str = "",
    reply_to: str | None = None,
    settles: str = "[]",
    outcome: str = "",
) -> bool:
    values = {"key": key, **address_values(to), "text": text, "kind": kind.value, "reply_to": reply_to}
    return db.execute(_INSERT, {**values, "settles": settles, "outcome": outcome}).rowcount == 1


def _outstanding(db: sqlite3.Connection, push: sqlite3.Row) -> OutstandingPush:
    query = "SELECT rows.* FROM push_rows JOIN inbound.rows ON rows.id = row_id WHERE uuid = ? ORDER BY seq"
    rows = tuple(read_row(row) for row in db.execute(query, (push["uuid"],)))
    return OutstandingPush(
        push=Push(uuid=push["uuid"], text=push["text"]),
        rows=rows,
        address=rows[0].address,
        attempts=push["attempts"],
        worker_id=push["worker_id"],
    )
