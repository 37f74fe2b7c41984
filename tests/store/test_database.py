"""The writer, the readers, and what happens to a function that fails or is no longer waited for."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from sqlalchemy import Connection, select, text
from sqlalchemy.exc import DBAPIError, InvalidRequestError

from nanoclaw_core.store import people
from nanoclaw_core.store.database import Database, open_database
from nanoclaw_core.store.tables import users


def add_user(conn: Connection, name: str) -> str:
    people.upsert_user(conn, name, name, 1.0)
    return name


async def names(db: Database) -> list[str]:
    return await db.read(lambda conn: list(conn.execute(select(users.c.name).order_by(users.c.name)).scalars()))


class Gate:
    """A job that keeps the writer busy until the test lets it go, so that what follows is committed together."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.leave = threading.Event()

    def __call__(self, conn: Connection) -> None:
        self.entered.set()
        assert self.leave.wait(5)


async def test_a_write_returns_its_result_and_can_be_read(db: Database) -> None:
    assert await db.write(lambda conn: add_user(conn, "Ada")) == "Ada"
    assert await names(db) == ["Ada"]


async def test_of_a_batch_only_the_function_that_raises_is_undone(db: Database) -> None:
    gate, outcomes = Gate(), []

    def fail(conn: Connection) -> str:
        add_user(conn, "nobody")
        conn.execute(text("SELECT no_such_column FROM users"))
        raise AssertionError("unreachable")

    async def write(fn: str) -> None:
        try:
            outcomes.append(await db.write(fail if fn == "fail" else lambda conn: add_user(conn, fn)))
        except DBAPIError:
            outcomes.append("failed")

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(db.write, gate)
            await to_thread.run_sync(gate.entered.wait)
            for name in ("Ada", "fail", "Bob"):
                tasks.start_soon(write, name)
            await anyio.wait_all_tasks_blocked()
            gate.leave.set()
    assert sorted(outcomes) == ["Ada", "Bob", "failed"]
    assert await names(db) == ["Ada", "Bob"]


async def test_functions_run_in_the_order_in_which_they_were_handed_in(db: Database) -> None:
    order: list[int] = []
    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(db.write, lambda conn, number=number: order.append(number))
    assert order == list(range(100))


async def test_a_cancelled_caller_does_not_tear_its_transaction(db: Database) -> None:
    gate = Gate()

    def slow(conn: Connection) -> None:
        add_user(conn, "Ada")
        gate(conn)
        add_user(conn, "Bob")

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(db.write, slow)
            await to_thread.run_sync(gate.entered.wait)
            tasks.cancel_scope.cancel()
        gate.leave.set()
        await db.write(lambda conn: None)
    assert await names(db) == ["Ada", "Bob"]


async def test_what_is_cancelled_while_it_waits_does_not_happen(db: Database) -> None:
    gate = Gate()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as running:
            running.start_soon(db.write, gate)
            await to_thread.run_sync(gate.entered.wait)
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(db.write, lambda conn: add_user(conn, "Ada"))
                await anyio.wait_all_tasks_blocked()
                waiting.cancel_scope.cancel()
            gate.leave.set()
    assert await names(db) == []


async def test_a_reader_cannot_write(db: Database) -> None:
    with pytest.raises(DBAPIError, match=r"read-?only"):
        await db.read(lambda conn: add_user(conn, "Ada"))
    assert await names(db) == []


async def test_leaving_commits_what_was_handed_in_and_refuses_more(database_url: str) -> None:
    async with open_database(database_url, backups=None) as db:
        await db.write(lambda conn: add_user(conn, "Ada"))
    with pytest.raises(anyio.ClosedResourceError):
        await db.write(lambda conn: add_user(conn, "Bob"))
    async with open_database(database_url, backups=None) as db:
        assert await names(db) == ["Ada"]


async def test_what_sqlite_undid_by_itself_is_never_reported_as_committed(tmp_path: Path) -> None:
    """On a full disk SQLite may roll back all that is in the batch, and Python's commit then passes without an error."""
    gate, outcomes = Gate(), []

    async def write(fn: Callable[[Connection], object]) -> None:
        try:
            outcomes.append(await db.write(fn))
        except (DBAPIError, InvalidRequestError):
            outcomes.append("failed")

    async with open_database(tmp_path / "n.db", backups=None) as db:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(db.write, gate)
                await to_thread.run_sync(gate.entered.wait)
                tasks.start_soon(write, lambda conn: add_user(conn, "Ada"))
                tasks.start_soon(write, lambda conn: conn.exec_driver_sql("ROLLBACK"))
                tasks.start_soon(write, lambda conn: add_user(conn, "Bob"))
                await anyio.wait_all_tasks_blocked()
                gate.leave.set()
        assert outcomes == ["failed"] * 3
        assert await names(db) == []
        await db.write(lambda conn: add_user(conn, "Eve"))
        assert await names(db) == ["Eve"]


async def test_a_sqlite_write_holds_the_lock_from_its_beginning(tmp_path: Path) -> None:
    """Else a write that has read before would fail at once, whenever another process wrote in between."""

    def meddle(conn: Connection) -> None:
        with closing(sqlite3.connect(tmp_path / "n.db", timeout=0, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")

    async with open_database(tmp_path / "n.db", backups=None) as db:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            await db.write(meddle)


async def test_sqlite_survives_a_power_cut_after_a_commit(tmp_path: Path) -> None:
    """The pragmas that promise it: a write-ahead log that is synchronised at every commit (2 is FULL)."""

    def pragmas(conn: Connection) -> list[object]:
        return [conn.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous", "foreign_keys")]

    async with open_database(tmp_path / "n.db", backups=None) as db:
        assert await db.write(pragmas) == ["wal", 2, 1]
