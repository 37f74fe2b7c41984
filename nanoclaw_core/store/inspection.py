"""Looks at the central database without making, migrating or changing it: for checks, also while a host uses it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, func, select, text
from sqlalchemy.exc import DatabaseError

from nanoclaw_core.errors import HomeUnusable
from nanoclaw_core.models import Session
from nanoclaw_core.snapshot import where_readable
from nanoclaw_core.store import sessions, workers
from nanoclaw_core.store.database import look_into
from nanoclaw_core.store.installation import known_id, schema_by
from nanoclaw_core.store.migrate import HEAD, revision
from nanoclaw_core.store.tables import events, messaging_groups, wirings
from nanoclaw_core.store.trouble import plain_words

_LATEST: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """What the database says of its home. `newest` is the latest time of its last 1000 messages, 0 when none ever came."""

    installation: str = ""
    live_workers: frozenset[str] = frozenset()
    marked: tuple[Session, ...] = ()
    newest: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """How the file is: its schema and who gave it, and what SQLite finds wrong, '' for nothing."""

    revision: str
    is_newer: bool
    written_by: str
    fault: str

    @property
    def is_current(self) -> bool:
        return self.revision == HEAD


def overview(path: Path) -> Overview:
    """Everything at a glance; all of it empty where there is no database yet. Blocks.

    Raises:
        DatabaseBroken: it is damaged. HomeUnusable: it cannot be read, or has another schema.
    """
    if not path.exists():
        return Overview()
    with looking(path) as connection:
        if revision(connection) is None:
            return Overview()
        latest = select(events.c.received_at).order_by(events.c.seq.desc()).limit(_LATEST).subquery()
        return Overview(
            installation=known_id(connection),
            live_workers=frozenset(record.id for record in workers.live_workers(connection)),
            marked=tuple(session for session, _ in sessions.attention(connection)),
            newest=connection.execute(select(func.max(latest.c.received_at))).scalar() or 0.0,
        )


def examine(path: Path) -> Condition:
    """Read the whole file to see how it is. Blocks.

    Raises:
        DatabaseBroken: it is so damaged that this cannot be told. HomeUnusable: it cannot be read.
    """
    with looking(path) as connection:
        found = connection.execute(text("PRAGMA quick_check(1)")).scalar()
        current = revision(connection)
        return Condition(
            revision=current or "",
            is_newer=current is not None and current > HEAD,
            written_by=(schema_by(connection) if current else None) or "a later version",
            fault="" if found == "ok" else str(found),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelData:
    """What the database holds of a channel: chats, how many of them an agent hears, and their messages."""

    chats: int
    wired: int
    messages: int


def data_of_channels(path: Path) -> dict[str, ChannelData]:
    """What there is of each channel, by its name; nothing where there is no database yet. Blocks.

    Raises:
        DatabaseBroken: it is damaged. HomeUnusable: it cannot be read, or has another schema.
    """
    if not path.exists():
        return {}
    with looking(path) as connection:
        if revision(connection) is None:
            return {}
        heard = select(wirings.c.messaging_group_id).distinct().subquery()
        joined = messaging_groups.outerjoin(heard, heard.c.messaging_group_id == messaging_groups.c.id)
        counts = func.count(messaging_groups.c.id), func.count(heard.c.messaging_group_id)
        chats = select(messaging_groups.c.channel, *counts).select_from(joined).group_by(messaging_groups.c.channel)
        said = select(events.c.channel, func.count()).group_by(events.c.channel)
        messages = {channel: int(count) for channel, count in connection.execute(said)}
        found = {channel: (int(known), int(wired)) for channel, known, wired in connection.execute(chats)}
    return {
        channel: ChannelData(
            chats=found.get(channel, (0, 0))[0], wired=found.get(channel, (0, 0))[1], messages=messages.get(channel, 0)
        )
        for channel in sorted(found.keys() | messages.keys())
    }


@contextmanager
def looking(path: Path) -> Iterator[Connection]:
    """A connection to the database at `path`, which is there, for a block that changes nothing. Blocks.

    Raises:
        DatabaseBroken: it is damaged. HomeUnusable: it cannot be read, or has another schema.
    """
    with ExitStack() as stack:
        try:
            place = stack.enter_context(where_readable(path))
        except OSError as error:
            raise HomeUnusable(path.parent, f"{path.name} cannot be read ({error.strerror or error})") from error
        engine = look_into(place)
        stack.callback(engine.dispose)
        try:
            with plain_words(engine.url), engine.connect() as connection:
                yield connection
        except DatabaseError as error:  # a table that another version has not, or not yet
            raise HomeUnusable(path.parent, f"{path.name} cannot be read ({error.orig})") from error
