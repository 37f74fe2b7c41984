"""The schema: what the migrations make is what the tables say, and nothing of an older database is lost on the way."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, inspect

from nanoclaw_core import __version__
from nanoclaw_core.errors import DatabaseTooNew
from nanoclaw_core.store import installation, migrate, workers
from nanoclaw_core.store.database import open_database
from nanoclaw_core.store.tables import metadata


def sql_of(path: Path) -> set[str]:
    """Every CREATE statement in a SQLite file, in one spelling."""
    with closing(sqlite3.connect(path)) as connection:
        query = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND tbl_name NOT IN ('alembic_version', 'sqlite_sequence')"
        return {re.sub(r"\s+", " ", sql.replace('"', "")) for (sql,) in connection.execute(query)}


def set_revision(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def test_the_head_that_a_start_compares_with_is_alembics() -> None:
    assert ScriptDirectory.from_config(migrate.alembic_config()).get_current_head() == migrate.HEAD


async def test_the_migrations_make_exactly_the_tables_in_sqlite(tmp_path: Path) -> None:
    async with open_database(tmp_path / "migrated.db", backups=None):
        pass
    engine = create_engine(f"sqlite:///{tmp_path}/created.db")
    metadata.create_all(engine)
    engine.dispose()
    assert sql_of(tmp_path / "migrated.db") == sql_of(tmp_path / "created.db")


async def test_the_migrations_make_exactly_the_tables_in_postgresql(empty_postgres_url: str) -> None:
    def differences(conn: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(conn), metadata))

    async with open_database(empty_postgres_url, backups=None) as db:
        assert await db.write(differences) == []


def test_a_start_on_a_current_database_does_not_import_alembic(sqlite_template: Path) -> None:
    program = (
        "import anyio, sys\n"
        "from nanoclaw_core.store.database import open_database\n"
        "async def main():\n"
        "    async with open_database(sys.argv[1], backups=None): pass\n"
        "anyio.run(main)\n"
        "sys.exit('alembic' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(sqlite_template)], check=True, timeout=30)


def test_the_package_of_the_store_imports_nothing_heavy() -> None:
    program = "import sys, nanoclaw_core.store; sys.exit('sqlalchemy' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


async def test_a_database_of_a_later_version_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    async with open_database(path, backups=None):
        pass
    set_revision(path, "9999")
    before = path.read_bytes()
    with pytest.raises(DatabaseTooNew, match=r"n\.db.*9999"):
        async with open_database(path, backups=tmp_path / "backups"):
            pass
    assert path.read_bytes() == before
    assert not (tmp_path / "backups").exists()


async def test_a_later_version_names_itself_and_the_copy_from_before_it(tmp_path: Path) -> None:
    """What a user reads after a downgrade: which version to install, or which file to go back to."""
    path, backups = tmp_path / "n.db", tmp_path / "backups"
    async with open_database(path, backups=None) as db:
        await db.write(partial(installation.note_schema, version="7.8.9"))
    set_revision(path, "9999")
    backups.mkdir()
    for time in ("2026", "2027"):
        (backups / f"nanoclaw-{migrate.HEAD}-{time}.db").touch()
    with pytest.raises(DatabaseTooNew) as refused:
        async with open_database(path, backups=backups):
            pass
    assert 'pip install "nanoclaw-core>=7.8.9"' in str(refused.value)
    assert f"nanoclaw-{migrate.HEAD}-2027.db" in str(refused.value)


async def test_a_new_database_knows_which_version_gave_it_its_schema(tmp_path: Path) -> None:
    async with open_database(tmp_path / "n.db", backups=None) as db:
        assert await db.read(installation.schema_by) == __version__


@pytest.fixture
def due(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Makes the next start believe that a migration is due; it alters the database and then, perhaps, fails."""

    def prepare(fails: bool) -> None:
        def upgrade(engine: object) -> None:
            with engine.begin() as conn:  # type: ignore[attr-defined]  # an Engine
                conn.exec_driver_sql("CREATE TABLE half (id INTEGER)")
                if fails:
                    raise RuntimeError("half way")

        monkeypatch.setattr(migrate, "HEAD", "a later one")
        monkeypatch.setattr(migrate, "_upgrade", upgrade)

    return prepare


async def test_an_older_database_is_copied_before_it_changes(tmp_path: Path, due: Callable[[bool], None]) -> None:
    async with open_database(tmp_path / "n.db", backups=tmp_path / "backups") as db:
        identity = await db.write(installation.installation_id)
    assert not (tmp_path / "backups").exists()  # there was nothing to be copied
    before = migrate.HEAD
    due(False)
    async with open_database(tmp_path / "n.db", backups=tmp_path / "backups"):
        pass
    (copy,) = (tmp_path / "backups").iterdir()
    assert copy.name.startswith(f"nanoclaw-{before}-")
    with closing(sqlite3.connect(copy)) as connection:
        query = "SELECT value FROM installation WHERE key = 'id'"
        assert connection.execute(query).fetchall() == [(identity,)]
        assert not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'half'").fetchall()


async def test_the_newest_five_copies_are_kept(tmp_path: Path, due: Callable[[bool], None]) -> None:
    async with open_database(tmp_path / "n.db", backups=None):
        pass
    due(True)
    seen: set[str] = set()
    for _ in range(7):
        with pytest.raises(RuntimeError):
            async with open_database(tmp_path / "n.db", backups=tmp_path / "backups"):
                pass
        seen |= {path.name for path in (tmp_path / "backups").iterdir()}
    assert {path.name for path in (tmp_path / "backups").iterdir()} == set(sorted(seen)[-5:])
    assert len(seen) == 7


async def test_the_copy_just_made_is_kept_although_the_clock_was_set_back(tmp_path: Path, due: Callable[[bool], None]) -> None:
    """By their times all other copies are newer."""
    async with open_database(tmp_path / "n.db", backups=None):
        pass
    (tmp_path / "backups").mkdir()
    for number in range(6):
        path = tmp_path / "backups" / f"nanoclaw-0000-{number}.db"
        path.touch()
        os.utime(path, (4e9 + number, 4e9 + number))
    before = migrate.HEAD
    due(False)
    async with open_database(tmp_path / "n.db", backups=tmp_path / "backups"):
        pass
    names = sorted(path.name for path in (tmp_path / "backups").iterdir())
    assert names[:4] == [f"nanoclaw-0000-{number}.db" for number in range(2, 6)]
    assert names[4].startswith(f"nanoclaw-{before}-")


async def test_a_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path, due: Callable[[bool], None]) -> None:
    async with open_database(tmp_path / "n.db", backups=None):
        pass
    due(True)
    with pytest.raises(RuntimeError, match="half way"):
        async with open_database(tmp_path / "n.db", backups=None):
            pass
    engine = create_engine(f"sqlite:///{tmp_path}/n.db")
    assert not inspect(engine).has_table("half")
    engine.dispose()


async def test_a_worker_of_the_first_schema_was_never_adopted(tmp_path: Path) -> None:
    path = tmp_path / "n.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        command.upgrade(migrate.alembic_config(connection), "0001")
        for statement in (
            "INSERT INTO agent_groups VALUES ('a', 'Andy', 'andy', 1, NULL, 1.0)",
            "INSERT INTO messaging_groups VALUES ('m', 'fake', '', '1', '', 0, 1.0)",
            "INSERT INTO sessions VALUES ('s', 'a', 'm', NULL, 'sessions/andy/s', 0, 0, 1.0)",
            "INSERT INTO workers VALUES ('w1', 's', 'h', 'i', 'c1', 1.0, 2.0, NULL, NULL)",
        ):
            connection.exec_driver_sql(statement)
    engine.dispose()
    async with open_database(path, backups=None) as db:
        (worker,) = await db.read(workers.live_workers)
    assert (worker.id, worker.adoptions) == ("w1", 0)
