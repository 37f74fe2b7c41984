"""What is known of this installation as a whole: its id among others on the same machine, and who wrote its schema."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import Connection, select

from nanoclaw_core.store.tables import insert_into, installation

_ID = "id"
_SCHEMA_BY = "schema_by"


def installation_id(conn: Connection) -> str:
    """The id in the labels of everything that this installation makes; 32 hexadecimal digits, made at the first call."""
    conn.execute(insert_into(conn, installation).values(key=_ID, value=uuid4().hex).on_conflict_do_nothing())
    value: str = conn.execute(select(installation.c.value).where(installation.c.key == _ID)).scalar_one()
    return value


def known_id(conn: Connection) -> str:
    """The id, or '' where it was not made yet; for those who only look."""
    return conn.execute(select(installation.c.value).where(installation.c.key == _ID)).scalar() or ""


def set_id(conn: Connection, value: str) -> None:
    """Give the installation another id: what an earlier one made is not this one's."""
    insert = insert_into(conn, installation).values(key=_ID, value=value)
    conn.execute(insert.on_conflict_do_update(index_elements=["key"], set_={"value": value}))


def note_schema(conn: Connection, version: str) -> None:
    """Note which version of NanoClaw gave the database its schema: older ones name it when they refuse the database."""
    insert = insert_into(conn, installation).values(key=_SCHEMA_BY, value=version)
    conn.execute(insert.on_conflict_do_update(index_elements=["key"], set_={"value": version}))


def schema_by(conn: Connection) -> str | None:
    """The version of NanoClaw that gave the database its schema, if it said so."""
    return conn.execute(select(installation.c.value).where(installation.c.key == _SCHEMA_BY)).scalar()
