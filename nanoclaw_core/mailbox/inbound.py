"""What is written to `inbound.db`: rows for the agent, and receipts of what was delivered from it."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Sequence
from typing import Final

from nanoclaw_core.mailbox.outbox import names_in
from nanoclaw_core.mailbox.records import NewRow, Receipts, address_values, read_outbound, read_row, row_values
from nanoclaw_core.models import Address, OutboundRow, Row

_INSERT: Final = """
    INSERT INTO rows (
        id, channel, account, chat, thread, message_id, sender_id, sender_name, text, sent_at, quote, attachment,
        kind, about, files, added_at)
    VALUES (
        :id, :channel, :account, :chat, :thread, :message_id, :sender_id, :sender_name, :text, :sent_at, :quote, :attachment,
        :kind, :about, :files, :added_at)
    ON CONFLICT (id) DO NOTHING
"""
_IN_CHAT: Final = "message_id = :message_id AND channel = :channel AND account = :account AND chat = :chat"
_NUMBER: Final = f"SELECT seq FROM rows WHERE {_IN_CHAT} AND kind = 'message' ORDER BY seq DESC LIMIT 1"  # noqa: S608  # our own
_SENT: Final = f"""
    SELECT messages.* FROM parts JOIN outbound.messages USING (seq) WHERE {_IN_CHAT} ORDER BY seq DESC LIMIT 1
"""  # noqa: S608  # our own
_RAISE_FLOOR: Final = """
    UPDATE delivered
    SET floor = max(floor, coalesce((SELECT min(seq) - 1 FROM due), (SELECT max(seq) FROM outbound.messages), 0))
"""


def add_rows(db: sqlite3.Connection, rows: Sequence[NewRow], now: float) -> int:
    return db.executemany(_INSERT, ({**row_values(row), "added_at": now} for row in rows)).rowcount if rows else 0


def waiting(db: sqlite3.Connection, limit: int) -> list[Row]:
    query = "SELECT * FROM unacknowledged WHERE id NOT IN (SELECT row_id FROM push_rows) ORDER BY seq LIMIT ?"
    return [read_row(row) for row in db.execute(query, (limit,))]


def sending(db: sqlite3.Connection, seq: int, part: int, now: float) -> None:
    db.execute(
        "INSERT INTO parts (seq, part, in_flight, attempts, at) VALUES (?, ?, 1, 1, ?)"
        " ON CONFLICT (seq, part) DO UPDATE SET in_flight = 1, attempts = attempts + 1, at = excluded.at",
        (seq, part, now),
    )


def not_sent(db: sqlite3.Connection, seq: int, part: int, reason: str, now: float) -> None:
    change = "UPDATE parts SET in_flight = 0, reason = ?, at = ? WHERE seq = ? AND part = ?"
    db.execute(change, (reason, now, seq, part))


def sent(db: sqlite3.Connection, seq: int, part: int, message_id: str, now: float) -> None:
    db.execute(
        "INSERT INTO parts (seq, part, in_flight, attempts, message_id, at) VALUES (?, ?, 0, 1, ?, ?)"
        " ON CONFLICT (seq, part) DO UPDATE SET in_flight = 0, message_id = excluded.message_id, at = excluded.at",
        (seq, part, message_id, now),
    )


def finish(db: sqlite3.Connection, seq: int, refused: str | None, now: float) -> list[str]:
    """Returns which files nobody sends any more."""
    insert = "INSERT INTO finals (seq, refused, at) VALUES (?, ?, ?) ON CONFLICT (seq) DO NOTHING"
    db.execute(insert, (seq, refused, now))
    db.execute(_RAISE_FLOOR)
    row = db.execute("SELECT files FROM outbound.messages WHERE seq = ? AND files <> '[]'", (seq,)).fetchone()
    return unsent(db, names_in(row["files"])) if row else []


def unsent(db: sqlite3.Connection, names: Collection[str]) -> list[str]:
    """Those of the files with these names, in the outbox, that nothing sends which is due."""
    rows = db.execute("SELECT files FROM due WHERE files <> '[]'").fetchall()
    return sorted(set(names) - {name for row in rows for name in names_in(row["files"])})


def receipts(db: sqlite3.Connection, seq: int) -> Receipts:
    parts = db.execute("SELECT * FROM parts WHERE seq = ?", (seq,)).fetchall()
    (floor,) = db.execute("SELECT floor FROM delivered").fetchone()
    return Receipts(
        is_over=seq <= floor,
        sent={row["part"]: row["message_id"] for row in parts if row["message_id"] is not None},
        in_flight=frozenset(row["part"] for row in parts if row["in_flight"]),
        attempts=sum(row["attempts"] for row in parts),
    )


def number_of(db: sqlite3.Connection, address: Address, message_id: str) -> str | None:
    found = db.execute(_NUMBER, {**address_values(address), "message_id": message_id}).fetchone()
    return None if found is None else str(found["seq"])


def sent_as(db: sqlite3.Connection, address: Address, message_id: str) -> OutboundRow | None:
    found = db.execute(_SENT, {**address_values(address), "message_id": message_id}).fetchone()
    return None if found is None else read_outbound(found)


def due(db: sqlite3.Connection) -> list[OutboundRow]:
    return [read_outbound(row) for row in db.execute("SELECT * FROM due ORDER BY seq")]


def anything_due(db: sqlite3.Connection) -> bool:
    return db.execute("SELECT 1 FROM due LIMIT 1").fetchone() is not None
