"""What is forgotten, when, and what never is: on a real database and real mailboxes, with a clock that may be wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from bench.crowd import make_crowd, session_folder
from nanoclaw_core.journal import Journal
from nanoclaw_core.mailbox import Mailboxes, NewCall, NewOutbound, NewRow
from nanoclaw_core.mailbox.files import MailboxFiles
from nanoclaw_core.models import InboundMessage, Push, Sender, TurnEnd
from nanoclaw_core.retention import AFTER_START, Retention
from nanoclaw_core.store import sessions
from nanoclaw_core.store.database import open_database
from nanoclaw_core.store.spending import Spent, book
from nanoclaw_core.testing import FakeClock
from tests.house import CHAT, House, open_house

DAY, YEAR = 86400.0, 365 * 86400.0


def pay(key: str) -> NewCall:
    return NewCall(key=key, worker_id="w1", action="pay", arguments="{}", digest="d")


@pytest.fixture
async def house(nanoclaw_home: Path) -> AsyncIterator[House]:
    async with open_house(nanoclaw_home) as house:
        seen = await house.database.read(partial(sessions.marks, session_id=house.session.id))
        assert seen is not None
        await house.database.write(partial(sessions.settle, session_id=house.session.id, seen=seen))
        yield house


def retention(house: House, days: int = 30) -> Retention:
    return Retention(database=house.database, mailboxes=house.mailboxes, home=house.home, clock=house.clock, days=days)


async def live(house: House, weeks: int) -> None:
    """Let a host run for so long, which looks after it once a week."""
    for _ in range(weeks):
        house.clock.jump(7 * DAY)
        await retention(house).prune()


async def sql(house: House, text: str) -> list[Any]:  # Any: rows
    return await house.database.read(lambda connection: [tuple(row) for row in connection.exec_driver_sql(text)])


def message(number: int) -> InboundMessage:
    sender = Sender(handle="ada", name="Ada")
    return InboundMessage(address=CHAT, message_id=f"m{number}", sender=sender, text=f"words {number}", sent_at=1.0)


async def hear(house: House, number: int) -> None:
    """A message comes, is routed and answered, and its answer is delivered."""
    journal = Journal(house.database, house.clock)
    await journal.accept(message(number))
    await journal.routed({entry.seq: "heard" for entry in await journal.unrouted()})
    row = NewRow(
        id=f"r{number}",
        address=CHAT,
        message_id=f"m{number}",
        sender_id="",
        sender_name="",
        text=f"words {number}",
        sent_at=1.0,
        attachment=f"r{number}/message.txt",
    )
    await anyio.to_thread.run_sync(_keep_file, house.home / house.session.folder / "inbox" / f"r{number}")
    await house.mailbox.add_rows([row])
    await house.mailbox.record_push(Push(uuid=f"u{number}", text=""), [row.id], "w1")
    await house.mailbox.begin_call(pay(f"k{number}"))
    await house.mailbox.end_call(f"k{number}", "paid", is_error=False)
    end = TurnEnd(id=f"f{number}", covered=(f"u{number}",), text="ok", conversation="c")
    await house.mailbox.end_turn(end, [NewOutbound(to=CHAT, text=f"answer {number}")], "answered")
    for due in await house.mailbox.due():
        await house.mailbox.sending(due.seq, 0)
        await house.mailbox.delivered(due.seq)


def _keep_file(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "message.txt").write_text("words")


def count_in(house: House, *tables: str) -> list[int]:
    counts = []
    for table in tables:
        side = "inbound" if table in ("rows", "parts", "finals") else "outbound"
        with closing(sqlite3.connect(house.home / house.session.folder / f"{side}.db")) as db:
            counts.append(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608  # a name of the test's own
    return counts


def inbox(house: House) -> list[str]:
    return sorted(path.name for path in (house.home / house.session.folder / "inbox").iterdir())


TABLES = ("rows", "finals", "parts", "messages", "turns", "turn_rows", "frames", "steps")


async def test_what_is_finished_and_old_is_forgotten_and_what_is_young_stays(house: House) -> None:
    await hear(house, 1)
    await live(house, 4)
    await hear(house, 2)
    await live(house, 1)
    assert count_in(house, *TABLES) == [1, 2, 2, 2, 1, 1, 1, 1]
    assert inbox(house) == ["r2"]
    (old,), (young,) = await sql(house, "SELECT payload FROM events ORDER BY seq")
    assert "words" not in old
    assert "ada" not in old
    assert "words 2" in young


async def test_a_platform_that_sends_a_forgotten_message_again_is_not_answered_again(house: House) -> None:
    await hear(house, 1)
    await live(house, 5)
    assert not await Journal(house.database, house.clock).accept(message(1))
    call = await house.mailbox.begin_call(pay("k1"))
    assert call is not None
    assert call.ended
    assert call.result == ""
    await live(house, 53)
    assert await sql(house, "SELECT count(*) FROM events") == [(0,)]
    assert await house.mailbox.begin_call(pay("k1")) is None


async def test_what_is_not_finished_is_never_forgotten(house: House) -> None:
    """Unanswered, undelivered, unrouted, and what the agent was not told: all of it as old as the rest."""
    await hear(house, 1)
    await house.mailbox.add_outbound("k", NewOutbound(to=CHAT, text="refused"))
    (due,) = await house.mailbox.due()
    await house.mailbox.undeliverable(due.seq, "no such chat")
    await house.mailbox.add_outbound("k2", NewOutbound(to=CHAT, text="undelivered"))
    waiting = NewRow(id="r9", address=CHAT, message_id="m9", sender_id="", sender_name="", text="x", sent_at=1.0)
    await house.mailbox.add_rows([waiting])
    await house.database.write(partial(sessions.mark_attention, session_id=house.session.id))
    await live(house, 10)
    assert [row.id for row in await house.mailbox.waiting()] == ["r9"]
    assert [row.text for row in await house.mailbox.due()] == ["undelivered"]
    assert [lost.text for lost in await house.mailbox.untold()] == ["refused"]
    ((payload,),) = await sql(house, "SELECT payload FROM events")
    assert "words 1" in payload  # of a chat that has work


async def test_a_message_that_was_not_routed_holds_back_all_that_came_after_it(house: House) -> None:
    journal = Journal(house.database, house.clock)
    await journal.accept(message(7))
    await hear_without_routing(house)
    await live(house, 5)
    assert [entry.message.text for entry in await journal.unrouted()] == ["words 7"]
    assert count_in(house, "rows") == [1]


async def hear_without_routing(house: House) -> None:
    house.clock.jump(1)
    row = NewRow(id="r7", address=CHAT, message_id="m7", sender_id="", sender_name="", text="x", sent_at=1.0)
    await house.mailbox.add_rows([row])
    await house.mailbox.fail_rows(["r7"], [], "failed")
    for due in await house.mailbox.due():
        await house.mailbox.delivered(due.seq)


async def test_rows_go_on_after_everything_was_forgotten(house: House) -> None:
    for number in (1, 2):
        await hear(house, number)
    await live(house, 5)
    assert count_in(house, *TABLES) == [0] * len(TABLES)
    await house.mailboxes.close()
    await hear(house, 3)
    await house.mailboxes.close()
    assert await house.mailbox.is_idle()
    assert await house.mailbox.waiting() == []
    assert not await house.mailbox.end_turn(TurnEnd(id="f1", covered=("u1",), text="again", conversation="c"), [], "answered")
    assert await house.mailbox.due() == []


# --- the clock ------------------------------------------------------------------------------------------------------------


async def test_a_clock_that_leaps_ten_years_ahead_makes_nobody_forget_more_than_a_week_at_once(house: House) -> None:
    for number in range(5):
        await hear(house, number)
        await live(house, 1)
    assert count_in(house, "rows") == [4]  # 28, 21, 14 and 7 days old
    house.clock.jump(10 * YEAR)
    await retention(house).prune()
    assert count_in(house, "rows") == [3]
    house.clock.jump(-10 * YEAR)
    await hear(house, 9)
    await retention(house).prune()
    assert count_in(house, "rows") == [4]


async def test_what_came_while_the_clock_was_wrong_is_as_old_as_its_neighbours(house: House) -> None:
    for number, jump in ((1, 20 * YEAR), (2, -25 * YEAR), (3, 5 * YEAR), (4, 0.0)):
        await hear(house, number)
        house.clock.jump(jump)
    await retention(house).prune()
    assert count_in(house, "rows") == [4]
    texts = [payload for (payload,) in await sql(house, "SELECT payload FROM events ORDER BY seq")]
    assert all("words" in text for text in texts)
    await live(house, 6)
    assert count_in(house, "rows") == [0]


async def test_a_machine_that_does_not_know_the_time_forgets_nothing(house: House) -> None:
    await hear(house, 1)
    house.clock.jump(-house.clock.time())
    assert "rows" not in await retention(house).prune()
    assert count_in(house, "rows") == [1]


# --- everything else ------------------------------------------------------------------------------------------------------


async def test_counters_of_strangers_and_ended_workers_go(house: House) -> None:
    values = "('f', '', 'old', 3, 1.0, {old}), ('f', '', 'new', 3, 1.0, {new})"
    old, new = house.clock.time() - 31 * DAY, house.clock.time()
    await house.database.write(
        lambda connection: connection.exec_driver_sql(f"INSERT INTO strangers VALUES {values.format(old=old, new=new)}")  # noqa: S608
    )
    worker = "INSERT INTO workers (id, session_id, secret_hash, image, claimed_at, ended_at) VALUES (?, ?, '', '', 1.0, ?)"
    await house.database.write(
        lambda connection: connection.exec_driver_sql(
            worker, [("w1", house.session.id, old), ("w2", house.session.id, new), ("w3", house.session.id, None)]
        )
    )
    await retention(house).prune()
    assert await sql(house, "SELECT chat FROM strangers") == [("new",)]
    assert await sql(house, "SELECT id FROM workers ORDER BY id") == [("w2",), ("w3",)]


async def test_folders_of_sockets_go_when_their_worker_is_no_more(house: House) -> None:
    worker = "INSERT INTO workers (id, session_id, secret_hash, image, claimed_at) VALUES ('w1', ?, '', '', 1.0)"
    await house.database.write(lambda connection: connection.exec_driver_sql(worker, (house.session.id,)))
    for name in ("w1", "w2"):
        await anyio.Path(house.home / "workers" / name).mkdir(parents=True)
    assert (await retention(house).prune())["folders"] == 1
    assert [path.name async for path in anyio.Path(house.home / "workers").iterdir()] == ["w1"]


async def test_of_the_copies_of_broken_mailboxes_the_newest_three_stay_for_as_long_as_the_history(house: House) -> None:
    folder = anyio.Path(house.home / house.session.folder)
    for day in ("20200101", "20270110", "20270111", "20270112", "20270113"):
        await (folder / f"broken-{day}T000000Z").mkdir()
    await retention(house).prune()
    assert sorted([path.name async for path in folder.glob("broken-*")]) == [
        f"broken-202701{day}T000000Z" for day in (11, 12, 13)
    ]


async def test_a_mailbox_that_cannot_be_used_holds_up_no_other(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    await hear(house, 1)
    await live(house, 4)
    house.clock.jump(7 * DAY)
    other = "INSERT INTO messaging_groups VALUES ('c2', 'f', '', 'c2', '', false, 1.0)"
    await house.database.write(lambda connection: connection.exec_driver_sql(other))
    ensure = partial(sessions.ensure_session, agent_group_id=house.agent.id, messaging_group_id="c2", thread=None, now=1.0)
    broken = anyio.Path(house.home / (await house.database.write(ensure)).folder)
    await broken.mkdir(parents=True)
    await (broken / "inbound.db").write_bytes(b"garbage" * 1000)
    await retention(house).prune()
    assert count_in(house, "rows") == [0]


async def test_room_is_given_back_to_the_disk(house: House) -> None:
    folder = house.home / house.session.folder
    long = NewRow(id="r0", address=CHAT, message_id="m0", sender_id="", sender_name="", text="x" * 3_000_000, sent_at=1.0)
    await house.mailbox.add_rows([long])
    await house.mailbox.fail_rows(["r0"], [NewOutbound(to=CHAT, text="y" * 3_000_000)], "failed")
    for due in await house.mailbox.due():
        await house.mailbox.delivered(due.seq)
    await live(house, 5)
    await house.mailboxes.close()
    assert [(folder / f"{side}.db").stat().st_size < 300_000 for side in ("inbound", "outbound")] == [True, True]


async def test_it_begins_some_time_after_the_start_and_then_works_once_a_day(house: House) -> None:
    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda task_status: retention(house).run(task_status))
        await hear(house, 1)
        await live(house, 4)
        house.clock.jump(7 * DAY)
        await house.clock.asleep()
        await house.clock.advance(AFTER_START - 1)
        assert count_in(house, "rows") == [1]
        await house.clock.advance(1)
        await house.clock.asleep()
        assert count_in(house, "rows") == [0]
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("step", range(0, 30, 3))
async def test_cut_off_anywhere_it_is_finished_the_next_time_and_nothing_comes_again(
    house: House, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at its n-th transaction in a mailbox."""
    for number in (1, 2):
        await hear(house, number)
    await live(house, 4)
    house.clock.jump(7 * DAY)
    transaction, count = MailboxFiles.transaction, 0

    def deadly(files: MailboxFiles, *arguments: Any, **options: Any) -> Any:  # Any: as `transaction`
        nonlocal count
        count += 1
        if count > step:
            raise MemoryError
        return transaction(files, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(MailboxFiles, "transaction", deadly)
        await retention(house).prune()
    await house.mailboxes.close()
    assert await house.mailbox.due() == []
    assert await house.mailbox.waiting() == []
    await retention(house).prune()
    assert count_in(house, *TABLES) == [0] * len(TABLES)


# --- many sessions ----------------------------------------------------------------------------------------------------------


async def test_each_of_many_sessions_has_its_turn_and_few_files_are_open_meanwhile(nanoclaw_home: Path) -> None:
    clock = FakeClock()
    await make_crowd(nanoclaw_home, 300, now=clock.time(), messages=2)
    async with open_database(nanoclaw_home / "nanoclaw.db", backups=None) as database:
        mailboxes = Mailboxes(nanoclaw_home, now=clock.time)
        keeper = Retention(database=database, mailboxes=mailboxes, home=nanoclaw_home, clock=clock, days=7)
        assert (await keeper.prune())["rows"] > 0
        assert [left_in(nanoclaw_home, number) for number in range(300)].count(2) == 100
        await keeper.prune()
        assert [left_in(nanoclaw_home, number) for number in range(300)].count(2) == 0
        assert not mailboxes._recent


def left_in(home: Path, number: int) -> int:
    with closing(sqlite3.connect(session_folder(home, number) / "inbound.db")) as db:
        (count,) = db.execute("SELECT count(*) FROM rows").fetchone()
    return int(count)


async def test_old_calls_of_the_model_go_and_the_totals_of_their_days_stay(house: House) -> None:
    def spent(at: float) -> Spent:
        tokens: dict[str, Any] = {"input_tokens": 5, "output_tokens": 1, "cache_read_tokens": 0, "cache_write_tokens": 0}
        who: dict[str, Any] = {"agent_group_id": house.agent.id, "session_id": house.session.id, "model": "m"}
        return Spent(at=at, day=f"day {at:.0f}", **who, **tokens, status="complete", cost=7, priced_as_of="2026-01-01")

    now = house.clock.time()
    for at in (now - 40 * DAY, now - 31 * DAY, now):
        await house.database.write(partial(book, spent=spent(at)))
    gone = await retention(house).prune()
    assert gone["model_calls"] == 2
    assert await sql(house, "SELECT at FROM model_calls") == [(now,)]
    assert await sql(house, "SELECT count(*), sum(cost) FROM model_days") == [(3, 21)]
