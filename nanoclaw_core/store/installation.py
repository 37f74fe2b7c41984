"""What identifies this installation among others on the same machine."""

from __future__ import annotations

from uuid import uuid4

from sqlalchemy import Connection, select

from nanoclaw_core.store.tables import insert_into, installation

_ID = "id"


def installation_id(conn: Connection) -> str:
    """The id in the labels of everything that this installation makes; 32 hexadecimal digits, made at the first call."""
    conn.execute(insert_into(conn, installation).values(key=_ID, value=uuid4().hex).on_conflict_do_nothing())
    value: str = conn.execute(select(installation.c.value).where(installation.c.key == _ID)).scalar_one()
    return value
