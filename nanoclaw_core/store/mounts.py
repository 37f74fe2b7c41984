"""Mounts: which folders of the owner's each agent sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from nanoclaw_core.models import AgentGroup, AgentMount
from nanoclaw_core.store.agents import agent_groups
from nanoclaw_core.store.tables import mounts as table


def add_mount(conn: Connection, mount: AgentMount, now: float) -> None:
    """Keep a mount; that its agent has none with this name or source is the caller's to see to."""
    values = {"id": mount.id, "agent_group_id": mount.agent_group_id, "source": str(mount.source), "name": mount.name}
    conn.execute(insert(table).values(**values, read_only=mount.read_only, created_at=now))


def remove_mount(conn: Connection, mount_id: str) -> None:
    conn.execute(delete(table).where(table.c.id == mount_id))


def note_told(conn: Connection, mount_id: str, notice: str) -> None:
    """Keep what the owner was told of a mount."""
    conn.execute(update(table).where(table.c.id == mount_id).values(notice=notice))


def all_mounts(conn: Connection) -> list[tuple[AgentGroup, AgentMount]]:
    """The mounts of all agents, oldest first."""
    agents = {group.id: group for group in agent_groups(conn)}
    rows = conn.execute(select(table).order_by(table.c.created_at, table.c.name, table.c.id))
    return [(agents[row.agent_group_id], _record(row)) for row in rows]


def _record(row: Row[Any]) -> AgentMount:
    return AgentMount(
        id=row.id,
        agent_group_id=row.agent_group_id,
        source=Path(row.source),
        name=row.name,
        read_only=row.read_only,
        notice=row.notice,
    )
