"""Brings the schema of the central database to this version's, after a backup."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import structlog
from sqlalchemy import Connection, Engine, inspect, text

from nanoclaw_core import __version__
from nanoclaw_core.errors import DatabaseTooNew
from nanoclaw_core.store.installation import note_schema, schema_by

if TYPE_CHECKING:
    from alembic.config import Config

#: The newest revision below `migrations/versions`, so that an ordinary start need not import alembic (0.8 s).
HEAD: Final = "0004"
_KEPT_BACKUPS: Final = 5

log = structlog.get_logger()


def migrate(engine: Engine, backups: Path | None) -> None:
    """Upgrade the schema to `HEAD`: whole, or not at all.

    An existing SQLite database is copied to `backups` first; the newest five copies are kept.

    Raises:
        DatabaseTooNew: its revision is none of ours.
    """
    with engine.connect() as connection:
        current = revision(connection)
    if current == HEAD:
        return
    if current is not None:
        _require_known(engine, current, backups)
        if backups is not None and engine.dialect.name == "sqlite":
            _back_up(engine, backups, current)
    _upgrade(engine)
    log.info("schema.migrated", before=current, after=HEAD)


def revision(connection: Connection) -> str | None:
    """The revision that the database says it has; None for an empty one."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration for the migrations that lie in this package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "nanoclaw_core.store:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    return config


def _upgrade(engine: Engine) -> None:
    from alembic import command

    with engine.begin() as connection:
        command.upgrade(alembic_config(connection), "head")
        note_schema(connection, __version__)


def _require_known(engine: Engine, current: str, backups: Path | None) -> None:
    from alembic.script import ScriptDirectory

    scripts = ScriptDirectory.from_config(alembic_config())
    if current not in {script.revision for script in scripts.walk_revisions()}:
        with engine.connect() as connection:
            version = schema_by(connection)
        copies = sorted(backups.glob(f"nanoclaw-{HEAD}-*.db")) if backups is not None else []
        raise DatabaseTooNew(engine.url.database, current, version, copies[-1] if copies else None)


def _back_up(engine: Engine, backups: Path, current: str) -> None:
    backups.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    copy = backups / f"nanoclaw-{current}-{now}.db"
    with closing(engine.raw_connection()) as connection:
        connection.cursor().execute("VACUUM INTO ?", (str(copy),))
    older = sorted((path for path in backups.glob("nanoclaw-*.db") if path != copy), key=lambda path: path.stat().st_mtime)
    for old in older[: -(_KEPT_BACKUPS - 1)]:  # the one just made stays also when the clock was set back
        old.unlink()
    log.info("schema.backed_up", copy=str(copy))
