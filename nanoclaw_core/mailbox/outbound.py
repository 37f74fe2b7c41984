"""What is written to `outbound.db`: pushes on their way to the engine, and everything that comes of them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Final

import msgspec

from nanoclaw_core.mailbox.records import (
    Call,
    NewCall,
    NewOutbound,
    OutstandingPush,
    Spoken,
    address_values,
    outbound_values,
    read_call,
    read_earlier_call,
    read_outbound,
    read_row,
    read_undelivered,
)
from nanoclaw_core.models import Address, EarlierCall, OutboundKind, OutboundRow, Push, Row, TurnEnd, Undelivered, Usage

_INSERT: Final = """
    INSERT INTO messages (
        key, channel, account, chat, thread, text, kind, reply_to, about, files, choices, replaces,
        settles, outcome, queued_at, turn)
    VALUES (
        :key, :channel, :account, :chat, :thread, :text, :kind, :reply_to, :about, :files, :choices, :replaces,
        :settles, :outcome, :queued_at, :turn)
    ON CONFLICT (key) DO NOTHING
"""
_TURN: Final = """
    INSERT INTO turns (
        id, started_at, ended_at, outcome, detail,
        input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, model_calls, worker)
    VALUES (
        :id, :started_at, :ended_at, :outcome, :detail,
        :input_tokens, :output_tokens, :cache_read_tokens, :cache_write_tokens, :model_calls, :worker)
"""
_ROWS_OF: Final = "SELECT row_id FROM push_rows WHERE uuid IN (SELECT value FROM json_each(?))"
# The bare column comes from the row of the minimum: https://sqlite.org/lang_select.html#bareagg
_FIRST_PUSH: Final = """
    SELECT min(pushed_at) AS started_at, worker_id AS worker FROM pushes
    WHERE uuid IN (SELECT uuid FROM push_rows WHERE row_id IN (SELECT value FROM json_each(?)))
"""
_STEP_OF_PUSH: Final = """
    INSERT INTO steps (at, kind, about, detail) SELECT ?, 'pushed', row_id, ? FROM push_rows WHERE uuid = ?
"""
_BY_ADDRESS: Final = """
    SELECT * FROM unacknowledged WHERE id IN (SELECT value FROM json_each(?))
    ORDER BY channel, account, chat, thread, seq
"""
_RAISE_FLOOR: Final = """
    UPDATE acknowledged
    SET floor = max(floor, coalesce((SELECT min(seq) - 1 FROM unacknowledged), (SELECT max(seq) FROM inbound.rows), 0))
"""


# A call that a worker before this one made in the turn that is not over, and whose result its engine did not live to hear.
_UNHEARD: Final = "SELECT key, original FROM calls WHERE turn IS NULL AND NOT heard AND worker <> :worker_id"
_SAME_CALL: Final = f"{_UNHEARD} AND action = :action AND digest = :digest ORDER BY began_at, rowid LIMIT 1"
_BEGIN_CALL: Final = """
    INSERT INTO calls (key, worker, action, arguments, digest, began_at, is_error)
    VALUES (:key, :worker_id, :action, :arguments, :digest, :now, 0) ON CONFLICT (key) DO NOTHING
"""
_END_LIKE_ORIGINAL: Final = """
    UPDATE calls SET (ended_at, result, is_error) = (
        SELECT max(first.ended_at, calls.began_at), first.result, first.is_error
        FROM calls AS first WHERE first.key = calls.original)
    WHERE key = ? AND original IS NOT NULL AND ended_at IS NULL
"""
_CALL: Final = """
    SELECT calls.*, channel, account, chat, thread
    FROM calls LEFT JOIN messages ON messages.key = 'call-' || ifnull(original, calls.key)
    WHERE calls.key = ?
"""
_EARLIER_CALLS: Final = """
    SELECT action, arguments, substr(result, 1, 2000) AS result, ended_at, is_error, channel, account, chat, thread, text
    FROM calls LEFT JOIN messages ON messages.key = 'call-' || calls.key
    WHERE calls.turn IS NULL AND original IS NULL ORDER BY began_at DESC, calls.rowid DESC LIMIT ?
"""


def record_push(
    db: sqlite3.Connection, push: Push, row_ids: Sequence[str], worker_id: str, now: float, told: Iterable[int] = ()
) -> None:
    insert = "INSERT INTO pushes VALUES (?, ?, ?, 1, ?) ON CONFLICT (uuid) DO NOTHING"
    if not db.execute(insert, (push.uuid, push.text, worker_id, now)).rowcount:
        return
    query = "INSERT INTO push_rows SELECT id, ? FROM unacknowledged WHERE id IN (SELECT value FROM json_each(?))"
    if not row_ids or db.execute(query, (push.uuid, _list(row_ids))).rowcount != len(row_ids):
        raise ValueError(f"the push {push.uuid} names rows that do not wait")
    db.execute(_STEP_OF_PUSH, (now, worker_id, push.uuid))
    db.executemany("INSERT INTO told VALUES (?) ON CONFLICT DO NOTHING", [(seq,) for seq in told])


def untold(db: sqlite3.Connection) -> list[Undelivered]:
    query = """
        SELECT * FROM inbound.finals JOIN messages USING (seq)
        WHERE refused IS NOT NULL AND at IS NOT NULL AND kind IN ('message', 'edit', 'reaction')
        AND seq NOT IN (SELECT seq FROM told) ORDER BY seq
    """
    return [read_undelivered(row) for row in db.execute(query)]


def outstanding(db: sqlite3.Connection) -> list[OutstandingPush]:
    return [_outstanding(db, push) for push in db.execute("SELECT * FROM pushes ORDER BY rowid").fetchall()]


def begin_attempt(db: sqlite3.Connection, uuids: Sequence[str], worker_id: str, now: float) -> None:
    change = "UPDATE pushes SET attempts = attempts + 1, worker_id = ? WHERE uuid = ?"
    db.executemany(change, [(worker_id, uuid) for uuid in uuids])
    db.executemany(_STEP_OF_PUSH, [(now, worker_id, uuid) for uuid in uuids])


def end_turn(db: sqlite3.Connection, end: TurnEnd, answers: Iterable[NewOutbound], outcome: str, now: float) -> bool:
    if not db.execute("INSERT INTO frames VALUES (?) ON CONFLICT DO NOTHING", (end.id,)).rowcount:
        return False
    covered = _list(end.covered)
    row_ids = [row_id for (row_id,) in db.execute(_ROWS_OF, (covered,))]
    if not _end_rows(db, row_ids, answers, outcome, now, end):
        return False
    db.execute("DELETE FROM pushes WHERE uuid IN (SELECT value FROM json_each(?))", (covered,))
    if end.conversation:
        db.execute("DELETE FROM conversation")
        db.execute("INSERT INTO conversation VALUES (?)", (end.conversation,))
    return True


def fail_rows(db: sqlite3.Connection, row_ids: Sequence[str], answers: Iterable[NewOutbound], outcome: str, now: float) -> bool:
    if not _end_rows(db, row_ids, answers, outcome, now):
        return False
    db.execute("DELETE FROM push_rows WHERE row_id IN (SELECT value FROM json_each(?))", (_list(row_ids),))
    db.execute("DELETE FROM pushes WHERE uuid NOT IN (SELECT uuid FROM push_rows)")
    return True


def add_outbound(
    db: sqlite3.Connection, key: str | None, row: NewOutbound, now: float, turn: str | None = None, *, in_place: bool = False
) -> bool:
    is_new = _insert(db, row, now, key=key, turn=turn)
    if is_new and in_place and (preview := _take_preview(db, row.to)) is not None:
        db.execute("UPDATE messages SET replaces = ? WHERE seq = last_insert_rowid()", (preview,))
    return is_new


def spoken(db: sqlite3.Connection, seq: int) -> Spoken | None:
    query = """
        SELECT messages.*, refused FROM messages LEFT JOIN inbound.finals USING (seq)
        WHERE seq = ? AND kind = 'message' AND key GLOB 'call-*'
    """
    row = db.execute(query, (seq,)).fetchone()
    return row and Spoken(row=read_outbound(row), refused=row["refused"])


def queued_as(db: sqlite3.Connection, key: str) -> OutboundRow | None:
    row = db.execute("SELECT * FROM messages WHERE key = ?", (key,)).fetchone()
    return row and read_outbound(row)


def heard(db: sqlite3.Connection, seq: int) -> Row | None:
    query = """
        SELECT * FROM inbound.rows WHERE seq = ?
        AND (seq NOT IN (SELECT seq FROM unacknowledged) OR id IN (SELECT row_id FROM push_rows))
    """
    row = db.execute(query, (seq,)).fetchone()
    return row and read_row(row)


def outbound_row(db: sqlite3.Connection, seq: int) -> OutboundRow | None:
    row = db.execute("SELECT * FROM messages WHERE seq = ?", (seq,)).fetchone()
    return None if row is None else read_outbound(row)


def begin_call(db: sqlite3.Connection, call: NewCall, now: float) -> Call | None:
    values = {**msgspec.to_builtins(call), "now": now}
    if db.execute(_BEGIN_CALL, values).rowcount:
        earlier = db.execute(_SAME_CALL, values).fetchone()
        if earlier is None:
            return None
        db.execute("UPDATE calls SET heard = 1 WHERE key = ?", (earlier["key"],))
        change = "UPDATE calls SET original = ? WHERE key = ?"
        db.execute(change, (earlier["original"] or earlier["key"], call.key))
    db.execute(_END_LIKE_ORIGINAL, (call.key,))
    return read_call(db.execute(_CALL, (call.key,)).fetchone())


def end_call(db: sqlite3.Connection, key: str, result: str, is_error: bool, now: float) -> bool:
    change = """
        UPDATE calls SET ended_at = ?, result = ?, is_error = ?
        WHERE key IN (?, (SELECT original FROM calls WHERE key = ?)) AND ended_at IS NULL
    """
    return db.execute(change, (now, result, is_error, key, key)).rowcount > 0


def unheard_calls(db: sqlite3.Connection, worker_id: str) -> set[str]:
    return {row["key"] for row in db.execute(_UNHEARD, {"worker_id": worker_id})}


def heard_calls(db: sqlite3.Connection, keys: Iterable[str]) -> None:
    db.executemany("UPDATE calls SET heard = 1 WHERE key = ?", [(key,) for key in keys])


def earlier_calls(db: sqlite3.Connection, limit: int) -> list[EarlierCall]:
    return [read_earlier_call(row) for row in db.execute(_EARLIER_CALLS, (limit,))][::-1]


def note(db: sqlite3.Connection, kind: str, about: str, detail: str, now: float) -> None:
    db.execute("INSERT INTO steps (at, kind, about, detail) VALUES (?, ?, ?, ?)", (now, kind, about, detail))


def conversation(db: sqlite3.Connection) -> str | None:
    row = db.execute("SELECT id FROM conversation").fetchone()
    return row and str(row["id"])


def anything_unacknowledged(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM unacknowledged LIMIT 1").fetchone() is not None


def _list(values: Sequence[str]) -> str:
    """A list of any length in one parameter, for json_each."""
    return msgspec.json.encode(values).decode()


def _end_rows(
    db: sqlite3.Connection,
    row_ids: Sequence[str],
    answers: Iterable[NewOutbound],
    outcome: str,
    now: float,
    end: TurnEnd | None = None,
) -> bool:
    """Acknowledge the rows, with the answers and, for each address among them, the sign that nothing more will come.

    What ended them is kept as a turn: that of `end`, else one without an engine.
    """
    rows = [read_row(row) for row in db.execute(_BY_ADDRESS, (_list(row_ids),))]
    if not rows:
        return False
    turn = end.id if end else f"given-up-{rows[0].id}"
    _keep_turn(db, turn, rows, outcome, now, end)
    for answer in answers:
        _insert(db, answer, now, turn=turn, replaces=_take_preview(db, answer.to))
    for address, heard in groupby(rows, key=lambda row: row.address):
        settles = _list([row.message_id for row in heard])
        sign = NewOutbound(to=address, text="", kind=OutboundKind.SETTLED)
        _insert(db, sign, now, turn=turn, replaces=_take_preview(db, address), settles=settles, outcome=outcome)
    _acknowledge(db, rows)
    return True


def _keep_turn(db: sqlite3.Connection, turn: str, rows: Sequence[Row], outcome: str, now: float, end: TurnEnd | None) -> None:
    started_at, worker = db.execute(_FIRST_PUSH, (_list([row.id for row in rows]),)).fetchone()
    values = {"id": turn, "started_at": now if started_at is None else started_at, "ended_at": now, "outcome": outcome}
    detail = end.failure.detail if end and end.failure else None
    usage = msgspec.to_builtins(end.usage if end else Usage())
    db.execute(_TURN, {**values, "detail": detail, **usage, "worker": worker})
    db.executemany("INSERT INTO turn_rows VALUES (?, ?)", [(row.id, turn) for row in rows])
    db.execute("UPDATE calls SET turn = ? WHERE turn IS NULL", (turn,))


def _acknowledge(db: sqlite3.Connection, rows: Sequence[Row]) -> None:
    db.executemany("INSERT INTO acks VALUES (?) ON CONFLICT DO NOTHING", [(row.seq,) for row in rows])
    db.execute(_RAISE_FLOOR)
    db.execute("DELETE FROM acks WHERE seq <= (SELECT floor FROM acknowledged)")


def _insert(
    db: sqlite3.Connection,
    row: NewOutbound,
    now: float,
    *,
    key: str | None = None,
    turn: str | None = None,
    replaces: str | None = None,
    settles: str = "[]",
    outcome: str = "",
) -> bool:
    history = {"key": key, "replaces": replaces, "settles": settles, "outcome": outcome, "queued_at": now, "turn": turn}
    return db.execute(_INSERT, {**outbound_values(row), **history}).rowcount == 1


def preview(db: sqlite3.Connection, to: Address) -> str | None:
    query = """
        SELECT message_id FROM previews WHERE (channel, account, chat) = (:channel, :account, :chat) AND thread IS :thread
    """
    row = db.execute(query, address_values(to)).fetchone()
    return row and str(row["message_id"])


def note_preview(db: sqlite3.Connection, to: Address, message_id: str) -> None:
    _take_preview(db, to)
    insert = "INSERT INTO previews VALUES (:channel, :account, :chat, :thread, :message_id)"
    db.execute(insert, {**address_values(to), "message_id": message_id})


def _take_preview(db: sqlite3.Connection, to: Address) -> str | None:
    """The preview that is shown there; it is forgotten, for what replaces it is stored in the same transaction."""
    query = """
        DELETE FROM previews WHERE (channel, account, chat) = (:channel, :account, :chat) AND thread IS :thread
        RETURNING message_id
    """
    found = db.execute(query, address_values(to)).fetchall()
    return found[-1]["message_id"] if found else None


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
