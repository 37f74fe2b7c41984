"""Users and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select

from nanoclaw_core.store.tables import insert_into, roles, users

OWNER: Final = "owner"


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What somebody may do, in one agent group or, with None, everywhere."""

    role: str
    agent_group_id: str | None


def upsert_user(conn: Connection, user_id: str, name: str, now: float) -> None:
    """Know this user; an empty name leaves the one that is known."""
    insert = insert_into(conn, users).values(id=user_id, name=name, created_at=now)
    if name:
        insert = insert.on_conflict_do_update(index_elements=[users.c.id], set_={"name": name})
    else:
        insert = insert.on_conflict_do_nothing()
    conn.execute(insert)


def grant(conn: Connection, user_id: str, role: str, now: float, agent_group_id: str | None = None) -> None:
    """Give a user a role; having it already is fine."""
    values = {"user_id": user_id, "role": role, "agent_group_id": agent_group_id, "granted_at": now}
    conn.execute(insert_into(conn, roles).values(values).on_conflict_do_nothing())


def is_owner(conn: Connection, user_id: str) -> bool:
    """Whether the user owns this installation."""
    return Role(role=OWNER, agent_group_id=None) in roles_of(conn, user_id)


def roles_of(conn: Connection, user_id: str) -> list[Role]:
    """Every role of the user, in the order in which they were granted."""
    query = select(roles.c.role, roles.c.agent_group_id).where(roles.c.user_id == user_id).order_by(roles.c.id)
    return [Role(role=row.role, agent_group_id=row.agent_group_id) for row in conn.execute(query)]
