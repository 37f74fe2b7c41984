"""What a mailbox's files remember of its rows: read, never written, whichever version wrote them, also when one is broken."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nanoclaw_core.mailbox.files import VERSION, Side
from nanoclaw_core.mailbox.inspection import looking
from nanoclaw_core.mailbox.records import read_address
from nanoclaw_core.models import Address, OutboundKind, Usage

_SINCE_2: Final = "version 1 of NanoClaw's files kept no times and no links: what it wrote is told without them"
#: The latest row of an address that ended with these message ids, for rows whose turn was not noted.
_SETTLED: Final = """
    SELECT outcome FROM messages
    WHERE kind = 'settled' AND chat = ? AND EXISTS (SELECT 1 FROM json_each(settles) WHERE value = ?) ORDER BY seq DESC
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """How far one part of a message got: `tries`, what the platform calls it, else why it was not sent last time."""

    number: int
    tries: int
    in_flight: bool
    message_id: str | None
    reason: str | None
    at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """Something on its way to people. `refused` is why it was given up; `is_final` is whether it is not tried any more."""

    seq: int
    to: Address
    text: str
    kind: OutboundKind
    key: str | None
    queued_at: float | None
    parts: tuple[Part, ...]
    is_final: bool
    final_at: float | None
    refused: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A turn that ended. One without an engine has perhaps no `worker`."""

    id: str
    started_at: float
    ended_at: float
    outcome: str
    detail: str | None
    usage: Usage
    worker: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A worker was given the row."""

    at: float
    worker: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Something that was noted in passing."""

    at: float
    kind: str
    about: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ActionCall:
    """A call of an action; until it ended, nobody knows what it did."""

    action: str
    began_at: float
    ended_at: float | None
    result: str | None
    is_error: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A row that is not done with: the agent has not answered it, or its answer was not delivered."""

    id: str
    address: Address
    message_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What became of one row.

    `is_acknowledged` with a `turn` of None means that an earlier version ended it with the outcome `word`. `words` came of its
    turn, `notices` told the chat of its trouble. `steps` and `calls` are those of its turn's time.
    """

    id: str
    seq: int
    added_at: float | None
    is_acknowledged: bool
    is_outstanding: bool
    attempts: tuple[Attempt, ...]
    turn: Turn | None
    word: str | None
    words: tuple[Outgoing, ...]
    notices: tuple[Outgoing, ...]
    steps: tuple[Step, ...]
    calls: tuple[ActionCall, ...]


class MailboxHistory:
    """The two files of one mailbox, as far as they can be read; `faults` says, a line each, what is missing and why."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.faults: list[str] = []
        self._paths: dict[Side, Path] = {"inbound": folder / "inbound.db", "outbound": folder / "outbound.db"}
        self._open: dict[Side, sqlite3.Connection] = {}
        self._versions: dict[Side, int] = {}
        for side in self._paths:
            self._look(side, stack)
        if min(self._versions.values(), default=VERSION) < 2:
            self.faults.append(_SINCE_2)

    @property
    def is_whole(self) -> bool:
        """Whether both files can be read."""
        return len(self._open) == len(self._paths)

    def trace(self, row_id: str) -> Trace | None:
        """What became of the row, None when the mailbox does not have it."""
        found = self._rows("inbound", "SELECT * FROM rows WHERE id = ?", row_id)
        if not found:
            return None
        row = found[0]
        turn = self._turn(row_id)
        attempts = self._attempts(row_id)
        span = _span(turn, attempts)
        words = self._words(turn, span)
        return Trace(
            id=row_id,
            seq=row["seq"],
            added_at=_of(row, "added_at"),
            is_acknowledged=self._is_acknowledged(row["seq"]),
            is_outstanding=bool(self._rows("outbound", "SELECT 1 FROM push_rows WHERE row_id = ?", row_id)),
            attempts=attempts,
            turn=turn,
            word=turn.outcome if turn else self._word(row),
            words=words,
            notices=tuple(self._notices(row_id, words)),
            steps=self._steps(span),
            calls=self._calls(span),
        )

    def unfinished(self) -> list[Waiting]:
        """The rows that are not done with, oldest first; none while one of the files cannot be read."""
        if not self.is_whole:
            return []
        rows = {row["id"]: row for row in self._rows("inbound", "SELECT * FROM rows WHERE seq > ? ORDER BY seq", self._heard)}
        acknowledged = {row["seq"] for row in self._rows("outbound", "SELECT seq FROM acks")}
        found = {name: row for name, row in rows.items() if row["seq"] not in acknowledged}
        for (row_id,) in self._undelivered():
            found |= {row["id"]: row for row in self._rows("inbound", "SELECT * FROM rows WHERE id = ?", row_id)}
        ordered = sorted(found.values(), key=lambda row: row["seq"])
        return [Waiting(id=row["id"], address=read_address(row), message_id=row["message_id"]) for row in ordered]

    # --- of one row -------------------------------------------------------------------------------------------------------

    def _is_acknowledged(self, seq: int) -> bool:
        return seq <= self._heard or bool(self._rows("outbound", "SELECT 1 FROM acks WHERE seq = ?", seq))

    def _word(self, row: sqlite3.Row) -> str | None:
        found = self._rows("outbound", _SETTLED, row["chat"], row["message_id"])
        return found[0]["outcome"] if found else None

    def _turn(self, row_id: str) -> Turn | None:
        found = self._later("SELECT turns.* FROM turn_rows JOIN turns ON turns.id = turn WHERE row_id = ?", row_id)
        if not found:
            return None
        row = found[0]
        usage = Usage(**{name: row[name] for name in Usage.__dataclass_fields__})
        names = ("id", "started_at", "ended_at", "outcome", "detail", "worker")
        return Turn(usage=usage, **{name: row[name] for name in names})

    def _attempts(self, row_id: str) -> tuple[Attempt, ...]:
        """Every worker that was given the row; of a file of version 1, when the push was made and who has it now."""
        steps = self._later("SELECT * FROM steps WHERE about = ? AND kind = 'pushed' ORDER BY seq", row_id)
        if steps:
            return tuple(Attempt(at=row["at"], worker=row["detail"]) for row in steps)
        query = "SELECT pushed_at, worker_id FROM pushes WHERE uuid IN (SELECT uuid FROM push_rows WHERE row_id = ?)"
        return tuple(Attempt(at=row["pushed_at"], worker=row["worker_id"]) for row in self._rows("outbound", query, row_id))

    def _steps(self, span: tuple[float, float]) -> tuple[Step, ...]:
        found = self._later("SELECT * FROM steps WHERE at BETWEEN ? AND ? AND kind <> 'pushed' ORDER BY seq", *span)
        return tuple(Step(at=row["at"], kind=row["kind"], about=row["about"], detail=row["detail"]) for row in found)

    def _calls(self, span: tuple[float, float]) -> tuple[ActionCall, ...]:
        found = self._later("SELECT * FROM calls WHERE began_at BETWEEN ? AND ? ORDER BY began_at", *span)
        names = ("action", "began_at", "ended_at", "result")
        return tuple(ActionCall(is_error=bool(row["is_error"]), **{name: row[name] for name in names}) for row in found)

    # --- what was said ----------------------------------------------------------------------------------------------------

    def _words(self, turn: Turn | None, span: tuple[float, float]) -> tuple[Outgoing, ...]:
        """What its turn said, at its end or, by an action, before that; not the notices of other troubles."""
        at_its_end = "SELECT * FROM messages WHERE turn = ? AND kind <> 'settled' ORDER BY seq"
        during = """
            SELECT * FROM messages WHERE turn IS NULL AND kind = 'message' AND queued_at BETWEEN ? AND ?
            AND (key IS NULL OR key GLOB 'call-*') ORDER BY seq
        """
        return (*self._said(during, *span), *(self._said(at_its_end, turn.id) if turn else ()))

    def _notices(self, row_id: str, words: Sequence[Outgoing]) -> Iterator[Outgoing]:
        """What the chat was told meanwhile: why the row waits, and which of its words were lost."""
        yield from self._outgoing("SELECT * FROM messages WHERE key GLOB ? ORDER BY seq", f"waiting-{row_id}-*")
        for each in words:
            yield from self._outgoing("SELECT * FROM messages WHERE key IN (?, ?)", f"loss-{each.seq}", f"doubt-{each.seq}")

    def _said(self, query: str, *values: object) -> Iterator[Outgoing]:
        return self._outgoing(query, *values) if self._versions.get("outbound", 0) >= 2 else iter(())

    def _outgoing(self, query: str, *values: object) -> Iterator[Outgoing]:
        for row in self._rows("outbound", query, *values):
            final = self._rows("inbound", "SELECT * FROM finals WHERE seq = ?", row["seq"])
            parts = self._rows("inbound", "SELECT * FROM parts WHERE seq = ? ORDER BY part", row["seq"])
            yield Outgoing(
                seq=row["seq"],
                to=read_address(row),
                text=row["text"],
                kind=OutboundKind(row["kind"]),
                key=row["key"],
                queued_at=_of(row, "queued_at"),
                parts=tuple(map(_part, parts)),
                is_final=bool(final) or row["seq"] <= self._delivered,
                final_at=_of(final[0], "at") if final else None,
                refused=final[0]["refused"] if final else None,
            )

    def _undelivered(self) -> list[sqlite3.Row]:
        """The ids of the rows whose turn said something that is on its way."""
        floor = self._delivered
        waiting = self._later("SELECT seq, turn FROM messages WHERE seq > ? AND kind <> 'settled' AND turn IS NOT NULL", floor)
        final = {row["seq"] for row in self._rows("inbound", "SELECT seq FROM finals WHERE seq > ?", floor)}
        turns = {row["turn"] for row in waiting if row["seq"] not in final}
        return [row for turn in turns for row in self._later("SELECT row_id FROM turn_rows WHERE turn = ?", turn)]

    # --- the files --------------------------------------------------------------------------------------------------------

    @property
    def _heard(self) -> int:
        """Every row up to this one is acknowledged."""
        found = self._rows("outbound", "SELECT floor FROM acknowledged")
        return found[0]["floor"] if found else 0

    @property
    def _delivered(self) -> int:
        """Everything up to this number has its final receipt."""
        found = self._rows("inbound", "SELECT floor FROM delivered")
        return found[0]["floor"] if found else 0

    def _look(self, side: Side, stack: ExitStack) -> None:
        path = self._paths[side]
        if not path.exists():
            self.faults.append(f"{_called(path)} is not there")
            return
        try:
            connection, version = stack.enter_context(looking(path))
        except (sqlite3.DatabaseError, OSError) as error:
            self.faults.append(f"{_called(path)} cannot be read: {error}")
            return
        if version > VERSION:
            self.faults.append(f"a later version of NanoClaw wrote {_called(path)} (schema {version})")
            return
        connection.row_factory = sqlite3.Row
        self._open[side], self._versions[side] = connection, version

    def _later(self, query: str, *values: object) -> list[sqlite3.Row]:
        """Rows of tables that files of version 1 do not have."""
        return self._rows("outbound", query, *values) if self._versions.get("outbound", 0) >= 2 else []

    def _rows(self, side: Side, query: str, *values: object) -> list[sqlite3.Row]:
        if side not in self._open:
            return []
        try:
            return self._open[side].execute(query, values).fetchall()
        except sqlite3.DatabaseError as error:
            self.faults.append(f"{_called(self._paths[side])} cannot be read: {error}")
            del self._open[side]
            return []


@contextmanager
def mailbox_history(folder: Path) -> Iterator[MailboxHistory]:
    """What can be read of the mailbox in `folder`. Blocks."""
    with ExitStack() as stack:
        yield MailboxHistory(folder, stack)


def _called(path: Path) -> str:
    return f"{path.name} of session {path.parent.name}"


def _span(turn: Turn | None, attempts: tuple[Attempt, ...]) -> tuple[float, float]:
    """From the first push to the turn's end, or for ever; of a session that has one worker at a time, all that happens then."""
    if turn:
        return turn.started_at, turn.ended_at
    return (attempts[0].at, float("inf")) if attempts else (1.0, 0.0)


def _part(row: sqlite3.Row) -> Part:
    return Part(
        number=row["part"],
        tries=row["attempts"],
        in_flight=bool(row["in_flight"]),
        message_id=row["message_id"],
        reason=_of(row, "reason"),
        at=_of(row, "at"),
    )


def _of(row: sqlite3.Row, column: str) -> Any:  # Any: as diverse as the columns
    """The value of a column that the file's version may not have."""
    return row[column] if column in row.keys() else None  # noqa: SIM118  # a Row is searched by its values
