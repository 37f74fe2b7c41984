"""Databases for these tests: each test runs on SQLite and on a real PostgreSQL, both with the schema in place."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import create_engine

from nanoclaw_core.store.database import Database, open_database
from nanoclaw_core.store.migrate import migrate

_numbers = count()


def _postgres_programs() -> Path | None:
    found = shutil.which("initdb")
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(found).parent if found else installed[-1].parent if installed else None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The folder of a PostgreSQL server's socket; the server lives as long as the tests."""
    programs = _postgres_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    user = "nobody" if os.getuid() == 0 else None  # PostgreSQL refuses to run as root

    def run(program: str, *arguments: str) -> None:
        argv = [str(programs / program), *arguments]
        subprocess.run(argv, check=True, user=user, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)

    with tempfile.TemporaryDirectory(prefix="nc") as folder:
        if user:
            shutil.chown(folder, user)
        data = f"{folder}/data"
        run("initdb", "-D", data, "-U", "nanoclaw", "-A", "trust", "-E", "UTF8", "--no-sync")
        run("pg_ctl", "start", "-w", "-D", data, "-l", f"{folder}/log", "-o", f"-F -k {folder} -c listen_addresses=")
        try:
            yield folder
        finally:
            run("pg_ctl", "stop", "-D", data, "-m", "immediate")


@pytest.fixture(scope="session")
def postgres_template(postgres_server: str) -> str:
    _create_postgres(postgres_server, "CREATE DATABASE template_nanoclaw")
    engine = create_engine(_postgres_url(postgres_server, "template_nanoclaw"))
    migrate(engine, None)
    engine.dispose()
    return "template_nanoclaw"


@pytest.fixture(scope="session")
def sqlite_template() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nc") as folder:
        engine = create_engine(f"sqlite:///{folder}/template.db")
        migrate(engine, None)
        engine.dispose()
        yield Path(folder) / "template.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of its own for every test."""
    if request.param == "sqlite":
        template = request.getfixturevalue("sqlite_template")
        return f"sqlite:///{shutil.copy(template, tmp_path / 'nanoclaw.db')}"
    server, template = request.getfixturevalue("postgres_server"), request.getfixturevalue("postgres_template")
    name = f"test{next(_numbers)}"
    _create_postgres(server, f"CREATE DATABASE {name} TEMPLATE {template}")
    return _postgres_url(server, name)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    async with open_database(database_url, backups=None) as database:
        yield database


@pytest.fixture
def empty_postgres_url(postgres_server: str) -> str:
    name = f"test{next(_numbers)}"
    _create_postgres(postgres_server, f"CREATE DATABASE {name}")
    return _postgres_url(postgres_server, name)


def _create_postgres(server: str, statement: str) -> None:
    with psycopg.connect(host=server, user="nanoclaw", dbname="postgres", autocommit=True) as connection:
        connection.execute(statement.encode())


def _postgres_url(server: str, name: str) -> str:
    return f"postgresql+psycopg://nanoclaw@/{name}?host={server}"
