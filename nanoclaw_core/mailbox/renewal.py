"""A new pair of files in place of a broken one: what can still be read of the old one decides what must not happen twice.

Numbers go on beyond every number that was given before: platforms know messages by them. What was waiting to be delivered is
not taken over, because nobody knows how much of it has arrived.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from nanoclaw_core.mailbox import inbound, outbound
from nanoclaw_core.mailbox.aside import UNFINISHED, set_aside
from nanoclaw_core.mailbox.files import MailboxFiles, errors_naming, paths_in
from nanoclaw_core.mailbox.records import NewOutbound, NewRow

T = TypeVar("T")

_NUMBERS_IN: Final = """
    SELECT max((SELECT floor FROM delivered), coalesce((SELECT max(seq) FROM finals), 0),
        coalesce((SELECT max(seq) FROM parts), 0), coalesce((SELECT max(seq) FROM sqlite_sequence), 0))
"""
_NUMBERS_OUT: Final = "SELECT max((SELECT floor FROM acknowledged), coalesce((SELECT max(seq) FROM sqlite_sequence), 0))"
_UNSEEN: Final = """
    SELECT id, coalesce(added_at > max(
        (SELECT coalesce(max(at), 0) FROM finals), (SELECT coalesce(max(at), 0) FROM parts)), 0) FROM rows
"""

#: Of a turn that is over, as far as the new mailbox is concerned.
_KEEP_CALL: Final = """
    INSERT INTO calls (key, action, began_at, ended_at, result, is_error, digest, turn) VALUES (?, ?, ?, ?, ?, ?, ?, '')
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcomes:
    """What `outbound.db` says of rows: those that ended, and those that an engine was given and that have not."""

    ended: frozenset[str]
    pushed: frozenset[str]
    is_complete: bool  # not so where an early version of NanoClaw kept no book, nor in a mailbox that has only begun anew
    conversation: str | None
    calls: Sequence[tuple[object, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Remains:
    """What can still be read of a broken pair.

    `last` is the highest number known to have been given. `outcomes` is None where `outbound.db` cannot be read; `unseen` says
    of each row in `inbound.db` whether nothing at all was sent since it came, and is None where that file cannot be read.
    """

    last: int
    outcomes: _Outcomes | None
    unseen: dict[str, bool] | None

    def unanswered(self, row_ids: Sequence[str]) -> list[str]:
        """Those of `row_ids`, which are in the order of coming, of which it is certain that they had no outcome."""
        left = list(row_ids)
        if self.outcomes is not None:
            known = self.outcomes
            last = max((place for place, row_id in enumerate(left) if row_id in known.ended), default=-1)
            later = left[last + 1 :] if known.is_complete else []
            left = [row_id for row_id in left if row_id in later or row_id in known.pushed]
        elif self.unseen is None:
            return []
        unseen, otherwise = self.unseen or {}, self.outcomes is not None
        return [row_id for row_id in left if unseen.get(row_id, otherwise)]


def remains_of(folder: Path) -> Remains:
    """Read what can be read of the pair in `folder`. Blocks."""
    paths = paths_in(folder)
    numbers = (_read(paths["inbound"], _number(_NUMBERS_IN)), _read(paths["outbound"], _number(_NUMBERS_OUT)))
    return Remains(
        last=max(number or 0 for number in numbers),
        outcomes=_read(paths["outbound"], _outcomes),
        unseen=_read(paths["inbound"], lambda db: {row_id: bool(unseen) for row_id, unseen in db.execute(_UNSEEN)}),
    )


def begin_anew(folder: Path, remains: Remains, rows: Sequence[NewRow], notice: NewOutbound, now: float) -> Path:
    """Put a new pair in place, with `rows` waiting and `notice` due; return where the old one is. Blocks.

    Raises:
        MailboxUnusable: nothing has changed.
    """
    place = folder / UNFINISHED
    with errors_naming(folder):
        shutil.rmtree(place, ignore_errors=True)
        files = MailboxFiles(place)
        try:
            _furnish(files, max(remains.last, int(now)), remains, rows, notice, now)
        finally:
            files.close()
        return set_aside(folder, now)


def _furnish(files: MailboxFiles, last: int, remains: Remains, rows: Sequence[NewRow], notice: NewOutbound, now: float) -> None:
    with files.transaction("outbound") as db:
        _go_on_from(db, "messages", "acknowledged", last)
        outbound.add_outbound(db, f"anew-{last}", notice, now)
        if remains.outcomes is not None:
            db.executemany(_KEEP_CALL, remains.outcomes.calls)
            if remains.outcomes.conversation is not None:
                db.execute("INSERT INTO conversation VALUES (?)", (remains.outcomes.conversation,))
    with files.transaction("inbound") as db:
        _go_on_from(db, "rows", "delivered", last)
        inbound.add_rows(db, rows, now)


def _go_on_from(db: sqlite3.Connection, table: str, floor: str, last: int) -> None:
    """Number what comes next beyond `last`, and take all that is not for finished."""
    db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table, last))
    db.execute(f"UPDATE {floor} SET floor = ?", (last,))  # noqa: S608  # names of our own


def _outcomes(db: sqlite3.Connection) -> _Outcomes:
    def column(query: str) -> frozenset[str]:
        return frozenset(value for (value,) in db.execute(query))

    ended = column("SELECT row_id FROM turn_rows")
    (version,) = db.execute("PRAGMA user_version").fetchone()
    digest = "digest" if version >= 3 else "''"
    (turns,) = db.execute("SELECT count(*) FROM turns").fetchone()
    (began_anew,) = db.execute("SELECT count(*) FROM messages WHERE key GLOB 'anew-*'").fetchone()
    return _Outcomes(
        ended=ended,
        pushed=column("SELECT row_id FROM push_rows"),
        is_complete=bool(ended) or not (turns or began_anew),
        conversation=next(iter(column("SELECT id FROM conversation")), None),
        calls=db.execute(f"SELECT key, action, began_at, ended_at, result, is_error, {digest} FROM calls").fetchall(),  # noqa: S608
    )


def _number(query: str) -> Callable[[sqlite3.Connection], int]:
    return lambda db: int(db.execute(query).fetchone()[0])


def _read(path: Path, question: Callable[[sqlite3.Connection], T]) -> T | None:
    """The answer of the file, or None where it gives none."""
    with suppress(sqlite3.DatabaseError, OSError):
        if path.is_file() and path.stat().st_size:
            with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
                connection.execute("PRAGMA query_only=ON")
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
                return question(connection) if found == "ok" else None
    return None
