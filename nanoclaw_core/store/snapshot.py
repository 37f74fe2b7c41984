"""A copy of the central database that fits mailboxes which were copied a little earlier, and its start in another home."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, func, select, update
from sqlalchemy.exc import DatabaseError

from nanoclaw_core.errors import DatabaseTooNew, HomeUnusable
from nanoclaw_core.models import Session
from nanoclaw_core.store import sessions
from nanoclaw_core.store.database import copy_engine, look_into
from nanoclaw_core.store.inspection import looking
from nanoclaw_core.store.installation import known_id, schema_by, set_id
from nanoclaw_core.store.migrate import HEAD, revision
from nanoclaw_core.store.tables import events, workers
from nanoclaw_core.store.tables import sessions as table
from nanoclaw_core.store.trouble import plain_words


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """What was known before the first mailbox was copied.

    Every message before the number `unrouted` is in its mailboxes. `idle` says of each session that had no work how far
    its marks went.
    """

    installation: str
    revision: str
    sessions: tuple[Session, ...]
    unrouted: int
    idle: Mapping[str, int]


def moment(path: Path) -> Moment:
    """Look at the database, also while a host uses it. Blocks.

    Raises:
        DatabaseTooNew: a later version wrote it. DatabaseBroken: it is damaged. HomeUnusable: it cannot be read.
    """
    if not path.exists():
        raise HomeUnusable(path.parent, f"it has no {path.name}, so there is nothing to back up")
    with looking(path) as connection:
        current = revision(connection) or ""
        if current > HEAD:
            raise DatabaseTooNew(path, current, schema_by(connection))
        first = connection.execute(select(func.min(events.c.seq)).where(events.c.routed_at.is_(None))).scalar()
        last = connection.execute(select(func.max(events.c.seq))).scalar() or 0
        found = connection.execute(select(table.c.id, table.c.attention).where(table.c.attention <= table.c.settled))
        return Moment(
            installation=known_id(connection),
            revision=current,
            sessions=tuple(sessions.sessions(connection)),
            unrouted=last + 1 if first is None else first,
            idle={row.id: row.attention for row in found},
        )


def copy_database(path: Path, into: Path, since: Moment) -> None:
    """Copy the database for mailboxes that were copied after `since` and before now. Blocks.

    What was routed meanwhile may not be in them, and is routed again, which adds the rows that are missing; who had work
    meanwhile is looked at again. So the copy is what a host would have left that was killed.

    Raises:
        DatabaseBroken, HomeUnusable: see `moment`.
    """
    source = look_into(path)
    try:
        with plain_words(source.url), closing(source.raw_connection()) as raw, closing(sqlite3.connect(into)) as copy:
            live: sqlite3.Connection = raw.driver_connection  # type: ignore[assignment]  # SQLite's own
            copy.execute("PRAGMA synchronous=OFF")
            live.backup(copy)
    except sqlite3.DatabaseError as error:
        raise HomeUnusable(path.parent, f"{path.name} cannot be copied ({error})") from error
    finally:
        source.dispose()
    with _changing(into) as connection:
        again = (events.c.seq >= since.unrouted, events.c.outcome == "heard")
        connection.execute(update(events).where(*again).values(routed_at=None, outcome=None))
        busy = [
            row.id
            for row in connection.execute(select(table.c.id, table.c.attention))
            if row.attention and since.idle.get(row.id) != row.attention
        ]
        for session_id in busy:
            marked = update(table).where(table.c.id == session_id, table.c.settled >= table.c.attention)
            connection.execute(marked.values(settled=table.c.attention - 1))


def begin_anew(path: Path, installation: str, now: float) -> None:
    """Let a restored database begin: under this id, and without the workers that lived when it was copied. Blocks."""
    with _changing(path) as connection:
        set_id(connection, installation)
        live = update(workers).where(workers.c.ended_at.is_(None))
        connection.execute(live.values(ended_at=now, reason="restored from a backup"))


@contextmanager
def _changing(path: Path) -> Iterator[Connection]:
    engine = copy_engine(path)
    try:
        with plain_words(engine.url), engine.begin() as connection:
            yield connection
    except DatabaseError as error:
        raise HomeUnusable(path.parent, f"{path.name} cannot be changed ({error.orig})") from error
    finally:
        engine.dispose()
