"""What agent groups may spend in a day, and what they have spent of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, select, update

from nanoclaw_core.store.spending import spent_on
from nanoclaw_core.store.tables import agent_groups, insert_into
from nanoclaw_core.store.tables import budgets as table

_ONE: Final = select(table).where(table.c.agent_group_id == bindparam("agent"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A limit for a day, in billionths of a US dollar (`unit` usd) or in tokens, and one for calls in a minute; or None.

    `day` is the latest day on which something was spent: a clock that is set back opens no day again.
    """

    agent_group_id: str
    per_day: int | None
    unit: str
    warn_percent: int
    per_minute: int | None
    day: str
    spent: int
    warned_on: str | None = None

    def spent_by(self, today: str) -> int:
        """What is spent of the day that counts `today`."""
        return self.spent if today <= self.day else 0


def budget_of(conn: Connection, agent_group_id: str) -> Budget | None:
    row = conn.execute(_ONE, {"agent": agent_group_id}).one_or_none()
    return None if row is None else _budget(row)


def every_budget(conn: Connection) -> list[tuple[str, Budget]]:
    """Each with the name of its agent, in the order of names."""
    query = select(table, agent_groups.c.name).join(agent_groups, agent_groups.c.id == table.c.agent_group_id)
    return [(row.name, _budget(row)) for row in conn.execute(query.order_by(agent_groups.c.name))]


def set_budget(
    conn: Connection,
    *,
    agent_group_id: str,
    per_day: int | None,
    unit: str,
    warn_percent: int,
    per_minute: int | None,
    today: str,
) -> Budget:
    """Set the limits in the place of earlier ones. What was spent on the clock's day counts, and no other day any more."""
    budget = Budget(
        agent_group_id=agent_group_id,
        per_day=per_day,
        unit=unit,
        warn_percent=warn_percent,
        per_minute=per_minute,
        day=today,
        spent=spent_on(conn, agent_group_id, today, unit),
    )
    values = {name: getattr(budget, name) for name in Budget.__dataclass_fields__}
    insert = insert_into(conn, table).values(values)
    conn.execute(insert.on_conflict_do_update(index_elements=["agent_group_id"], set_=values))
    return budget


def remove_budget(conn: Connection, agent_group_id: str) -> bool:
    return conn.execute(delete(table).where(table.c.agent_group_id == agent_group_id)).rowcount > 0


def charge(conn: Connection, agent_group_id: str, today: str, *, cost: int, tokens: int) -> tuple[Budget, bool] | None:
    """Add to what is spent; return the budget, and whether its share for a warning is reached now, the first time that day."""
    budget = budget_of(conn, agent_group_id)
    if budget is None or budget.per_day is None:
        return None
    spent = budget.spent_by(today) + (cost if budget.unit == "usd" else tokens)
    budget = replace(budget, day=max(today, budget.day), spent=spent)
    is_news = budget.warned_on != budget.day and spent * 100 >= (budget.per_day or 0) * budget.warn_percent
    if is_news:
        budget = replace(budget, warned_on=budget.day)
    values = {"day": budget.day, "spent": budget.spent, "warned_on": budget.warned_on}
    conn.execute(update(table).where(table.c.agent_group_id == agent_group_id).values(values))
    return budget, is_news


def _budget(row: Row[Any]) -> Budget:
    return Budget(**{name: getattr(row, name) for name in Budget.__dataclass_fields__})
