"""The files of mailboxes: who may read them, how many are open, and what a broken one says."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from nanoclaw_core.errors import DatabaseTooNew
from nanoclaw_core.mailbox import Mailbox, Mailboxes, MailboxUnusable, NewRow
from nanoclaw_core.models import Address, Session


def row(number: int) -> NewRow:
    address = Address(channel="telegram", chat="42")
    return NewRow(id=str(number), address=address, message_id=str(number), sender_id="", sender_name="", text="x", sent_at=1.0)


def open_files(mailboxes: Mailboxes) -> int:
    return sum(mailbox.is_open for mailbox in mailboxes._known.values())


async def test_the_folder_of_a_session_is_its_owners_alone(mailbox: Mailbox, tmp_path: Path) -> None:
    folder = tmp_path / "sessions/andy/s1"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {path.name for path in folder.glob("*.db")} == {"inbound.db", "outbound.db"}


async def test_a_session_has_one_mailbox(mailboxes: Mailboxes, mailbox: Mailbox, session: Session) -> None:
    assert await mailboxes.open(session) is mailbox


async def test_at_most_64_mailboxes_are_open_and_a_closed_one_opens_again(mailboxes: Mailboxes, session: Session) -> None:
    sessions = [replace(session, id=f"s{number}", folder=f"sessions/andy/s{number}") for number in range(70)]
    boxes = [await mailboxes.open(each) for each in sessions]
    assert open_files(mailboxes) == 64
    assert not boxes[0].is_open
    assert await boxes[0].add_rows([row(1)]) == 1
    assert await (await mailboxes.open(sessions[0])).add_rows([row(1)]) == 0
    assert open_files(mailboxes) == 64


async def test_many_users_of_one_mailbox_take_turns(mailbox: Mailbox) -> None:
    added: list[int] = []

    async def add(number: int) -> None:
        added.append(await mailbox.add_rows([row(number), row(number % 10)]))

    async with anyio.create_task_group() as tasks:
        for number in range(40):
            tasks.start_soon(add, number)
    assert sum(added) == 40
    assert len(await mailbox.waiting()) == 40


async def test_a_cancelled_call_happens_whole(mailbox: Mailbox) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(mailbox.add_rows, [row(number) for number in range(1000)])
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert len(await mailbox.waiting(limit=2000)) in {0, 1000}
    assert await mailbox.add_rows([row(1000)]) == 1


async def test_closing_leaves_no_logs_beside_the_files(mailboxes: Mailboxes, mailbox: Mailbox, tmp_path: Path) -> None:
    await mailbox.add_rows([row(1)])
    await mailboxes.close()
    assert {path.name for path in (tmp_path / "sessions/andy/s1").iterdir()} == {"inbound.db", "outbound.db"}


@pytest.mark.parametrize("name", ["inbound.db", "outbound.db"])
async def test_garbage_is_an_error_that_names_it(mailboxes: Mailboxes, session: Session, tmp_path: Path, name: str) -> None:
    folder = tmp_path / session.folder
    folder.mkdir(parents=True)
    (folder / name).write_bytes(b"garbage" * 1000)
    for _ in range(2):  # and it stays an error
        with pytest.raises(MailboxUnusable, match=name):
            await mailboxes.open(session)


@pytest.mark.parametrize("name", ["inbound.db", "outbound.db"])
async def test_a_file_of_a_later_version_is_refused(mailboxes: Mailboxes, session: Session, tmp_path: Path, name: str) -> None:
    await (await mailboxes.open(session)).add_rows([row(1)])
    await mailboxes.close()
    with closing(sqlite3.connect(tmp_path / session.folder / name)) as connection:
        connection.execute("PRAGMA user_version=99")
    with pytest.raises(DatabaseTooNew, match=name):
        await mailboxes.open(session)


@pytest.mark.parametrize("name", ["inbound.db", "outbound.db"])
async def test_a_lost_file_is_noticed_before_new_rows_pass_for_finished_ones(
    mailboxes: Mailboxes, mailbox: Mailbox, session: Session, tmp_path: Path, name: str
) -> None:
    await mailbox.add_rows([row(1)])
    await mailbox.fail_rows(["1"], [], "failed")
    (settled,) = await mailbox.due()
    await mailbox.delivered(settled.seq)
    await mailboxes.close()
    (tmp_path / session.folder / name).unlink()
    with pytest.raises(MailboxUnusable, match=name):
        await mailbox.waiting()


async def test_a_folder_that_cannot_be_made_is_named(mailboxes: Mailboxes, session: Session, tmp_path: Path) -> None:
    (tmp_path / "sessions").write_text("in the way")
    with pytest.raises(MailboxUnusable, match="sessions/andy/s1"):
        await mailboxes.open(session)
