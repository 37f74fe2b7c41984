"""Takes out of a mailbox what is finished and old, a slice at a time: what lies below a floor, and before all that is young.

Files and receipts go before, or long after, what they belong to, so that being killed in between leaves nothing that would be
answered or delivered again. Keys by which a repetition is known stay for a year longer, without what people or agents wrote.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from nanoclaw_core.mailbox.files import Side

Prune: TypeAlias = Callable[[sqlite3.Connection, float, float], int]
"""Takes the connection, what is old (seconds) and the time; returns how much was changed, 0 when nothing is left to do."""

_SLICE: Final = 500
DAY: Final = 86400.0
_YEAR: Final = 365 * DAY
_FIRST: Final = 1735689600.0  # see store/pruning.py
# Below a NULL or a wrong time, the neighbours count: nothing young may come before it, something old must come after it.
_LAST_OLD: Final = """
    SELECT max({key}) FROM {table} WHERE {at} BETWEEN :first AND :before AND {key} < coalesce(
        (SELECT {key} FROM {table} WHERE {at} BETWEEN :before AND :soon ORDER BY {key} LIMIT 1), 9223372036854775807)
"""
_UNTOLD: Final = """
    SELECT seq FROM inbound.finals JOIN messages USING (seq)
    WHERE refused IS NOT NULL AND at IS NOT NULL AND kind IN ('message', 'edit', 'reaction')
    AND seq NOT IN (SELECT seq FROM told)
"""
_FINISHED: Final = "seq <= :last AND seq <= (SELECT floor FROM inbound.delivered)"


def steps(inbox: Path) -> list[tuple[Side, tuple[Prune, ...]]]:
    """What to do, in this order: each line in one transaction, until it returns 0. Files of forgotten rows lie in `inbox`."""
    return [
        ("inbound", (partial(_rows, inbox=inbox),)),
        ("outbound", (_messages, _emptied_messages, _keyed_messages, _turns, _results, _calls, _steps, _give_back)),
        ("inbound", (_receipts, _give_back)),
    ]


def all_of(db: sqlite3.Connection, prunes: Sequence[Prune], before: float, now: float) -> int:
    """Do a slice of each."""
    return sum(prune(db, before, now) for prune in prunes)


def _give_back(db: sqlite3.Connection, _before: float, _now: float) -> int:
    """Give free pages back to the disk; files of earlier versions use them again instead."""
    (mode,), (free,) = (db.execute(f"PRAGMA {name}").fetchone() for name in ("auto_vacuum", "freelist_count"))
    if mode != 2 or not free:  # INCREMENTAL
        return 0
    for _ in range(min(free, _SLICE)):
        db.execute("PRAGMA incremental_vacuum(1)")  # Python's driver takes one step of it, and no more
    return int(free > _SLICE)


def _rows(db: sqlite3.Connection, before: float, now: float, inbox: Path) -> int:
    query = """
        SELECT seq, id, attachment IS NOT NULL OR files <> '[]' AS has_files FROM rows
        WHERE seq <= ? AND seq <= (SELECT floor FROM outbound.acknowledged)
        ORDER BY seq LIMIT ?
    """
    found = db.execute(query, (_last_old(db, "rows", "seq", "added_at", before, now), _SLICE)).fetchall()
    for row in found:
        if row["has_files"]:
            shutil.rmtree(inbox / row["id"], ignore_errors=True)
    db.executemany("DELETE FROM rows WHERE seq = ?", [(row["seq"],) for row in found])
    return len(found)


def _messages(db: sqlite3.Connection, before: float, now: float) -> int:
    """Those that no key names. What the agent was not told yet, it shall be told."""
    which = f"{_FINISHED} AND key IS NULL AND seq NOT IN ({_UNTOLD})"
    return _delete_messages(db, which, before, now)


def _emptied_messages(db: sqlite3.Connection, before: float, now: float) -> int:
    change = f"""
        UPDATE messages SET text = '', files = '[]', choices = '[]' WHERE seq IN (
            SELECT seq FROM messages WHERE {_FINISHED} AND key IS NOT NULL AND text || files <> '[]' AND seq NOT IN ({_UNTOLD})
            LIMIT {_SLICE})
    """  # noqa: S608  # nothing in it comes from outside
    return db.execute(change, {"last": _last_old(db, "messages", "seq", "queued_at", before, now)}).rowcount


def _keyed_messages(db: sqlite3.Connection, before: float, now: float) -> int:
    return _delete_messages(db, f"{_FINISHED} AND text || files = '[]'", before - _YEAR, now)


def _delete_messages(db: sqlite3.Connection, which: str, before: float, now: float) -> int:
    last = {"last": _last_old(db, "messages", "seq", "queued_at", before, now)}
    query = f"DELETE FROM messages WHERE seq IN (SELECT seq FROM messages WHERE {which} ORDER BY seq LIMIT {_SLICE})"  # noqa: S608
    count = db.execute(query, last).rowcount
    db.execute("DELETE FROM told WHERE seq <= :last AND seq NOT IN (SELECT seq FROM messages)", last)
    return count


def _turns(db: sqlite3.Connection, before: float, now: float) -> int:
    """With the ids of their frames: one that comes again covers nothing that is outstanding, and is refused for that."""
    last = _last_old(db, "turns", "rowid", "ended_at", before, now)
    query = "DELETE FROM turns WHERE rowid IN (SELECT rowid FROM turns WHERE rowid <= ? ORDER BY rowid LIMIT ?)"
    count = db.execute(query, (last, _SLICE)).rowcount
    if count:
        db.execute("DELETE FROM turn_rows WHERE turn NOT IN (SELECT id FROM turns)")
        db.execute("DELETE FROM frames WHERE id NOT IN (SELECT id FROM turns)")
    return count


def _results(db: sqlite3.Connection, before: float, now: float) -> int:
    last = _last_old(db, "calls", "rowid", "began_at", _before_pushes(db, before), now)
    old = "SELECT rowid FROM calls WHERE rowid <= ? AND (result <> '' OR arguments <> '') LIMIT ?"
    change = f"UPDATE calls SET result = '', arguments = '' WHERE rowid IN ({old})"  # noqa: S608  # a query of our own
    return db.execute(change, (last, _SLICE)).rowcount


def _calls(db: sqlite3.Connection, before: float, now: float) -> int:
    last = _last_old(db, "calls", "rowid", "began_at", _before_pushes(db, before) - _YEAR, now)
    query = "DELETE FROM calls WHERE rowid IN (SELECT rowid FROM calls WHERE rowid <= ? LIMIT ?)"
    return db.execute(query, (last, _SLICE)).rowcount


def _steps(db: sqlite3.Connection, before: float, now: float) -> int:
    query = "DELETE FROM steps WHERE seq IN (SELECT seq FROM steps WHERE seq <= ? ORDER BY seq LIMIT ?)"
    return db.execute(query, (_last_old(db, "steps", "seq", "at", before, now), _SLICE)).rowcount


def _receipts(db: sqlite3.Connection, _before: float, _now: float) -> int:
    """Of what is gone from the other file."""
    which = "seq <= (SELECT floor FROM delivered) AND seq NOT IN (SELECT seq FROM outbound.messages)"
    count = 0
    for table in ("parts", "finals"):
        query = f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM {table} WHERE {which} LIMIT {_SLICE})"  # noqa: S608
        count += db.execute(query).rowcount
    return count


def _before_pushes(db: sqlite3.Connection, before: float) -> float:
    """An engine that takes up an interrupted turn may repeat every call that it made in it."""
    (oldest,) = db.execute("SELECT min(pushed_at) FROM pushes").fetchone()
    return before if oldest is None else min(before, float(oldest))


def _last_old(db: sqlite3.Connection, table: str, key: str, at: str, before: float, now: float) -> int:
    times = {"first": _FIRST, "before": before, "soon": now + DAY}
    (last,) = db.execute(_LAST_OLD.format(table=table, key=key, at=at), times).fetchone()
    return int(last or 0)
