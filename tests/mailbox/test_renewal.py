"""A new pair of files in place of a broken one: when there is one, what it goes on from, and what if that is cut off."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core.errors import DatabaseTooNew
from nanoclaw_core.mailbox import Mailbox, MailboxBroken, Mailboxes, MailboxUnusable, NewCall, NewOutbound, NewRow, aside
from nanoclaw_core.mailbox.aside import copies_in
from nanoclaw_core.mailbox.renewal import begin_anew, remains_of
from nanoclaw_core.models import Address, OutboundKind, Push, Session, TurnEnd


def pay(key: str) -> NewCall:
    return NewCall(key=key, worker_id="w1", action="pay", arguments="{}", digest="d")


class Killed(BaseException):
    """The end of the process."""


HERE = Address(channel="telegram", chat="42")
NOTICE = NewOutbound(to=HERE, text="begun anew", kind=OutboundKind.NOTICE)


def row(number: int) -> NewRow:
    return NewRow(id=f"r{number}", address=HERE, message_id=str(number), sender_id="", sender_name="", text="x", sent_at=1.0)


def spoil(folder: Path, pattern: str) -> None:
    for path in folder.glob(pattern):
        path.write_bytes(b"garbage" * 1000)


async def answered(mailbox: Mailbox, number: int, conversation: str = "c1") -> None:
    await mailbox.add_rows([row(number)])
    await mailbox.record_push(Push(uuid=f"u{number}", text=""), [f"r{number}"], "w1")
    end = TurnEnd(id=f"f{number}", covered=(f"u{number}",), text="ok", conversation=conversation)
    await mailbox.end_turn(end, [NewOutbound(to=HERE, text=f"answer {number}")], "answered")


async def delivered(mailbox: Mailbox) -> None:
    for due in await mailbox.due():
        await mailbox.delivered(due.seq)


@pytest.fixture
async def folder(mailboxes: Mailboxes, mailbox: Mailbox, session: Session, tmp_path: Path) -> Path:
    """Of a session with one answered message, one that was pushed and one that waits; times go on."""
    times = iter(range(100, 1000))
    mailboxes.now = lambda: next(times)
    await answered(mailbox, 1)
    await delivered(mailbox)
    await mailbox.begin_call(pay("k1"))
    await mailbox.end_call("k1", "paid", is_error=False)
    await mailbox.add_rows([row(2), row(3)])
    await mailbox.record_push(Push(uuid="u2", text=""), ["r2"], "w1")
    await mailboxes.close()
    return tmp_path / session.folder


@pytest.mark.parametrize(
    ("gone", "unanswered"),
    [("inbound.db", ["r2", "r3"]), ("outbound.db", ["r2", "r3"]), ("*.db", [])],
    ids=["inbound", "outbound", "both"],
)
async def test_only_what_certainly_had_no_outcome_is_answered_again(folder: Path, gone: str, unanswered: list[str]) -> None:
    spoil(folder, gone)
    assert remains_of(folder).unanswered(["r1", "r2", "r3"]) == unanswered


@pytest.mark.parametrize("gone", ["inbound.db", "outbound.db"])
async def test_what_was_answered_before_is_not_answered_again_when_it_breaks_twice(
    mailbox: Mailbox, mailboxes: Mailboxes, folder: Path, gone: str
) -> None:
    spoil(folder, gone)
    begin_anew(folder, remains_of(folder), [row(3)], NOTICE, 5000.0)
    spoil(folder, "inbound.db")
    assert remains_of(folder).unanswered(["r1", "r2", "r3"]) == []


async def test_what_came_before_the_last_receipt_may_have_been_answered(
    mailboxes: Mailboxes, mailbox: Mailbox, folder: Path
) -> None:
    await mailbox.add_outbound("k", NewOutbound(to=HERE, text="by the way"))
    await delivered(mailbox)
    await mailboxes.close()
    (folder / "outbound.db").unlink()
    assert remains_of(folder).unanswered(["r1", "r2", "r3"]) == []


async def test_numbers_the_conversation_and_calls_go_on(
    mailboxes: Mailboxes, mailbox: Mailbox, session: Session, folder: Path
) -> None:
    (folder / "inbound.db").write_bytes(b"garbage" * 1000)
    begin_anew(folder, remains_of(folder), [row(2), row(3)], NOTICE, 5000.0)
    assert [(each.seq, each.text) for each in await mailbox.due()] == [(5001, "begun anew")]
    assert [(each.seq, each.id) for each in await mailbox.waiting()] == [(5001, "r2"), (5002, "r3")]
    assert await mailbox.conversation() == "c1"
    call = await mailbox.begin_call(pay("k1"))
    assert call is not None
    assert call.result == "paid"
    assert (await mailbox.receipt(2)).is_over
    await answered(mailbox, 4)
    await delivered(mailbox)
    await mailboxes.close()
    assert [each.id for each in await mailbox.waiting()] == ["r2", "r3"]


async def test_no_number_is_given_twice_although_the_clock_was_set_back(mailbox: Mailbox, folder: Path) -> None:
    for _ in range(2):
        await mailbox.close()
        (folder / "inbound.db").unlink()
        begin_anew(folder, remains_of(folder), [], NOTICE, 5000.0)
    assert [each.seq for each in await mailbox.due()] == [5002]


@pytest.mark.parametrize("step", range(1, 12))
async def test_a_renewal_that_is_cut_off_is_finished_by_the_next_opening(
    mailboxes: Mailboxes, mailbox: Mailbox, session: Session, folder: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before its n-th renaming, whichever that is: either all of it happens, or none."""
    (folder / "outbound.db").write_bytes(b"garbage" * 1000)
    rename: Callable[[Path, Any], Path] = Path.rename
    count = 0

    def deadly(self: Path, target: Path) -> Path:
        nonlocal count
        count += 1
        if count == step:
            raise Killed
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", deadly)
        with suppress(Killed):
            begin_anew(folder, remains_of(folder), [row(3)], NOTICE, 5000.0)
    if step == 1:  # nothing had happened yet
        with pytest.raises(MailboxBroken):
            await mailbox.due()
        begin_anew(folder, remains_of(folder), [row(3)], NOTICE, 5000.0)
    assert [each.text for each in await mailbox.due()] == ["begun anew"]
    assert [each.id for each in await mailbox.waiting()] == ["r3"]
    assert {path.name for path in copies_in(folder)[-1].iterdir()} == {"inbound.db", "outbound.db"}
    assert not (folder / aside.NEW_PAIR).exists()


@pytest.mark.parametrize("missing", [[], ["inbound.db"]])
async def test_a_file_of_a_later_version_is_refused_and_left_as_it_is(
    mailboxes: Mailboxes, session: Session, folder: Path, missing: list[str]
) -> None:
    async def renew(session: Session, broken: MailboxBroken) -> None:
        raise AssertionError("it is not broken")

    mailboxes.renew = renew
    for name in missing:
        (folder / name).unlink()
    with sqlite3.connect(folder / "outbound.db") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(DatabaseTooNew, match=r"outbound\.db"):
        await mailboxes.open(session)
    assert copies_in(folder) == []


@pytest.mark.parametrize("code", [sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_BUSY])
async def test_a_disk_that_fails_is_waited_for_not_repaired(
    mailboxes: Mailboxes, session: Session, folder: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def renew(session: Session, broken: MailboxBroken) -> None:
        raise AssertionError("it is not broken")

    mailboxes.renew = renew

    def fail(*arguments: object, **options: object) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = code
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", fail)
        with pytest.raises(MailboxUnusable):
            await mailboxes.open(session)
    assert len(await (await mailboxes.open(session)).waiting()) == 1


async def test_who_relied_on_the_old_files_is_told_and_then_served_by_the_new_ones(
    mailboxes: Mailboxes, mailbox: Mailbox, folder: Path
) -> None:
    renewed: list[str] = []

    async def renew(session: Session, broken: MailboxBroken) -> None:
        renewed.append(broken.reason)
        begin_anew(folder, remains_of(folder), [], NOTICE, 5000.0)

    mailboxes.renew = renew
    await mailbox.due()
    (folder / "inbound.db").unlink()
    with pytest.raises(MailboxBroken, match="deleted"):
        await mailbox.waiting()
    assert await mailbox.waiting() == []
    assert renewed == ["it was deleted or replaced while it was open"]
