"""Two hosts on one database: whoever wrote last has it, and the other one writes nothing more."""

from __future__ import annotations

import os
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from sqlalchemy import Connection, create_engine, select
from sqlalchemy.exc import DBAPIError

from nanoclaw_core.errors import DatabaseTaken
from nanoclaw_core.store import people
from nanoclaw_core.store.database import Database, open_database
from nanoclaw_core.store.fence import Fence
from nanoclaw_core.store.tables import users


def add(name: str) -> Any:  # a function for `write`
    return lambda conn: people.upsert_user(conn, name, name, 1.0)


async def names(db: Database) -> list[str]:
    return await db.read(lambda conn: list(conn.execute(select(users.c.name).order_by(users.c.name)).scalars()))


@pytest.fixture
def no_advisory_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    """As behind a connection pooler, which hands the session of one client to the next."""
    monkeypatch.setattr(Fence, "hold", lambda fence, writer: None)


@asynccontextmanager
async def two_hosts(url: str) -> AsyncIterator[tuple[Database, Database]]:
    async with open_database(url, backups=None) as first, open_database(url, backups=None) as second:
        yield first, second


async def test_whoever_wrote_last_has_the_database(database_url: str, no_advisory_lock: None) -> None:
    async with two_hosts(database_url) as (first, second):
        await first.write(add("Ada"))
        await second.write(add("Bob"))
        with pytest.raises(DatabaseTaken) as taken:
            await first.write(add("Eve"))
        await second.write(add("Cleo"))
        assert await names(second) == ["Ada", "Bob", "Cleo"]
    assert taken.value.by.startswith(f"pid {os.getpid()} on ")
    assert f"({taken.value.by})" in str(taken.value)


async def test_a_host_that_lost_its_database_never_gets_it_back(database_url: str, no_advisory_lock: None) -> None:
    async with open_database(database_url, backups=None) as first:
        await first.write(add("Ada"))
        async with open_database(database_url, backups=None) as second:
            await second.write(add("Bob"))
        for _ in range(2):
            with pytest.raises(DatabaseTaken):
                await first.write(add("Eve"))
        assert await names(first) == ["Ada", "Bob"]


async def test_who_waits_for_the_loss_hears_of_it(database_url: str, no_advisory_lock: None) -> None:
    async with two_hosts(database_url) as (first, second):
        await first.write(add("Ada"))
        await second.write(add("Bob"))
        with pytest.raises(DatabaseTaken):
            await first.write(add("Eve"))
        with pytest.raises(DatabaseTaken), anyio.fail_after(30):
            await first.lost()
        assert (first.is_lost, second.is_lost) == (True, False)


async def test_reading_takes_the_database_from_nobody(database_url: str, no_advisory_lock: None) -> None:
    async with two_hosts(database_url) as (first, second):
        await first.write(add("Ada"))
        assert await names(second) == ["Ada"]
        await first.write(add("Bob"))


async def test_a_take_over_that_was_undone_is_none(database_url: str, no_advisory_lock: None) -> None:
    def undo(conn: Connection) -> None:
        conn.exec_driver_sql("ROLLBACK")
        raise AssertionError("the transaction is gone")

    async with two_hosts(database_url) as (first, second):
        await first.write(add("Ada"))
        if "sqlite" in database_url:
            with pytest.raises((AssertionError, DBAPIError)):
                await second.write(undo)
            await first.write(add("Bob"))
        await second.write(add("Cleo"))
        with pytest.raises(DatabaseTaken):
            await first.write(add("Eve"))


async def test_on_postgresql_who_takes_over_waits_for_the_transaction_that_runs(
    empty_postgres_url: str, no_advisory_lock: None
) -> None:
    """Otherwise that one could commit after the new host has read what there was."""
    entered, leave = threading.Event(), threading.Event()

    def slow(conn: Connection) -> None:
        entered.set()
        assert leave.wait(5)
        people.upsert_user(conn, "Ada", "Ada", 1.0)

    seen: list[list[str]] = []

    async def take_over(second: Database) -> None:
        await second.write(lambda conn: seen.append(list(conn.execute(select(users.c.name)).scalars())))

    async with two_hosts(empty_postgres_url) as (first, second):
        await first.write(lambda conn: None)
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(first.write, slow)
                await to_thread.run_sync(entered.wait)
                tasks.start_soon(take_over, second)
                await until_somebody_waits_for_a_lock(empty_postgres_url)
                leave.set()
        assert seen == [["Ada"]]


async def until_somebody_waits_for_a_lock(url: str) -> None:
    engine = create_engine(url)
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with engine.connect() as connection:
        while not connection.exec_driver_sql(query).scalar():  # noqa: ASYNC110  # PostgreSQL tells nobody
            await anyio.sleep(0.001)
    engine.dispose()


async def test_on_postgresql_a_second_host_is_refused_at_its_start_and_hears_by_whom(empty_postgres_url: str) -> None:
    async with open_database(empty_postgres_url, backups=None) as first:
        await first.write(add("Ada"))
        with pytest.raises(DatabaseTaken) as taken:
            async with open_database(empty_postgres_url, backups=None):
                pass
        await first.write(add("Bob"))
    assert taken.value.by.startswith(f"pid {os.getpid()} on ")
    async with open_database(empty_postgres_url, backups=None) as next_host:
        assert await names(next_host) == ["Ada", "Bob"]


async def test_on_postgresql_a_connection_that_was_cut_is_made_again_with_its_lock(empty_postgres_url: str) -> None:
    async with open_database(empty_postgres_url, backups=None) as first:
        await first.write(add("Ada"))
        await to_thread.run_sync(cut_all_connections, empty_postgres_url)
        await first.write(add("Bob"))
        with pytest.raises(DatabaseTaken):
            async with open_database(empty_postgres_url, backups=None):
                pass


def cut_all_connections(url: str) -> None:
    engine = create_engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    engine.dispose()


async def test_the_row_that_says_who_writes_is_read_once_for_a_whole_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checks = 0
    enter = Fence.enter

    def counted(fence: Fence, connection: Connection) -> None:
        nonlocal checks
        checks += 1
        enter(fence, connection)

    monkeypatch.setattr(Fence, "enter", counted)
    entered, leave = threading.Event(), threading.Event()

    def hold(conn: Connection) -> None:
        entered.set()
        assert leave.wait(5)

    async with open_database(tmp_path / "n.db", backups=None) as db:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(db.write, hold)
                await to_thread.run_sync(entered.wait)
                for number in range(100):
                    tasks.start_soon(db.write, add(str(number)))
                await anyio.wait_all_tasks_blocked()
                leave.set()
    assert checks == 2
