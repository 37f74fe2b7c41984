"""What a mailbox remembers of its messages, and what becomes of files that an earlier version wrote."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core.mailbox import Call, Mailbox, Mailboxes, MailboxUnusable, NewCall, NewOutbound, NewRow, files
from nanoclaw_core.mailbox.files import VERSION
from nanoclaw_core.models import Address, Push, Session, TurnEnd, Usage

HERE = Address(channel="telegram", chat="42", thread="7", account="bot")
VERSION_1 = Path(__file__).parent / "version1"


class Hand:
    """A clock that the test turns."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
async def mailbox(tmp_path: Path, session: Session) -> Any:  # an async generator
    boxes = Mailboxes(tmp_path, now=Hand())
    yield await boxes.open(session)
    await boxes.close()


async def read(mailbox: Mailbox, query: str) -> list[tuple[Any, ...]]:
    side: Any = "inbound" if any(f"FROM {table}" in query for table in ("rows", "parts", "finals")) else "outbound"
    return await mailbox._run(side, lambda db: [tuple(row) for row in db.execute(query)])


def row(number: int) -> NewRow:
    return NewRow(id=f"row-{number}", address=HERE, message_id=str(number), sender_id="", sender_name="", text="x", sent_at=1.0)


async def push(mailbox: Mailbox, uuid: str, *numbers: int) -> None:
    await mailbox.record_push(Push(uuid=uuid, text=""), [f"row-{number}" for number in numbers], "w1")


# --- what is remembered ---


async def test_every_change_keeps_its_time(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1)])
    await push(mailbox, "u1", 1)
    end = TurnEnd(id="w1-1", covered=("u1",), text="ok", conversation="c1")
    await mailbox.end_turn(end, [NewOutbound(to=HERE, text="ok")], "answered")
    await mailbox.sending(1, 0)
    await mailbox.not_sent(1, 0, "too many requests")
    await mailbox.sending(1, 0)
    await mailbox.sent(1, 0, "m1")
    await mailbox.delivered(1)
    assert await read(mailbox, "SELECT id, added_at FROM rows") == [("row-1", 101.0)]
    assert await read(mailbox, "SELECT kind, about, detail, at FROM steps") == [("pushed", "row-1", "w1", 102.0)]
    assert await read(mailbox, "SELECT queued_at, turn FROM messages") == [(103.0, "w1-1")] * 2
    assert await read(mailbox, "SELECT attempts, reason, message_id, at FROM parts") == [(2, "too many requests", "m1", 107.0)]
    assert await read(mailbox, "SELECT refused, at FROM finals") == [(None, 108.0)]


async def test_a_turn_remembers_its_rows_and_each_worker_that_took_them(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1), row(2)])
    await push(mailbox, "u1", 1, 2)
    await mailbox.begin_attempt(["u1"], "w2")
    await mailbox.end_turn(TurnEnd(id="w2-1", covered=("u1",), text="", conversation="c1"), [], "answered")
    assert await read(mailbox, "SELECT row_id, turn FROM turn_rows") == [("row-1", "w2-1"), ("row-2", "w2-1")]
    assert await read(mailbox, "SELECT worker, started_at FROM turns") == [("w2", 102.0)]
    assert await read(mailbox, "SELECT about, detail FROM steps ORDER BY seq") == [
        ("row-1", "w1"), ("row-2", "w1"), ("row-1", "w2"), ("row-2", "w2"),
    ]  # fmt: skip


async def test_rows_that_were_given_up_remember_it_like_a_turn(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1), row(2)])
    await push(mailbox, "u1", 1)
    await mailbox.fail_rows(["row-1"], [NewOutbound(to=HERE, text="sorry")], "failed")
    await mailbox.fail_rows(["row-2"], [], "failed")
    turns = await read(mailbox, "SELECT outcome, worker, started_at, ended_at FROM turns ORDER BY ended_at")
    assert turns == [("failed", "w1", 102.0, 103.0), ("failed", None, 104.0, 104.0)]
    assert await read(mailbox, "SELECT text FROM messages JOIN turn_rows USING (turn) WHERE row_id = 'row-1'") == [
        ("sorry",), ("",),
    ]  # fmt: skip


async def test_a_call_keeps_when_it_began_and_ended(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1)])
    await push(mailbox, "u1", 1)
    await mailbox.begin_call(NewCall(key="k1", worker_id="w1", action="roll_dice", arguments="{}", digest="d1"))
    await mailbox.end_call("k1", "six", False)
    await mailbox.end_turn(TurnEnd(id="w1-1", covered=("u1",), text="", conversation="c1"), [], "answered")
    calls = await read(mailbox, "SELECT action, arguments, worker, turn, began_at, ended_at FROM calls")
    assert calls == [("roll_dice", "{}", "w1", "w1-1", 103.0, 104.0)]


async def test_a_note_is_kept_and_waits_for_no_disk(mailbox: Mailbox) -> None:
    await mailbox.note("tool", "Bash", "began")
    assert await read(mailbox, "SELECT at, kind, about, detail FROM steps") == [(101.0, "tool", "Bash", "began")]
    assert mailbox._files is not None
    writes = mailbox._files._connections["outbound"].execute("PRAGMA synchronous").fetchone()
    await mailbox.note("tool", "Bash", "ended")
    assert tuple(writes) == (2,)  # a durable transaction came between
    writes = mailbox._files._connections["outbound"].execute("PRAGMA synchronous").fetchone()
    assert tuple(writes) == (1,)


# --- files of an earlier version ---


def restore(folder: Path, *sides: str) -> None:
    """Lay down files as version 1 wrote them: one message answered, one taken over by a second worker, one that waits."""
    folder.mkdir(parents=True, exist_ok=True)
    for side in sides:
        (folder / f"{side}.db").unlink(missing_ok=True)
        with closing(sqlite3.connect(folder / f"{side}.db")) as connection:
            connection.executescript((VERSION_1 / f"{side}.sql").read_text())


@pytest.mark.parametrize("behind", [("inbound", "outbound"), ("inbound",), ("outbound",)])
async def test_files_of_version_1_go_on_where_they_were_also_if_only_one_is_behind(
    mailboxes: Mailboxes, session: Session, tmp_path: Path, behind: tuple[str, ...]
) -> None:
    folder = tmp_path / session.folder
    restore(folder, "inbound", "outbound")
    await mailboxes.open(session)
    await mailboxes.close()
    restore(folder, *behind)
    mailbox = await Mailboxes(tmp_path, now=lambda: 2000.0).open(session)
    assert [row.id for row in await mailbox.waiting()] == ["row-3"]
    (taken,) = await mailbox.outstanding()
    assert ([row.id for row in taken.rows], taken.attempts, taken.worker_id) == (["row-2"], 2, "w2")
    assert await mailbox.conversation() == "c1"
    again = NewCall(key="toolu_1", worker_id="w2", action="send_message", arguments="{}", digest="d1")
    assert await mailbox.begin_call(again) == Call(
        key="toolu_1", action="", digest="", result="sent", is_error=False, ended=True
    )
    assert await mailbox.earlier_calls() == []
    (unsent,) = await mailbox.due()
    assert (await mailbox.receipt(unsent.seq)).in_flight == {0}
    end = TurnEnd(id="w2-1", covered=("u2",), text="", conversation="c1", usage=Usage(input_tokens=1))
    assert await mailbox.end_turn(end, [], "answered")
    assert await read(mailbox, "SELECT worker FROM turns ORDER BY ended_at") == [(None,), ("w2",)]
    await mailbox.close()


async def test_a_migrated_file_is_like_a_new_one(mailboxes: Mailboxes, session: Session, tmp_path: Path) -> None:
    restore(tmp_path / session.folder, "inbound", "outbound")
    for name in (session.folder, "sessions/andy/new"):
        await mailboxes.open(Session(id=name, agent_group_id="a", messaging_group_id="m", thread=None, folder=name))
    await mailboxes.close()
    for side in ("inbound.db", "outbound.db"):
        assert schema(tmp_path / session.folder / side) == schema(tmp_path / "sessions/andy/new" / side)


def schema(path: Path) -> list[object]:
    with closing(sqlite3.connect(path)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()
        assert version == (VERSION,)
        return connection.execute("SELECT type, name, sql FROM sqlite_schema ORDER BY name").fetchall()


async def test_a_migration_that_breaks_off_has_not_happened(
    mailboxes: Mailboxes, session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restore(tmp_path / session.folder, "inbound", "outbound")
    broken = {side: (*steps[:-1], steps[-1] + "ALTER TABLE nowhere ADD COLUMN x;") for side, steps in files._STEPS.items()}
    with monkeypatch.context() as patched:
        patched.setattr(files, "_STEPS", broken)
        with pytest.raises(MailboxUnusable, match="nowhere"):
            await mailboxes.open(session)
    mailbox = await mailboxes.open(session)
    assert [row.id for row in await mailbox.waiting()] == ["row-3"]
