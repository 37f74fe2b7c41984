"""Agent groups: the agents that this installation has."""

from __future__ import annotations

import re
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, insert, select
from sqlalchemy.exc import IntegrityError

from nanoclaw_core.errors import NanoClawError
from nanoclaw_core.models import AgentGroup
from nanoclaw_core.store.tables import agent_groups as table
from nanoclaw_core.store.tables import new_id

_FOLDER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_RESERVED: Final = "global"  # the folder that all agents share


class FolderInvalid(NanoClawError):
    """A folder name that no agent group may have."""

    exit_code = 2

    def __init__(self, folder: str) -> None:
        super().__init__(
            f"{folder!r} cannot be an agent's folder. Use 1 to 64 ASCII letters, digits, '-' and '_', "
            f"beginning with a letter or digit, and not {_RESERVED!r}."
        )


class AgentGroupExists(NanoClawError):
    """The name, the folder or the place of the main agent group is taken."""

    exit_code = 2

    def __init__(self, name: str, folder: str, is_main: bool) -> None:
        taken = f"the name {name!r} or the folder {folder!r}" + (", or is the main one already" if is_main else "")
        super().__init__(f"Another agent group has {taken}. Choose others (upper and lower case count as the same).")


def create_agent_group(
    conn: Connection, *, name: str, folder: str, now: float, is_main: bool = False, model: str | None = None
) -> AgentGroup:
    """Make an agent group.

    Raises:
        FolderInvalid: the folder's name is not allowed. AgentGroupExists: names are unique, and one group is the main one.
    """
    if not _FOLDER.fullmatch(folder) or folder.lower() == _RESERVED:
        raise FolderInvalid(folder)
    group = AgentGroup(id=new_id(), name=name, folder=folder, is_main=is_main, model=model)
    values = {"id": group.id, "name": name, "folder": folder, "is_main": is_main, "model": model, "created_at": now}
    try:
        conn.execute(insert(table).values(values))
    except IntegrityError as error:
        raise AgentGroupExists(name, folder, is_main) from error
    return group


def agent_groups(conn: Connection) -> list[AgentGroup]:
    """All agent groups, oldest first."""
    return [_record(row) for row in conn.execute(_all())]


def agent_group(conn: Connection, agent_group_id: str) -> AgentGroup:
    """The agent group with this id.

    Raises:
        NoResultFound: there is none.
    """
    return _record(conn.execute(_all().where(table.c.id == agent_group_id)).one())


def agent_group_named(conn: Connection, name: str) -> AgentGroup | None:
    """The agent group with this name, else with this folder, whatever the case."""
    groups, wanted = agent_groups(conn), name.casefold()
    by_folder = (group for group in groups if group.folder.casefold() == wanted)
    return next((group for group in groups if group.name.casefold() == wanted), next(by_folder, None))


def main_agent_group(conn: Connection) -> AgentGroup | None:
    """The owner's own agent group."""
    row = conn.execute(_all().where(table.c.is_main)).one_or_none()
    return None if row is None else _record(row)


def _all() -> Select[Any]:
    return select(table).order_by(table.c.created_at, table.c.id)


def _record(row: Row[Any]) -> AgentGroup:
    return AgentGroup(id=row.id, name=row.name, folder=row.folder, is_main=row.is_main, model=row.model)
