"""The two SQLite files of a mailbox: their schema, and transactions that write one of them and may read the other."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal, TypeAlias

from nanoclaw_core.errors import DatabaseTooNew, NanoClawError
from nanoclaw_core.mailbox.aside import finish_renewal

Side: TypeAlias = Literal["inbound", "outbound"]

# What brings a file from each version to the next: a new file runs through all of it, so that all files are alike. Times that
# are null were not noted yet by the version that wrote the row.
_STEPS: Final[dict[Side, tuple[str, ...]]] = {
    "inbound": (
        """
        CREATE TABLE rows (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE,
            channel TEXT NOT NULL, account TEXT NOT NULL, chat TEXT NOT NULL, thread TEXT, message_id TEXT NOT NULL,
            sender_id TEXT NOT NULL, sender_name TEXT NOT NULL, text TEXT NOT NULL, sent_at REAL NOT NULL, quote TEXT,
            attachment TEXT);
        CREATE TABLE parts (
            seq INTEGER NOT NULL, part INTEGER NOT NULL, in_flight INTEGER NOT NULL, attempts INTEGER NOT NULL,
            message_id TEXT, PRIMARY KEY (seq, part)) WITHOUT ROWID;
        CREATE TABLE finals (seq INTEGER PRIMARY KEY, refused TEXT);
        CREATE TABLE delivered (floor INTEGER NOT NULL);
        INSERT INTO delivered VALUES (0);
        """,
        """
        ALTER TABLE rows ADD COLUMN added_at REAL;
        ALTER TABLE parts ADD COLUMN at REAL;
        ALTER TABLE parts ADD COLUMN reason TEXT;
        ALTER TABLE finals ADD COLUMN at REAL;
        CREATE INDEX finals_refused ON finals (seq) WHERE refused IS NOT NULL;
        """,
        "",
        """
        ALTER TABLE rows ADD COLUMN kind TEXT NOT NULL DEFAULT 'message';
        ALTER TABLE rows ADD COLUMN about TEXT;
        ALTER TABLE rows ADD COLUMN files TEXT NOT NULL DEFAULT '[]';
        CREATE INDEX rows_message ON rows (message_id);
        CREATE INDEX parts_message ON parts (message_id);
        """,
    ),
    "outbound": (
        """
        CREATE TABLE messages (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT UNIQUE,
            channel TEXT NOT NULL, account TEXT NOT NULL, chat TEXT NOT NULL, thread TEXT, text TEXT NOT NULL,
            kind TEXT NOT NULL, reply_to TEXT, settles TEXT NOT NULL, outcome TEXT NOT NULL);
        CREATE TABLE pushes (
            uuid TEXT PRIMARY KEY, text TEXT NOT NULL, worker_id TEXT NOT NULL, attempts INTEGER NOT NULL,
            pushed_at REAL NOT NULL);
        CREATE TABLE push_rows (
            row_id TEXT PRIMARY KEY,
            uuid TEXT NOT NULL REFERENCES pushes ON UPDATE CASCADE ON DELETE CASCADE) WITHOUT ROWID;
        CREATE INDEX push_rows_uuid ON push_rows (uuid);
        CREATE TABLE acks (seq INTEGER PRIMARY KEY);
        CREATE TABLE acknowledged (floor INTEGER NOT NULL);
        INSERT INTO acknowledged VALUES (0);
        CREATE TABLE frames (id TEXT PRIMARY KEY) WITHOUT ROWID;
        CREATE TABLE turns (
            id TEXT PRIMARY KEY, started_at REAL NOT NULL, ended_at REAL NOT NULL, outcome TEXT NOT NULL, detail TEXT,
            input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cache_read_tokens INTEGER NOT NULL,
            cache_write_tokens INTEGER NOT NULL, model_calls INTEGER NOT NULL);
        CREATE TABLE calls (key TEXT PRIMARY KEY, result TEXT NOT NULL) WITHOUT ROWID;
        CREATE TABLE conversation (id TEXT NOT NULL);
        """,
        # A row that ended without an engine has a turn, too, whose id no frame carries and which may have had no worker.
        """
        ALTER TABLE messages ADD COLUMN queued_at REAL;
        ALTER TABLE messages ADD COLUMN turn TEXT;
        CREATE INDEX messages_turn ON messages (turn);
        ALTER TABLE turns ADD COLUMN worker TEXT;
        CREATE TABLE turn_rows (row_id TEXT PRIMARY KEY, turn TEXT NOT NULL) WITHOUT ROWID;
        ALTER TABLE calls RENAME TO answered_calls;
        CREATE TABLE calls (
            key TEXT PRIMARY KEY, action TEXT NOT NULL, began_at REAL, ended_at REAL, result TEXT, is_error INTEGER NOT NULL);
        INSERT INTO calls SELECT key, '', NULL, 0, result, 0 FROM answered_calls;
        DROP TABLE answered_calls;
        CREATE TABLE steps (
            seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, kind TEXT NOT NULL, about TEXT NOT NULL,
            detail TEXT NOT NULL);
        CREATE INDEX steps_about ON steps (about);
        CREATE INDEX steps_at ON steps (at);
        CREATE TABLE told (seq INTEGER PRIMARY KEY);
        """,
        # A call belongs to the turn that runs until `turn` says to which it belonged. `heard`: its result is in the engine's
        # conversation, or was given to a later call, whose `original` then names the one that was carried out.
        """
        ALTER TABLE calls ADD COLUMN worker TEXT;
        ALTER TABLE calls ADD COLUMN arguments TEXT NOT NULL DEFAULT '';
        ALTER TABLE calls ADD COLUMN digest TEXT NOT NULL DEFAULT '';
        ALTER TABLE calls ADD COLUMN original TEXT;
        ALTER TABLE calls ADD COLUMN heard INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE calls ADD COLUMN turn TEXT;
        UPDATE calls SET turn = '';
        CREATE INDEX calls_of_open_turn ON calls (began_at) WHERE turn IS NULL;
        """,
        # A preview is what is shown of an answer while it is written: the answer takes its place.
        """
        ALTER TABLE messages ADD COLUMN about TEXT;
        ALTER TABLE messages ADD COLUMN files TEXT NOT NULL DEFAULT '[]';
        ALTER TABLE messages ADD COLUMN choices TEXT NOT NULL DEFAULT '[]';
        ALTER TABLE messages ADD COLUMN replaces TEXT;
        CREATE TABLE previews (
            channel TEXT NOT NULL, account TEXT NOT NULL, chat TEXT NOT NULL, thread TEXT, message_id TEXT NOT NULL);
        """,
    ),
}
VERSION: Final = len(_STEPS["inbound"])

# Views across both files, made anew for each connection. Everything at or below a floor is finished, so that what is finished
# is never looked at again, however much there is.
_VIEWS: Final[dict[Side, str]] = {
    "inbound": """
        CREATE TEMP VIEW due AS SELECT * FROM outbound.messages
        WHERE seq > (SELECT floor FROM delivered) AND seq NOT IN (SELECT seq FROM finals)
    """,
    "outbound": """
        CREATE TEMP VIEW unacknowledged AS SELECT * FROM inbound.rows
        WHERE seq > (SELECT floor FROM acknowledged) AND seq NOT IN (SELECT seq FROM acks)
    """,
}
# Whether a file speaks of rows that the other one has never had.
_LOST: Final[dict[Side, str]] = {
    "inbound": """
        SELECT max(floor, coalesce((SELECT max(seq) FROM finals), 0), coalesce((SELECT max(seq) FROM parts), 0))
            > (SELECT coalesce(max(seq), 0) FROM outbound.sqlite_sequence WHERE name = 'messages') FROM delivered
    """,
    "outbound": """
        SELECT max(floor, coalesce((SELECT max(seq) FROM acks), 0))
            > (SELECT coalesce(max(seq), 0) FROM inbound.sqlite_sequence WHERE name = 'rows')
            OR EXISTS (SELECT 1 FROM push_rows WHERE row_id NOT IN (SELECT id FROM inbound.rows)) FROM acknowledged
    """,
}
USED: Final = "SELECT EXISTS (SELECT 1 FROM sqlite_sequence WHERE seq > 0)"
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class MailboxUnusable(NanoClawError):
    """A file of a mailbox cannot be read or written; nothing of the failed change is in it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"The mailbox file {path} cannot be used: {reason}. {self.advice}")
        self.path, self.reason = path, reason

    advice = "Free or mend the disk, or restore a backup."


class MailboxBroken(MailboxUnusable):
    """A file of a mailbox is damaged, gone, or of another time than the one beside it: no waiting will mend that."""

    advice = "The session begins anew at its next message; a copy of what is left is kept beside it."


class MailboxFiles:
    """Both files of one mailbox, open. Used by one thread at a time.

    Each connection writes its own file and sees the other one, read-only, under the other side's name. A file that is not
    there is made; but one that was there before, as its neighbour can tell, is missed.
    """

    def __init__(self, folder: Path) -> None:
        self._paths: dict[Side, Path] = paths_in(folder)
        self._connections: dict[Side, sqlite3.Connection] = {}
        try:
            with errors_naming(folder):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                finish_renewal(folder)
                absent = missing(folder)
            for side in sorted(self._paths, key=lambda side: side in absent):  # what is there says whether the other may be new
                with errors_naming(self._paths[side]):
                    self._connections[side] = _open(self._paths[side], side)
                if absent and side not in absent:
                    self._require_unused(side, absent)
            self._join("inbound", "outbound")
            self._join("outbound", "inbound")
            self._identities = {path: _identity(path) for path in self._paths.values()}
        except NanoClawError:
            self.close()
            raise

    @contextmanager
    def transaction(self, side: Side, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """One transaction that can change the file of `side`, undone when the block raises.

        When the block ends, it survives a power cut; without `durable` only the end of this process, until the next durable
        one is committed, but costs no writing to the disk.
        """
        connection = self._connections[side]
        with errors_naming(self._paths[side]):
            self._require_there()
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def close(self) -> None:
        """Let go of both files."""
        attached = "SELECT name FROM pragma_database_list WHERE name IN ('inbound', 'outbound')"
        for connection in self._connections.values():  # while a file is attached elsewhere, its log stays behind
            for (other,) in connection.execute(attached).fetchall():
                connection.execute(f"DETACH {other}")
        for connection in self._connections.values():
            connection.close()

    def _require_unused(self, side: Side, absent: Sequence[Side]) -> None:
        if self._connections[side].execute(USED).fetchone()[0]:
            raise MailboxBroken(self._paths[absent[0]], "it is gone, and the file beside it is not new")

    def _require_there(self) -> None:
        """SQLite goes on writing to a file that was deleted, and all of that would be lost."""
        for path, identity in self._identities.items():
            if _identity(path) != identity:
                raise MailboxBroken(path, "it was deleted or replaced while it was open")

    def _join(self, side: Side, other: Side) -> None:
        """Let the connection of `side` see the other file.

        One that was lost or put back from an older copy is refused: its new rows would be taken for finished ones.
        """
        with errors_naming(self._paths[other]):
            uri = f"{self._paths[other].absolute().as_uri()}?mode=ro"
            self._connections[side].execute(f"ATTACH ? AS {other}", (uri,))
            self._connections[side].execute(f"PRAGMA {other}.cache_size=-256")
            self._connections[side].execute(_VIEWS[side])
            (lost,) = self._connections[side].execute(_LOST[side]).fetchone()
        if lost:
            raise MailboxBroken(self._paths[other], "it is older than the file beside it")


def paths_in(folder: Path) -> dict[Side, Path]:
    """Where the files of the mailbox in `folder` lie."""
    return {"inbound": folder / "inbound.db", "outbound": folder / "outbound.db"}


def missing(folder: Path) -> list[Side]:
    """The files of the mailbox in `folder` that have no content: new ones, or lost.

    Raises:
        MailboxBroken: they are certainly lost.
    """
    paths = paths_in(folder)
    for path in paths.values():
        if path.is_dir():
            raise MailboxBroken(path, "there is a folder in its place")
    absent = [side for side, path in paths.items() if not path.exists() or not path.stat().st_size]
    if len(absent) == len(paths) and (folder / "state").exists():  # a worker's: made after the first row was there
        raise MailboxBroken(folder, "both of its files are gone")
    return absent


def _identity(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except FileNotFoundError:
        return (0, 0)
    return (found.st_dev, found.st_ino)


def _open(path: Path, side: Side) -> sqlite3.Connection:
    connection = sqlite3.connect(path.absolute().as_uri(), uri=True, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, path, side)
    except (sqlite3.Error, NanoClawError):
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, side: Side) -> None:
    connection.row_factory = sqlite3.Row
    if not connection.execute("PRAGMA page_count").fetchone()[0]:
        connection.execute("PRAGMA auto_vacuum=INCREMENTAL")  # only an empty file takes it
    # Pages that 64 mailboxes keep in memory, each in two connections to two files, are many: 256 KiB of each are enough.
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "cache_size=-256"):
        connection.execute(f"PRAGMA {pragma}")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > VERSION:
        raise DatabaseTooNew(path, str(version))
    if version < VERSION:
        steps = "".join(_STEPS[side][version:])
        connection.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version={VERSION}; COMMIT;")


@contextmanager
def errors_naming(path: Path) -> Iterator[None]:
    """Turn what SQLite says about a broken or unreachable file into an error that names it."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.ProgrammingError):  # ours, not the file's
        raise
    except (sqlite3.DatabaseError, OSError) as error:
        is_damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED  # without what SQLite adds to it
        raise (MailboxBroken if is_damaged else MailboxUnusable)(path, str(error)) from error
