"""The books: what each call of the model took and cost, and the totals of each day. Money is in billionths of a US dollar."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Executable, Integer, case, cast, delete, func, insert, select

from nanoclaw_core.store.pruning import Horizon
from nanoclaw_core.store.tables import agent_groups, insert_for, model_calls, model_days

__all__ = ["Connection", "Spent", "Total"]

BY: Final = ("agent", "session", "task", "model", "day")
_KEY: Final = ("day", "agent_group_id", "session_id", "task", "model")
_TOKENS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_SUMS: Final = ("calls", "incomplete", "unpriced", *_TOKENS, "cost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Spent:
    """One call of the model. `cost` is None where it is not known, and the least it can be where `status` is incomplete."""

    at: float
    day: str
    agent_group_id: str
    session_id: str
    task: str | None = None
    model: str
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    status: str
    cost: int | None
    priced_as_of: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Total:
    """A sum. `cost` leaves out the `unpriced` calls, and has too little of the `incomplete` ones."""

    key: str
    calls: int
    incomplete: int
    unpriced: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_write_tokens: int
    cost: int

    @property
    def tokens(self) -> int:
        return self.input_tokens + self.output_tokens + self.cache_read_tokens + self.cache_write_tokens


def book(conn: Connection, spent: Spent) -> None:
    """Write a call down, and add it to its day."""
    row = asdict(spent)
    conn.execute(insert(model_calls), row)
    counts = {"calls": 1, "incomplete": int(spent.status != "complete"), "unpriced": int(spent.cost is None)}
    values = {name: row[name] for name in (*_KEY, *_TOKENS)} | counts
    conn.execute(_add_to_day(conn.dialect.name), values | {"task": spent.task or "", "cost": spent.cost or 0})


@cache
def _add_to_day(dialect: str) -> Executable:
    insertion = insert_for(dialect, model_days)
    sums = {name: model_days.c[name] + insertion.excluded[name] for name in _SUMS}
    return insertion.on_conflict_do_update(index_elements=list(_KEY), set_=sums)


def spent_on(conn: Connection, agent_group_id: str, day: str, unit: str) -> int:
    """What an agent group has spent on a day, in money or tokens."""
    amount = model_days.c.cost if unit == "usd" else sum((model_days.c[name] for name in _TOKENS[1:]), model_days.c[_TOKENS[0]])
    where = (model_days.c.agent_group_id == agent_group_id, model_days.c.day == day)
    return int(conn.execute(select(func.coalesce(func.sum(amount), 0)).where(*where)).scalar_one())


def totals(
    conn: Connection, by: str, *, since: float | None = None, from_day: str | None = None, agent: str | None = None
) -> list[Total]:
    """Sums by one of `BY`, the dearest first, but days in order: of calls after `since`, else of days from `from_day` on."""
    table = model_days if since is None else model_calls
    key = _key(table, by)
    query = select(key.label("key"), *_sums(table)).select_from(
        table.outerjoin(agent_groups, agent_groups.c.id == table.c.agent_group_id)
    )
    if since is not None:
        query = query.where(model_calls.c.at >= since)
    elif from_day is not None:
        query = query.where(model_days.c.day >= from_day)
    if agent is not None:
        query = query.where(table.c.agent_group_id == agent)
    rows = conn.execute(query.group_by("key")).mappings().all()
    found = [Total(key=row["key"], **{name: int(row[name]) for name in _SUMS}) for row in rows]
    return sorted(found, key=lambda each: (each.key,) if by == "day" else (-each.cost, -each.tokens, each.key))


def _key(table: Any, by: str) -> ColumnElement[str]:  # Any: either table
    match by:
        case "agent":
            return func.coalesce(agent_groups.c.name, table.c.agent_group_id)
        case "task":
            return func.coalesce(table.c.task, "")
        case "session":
            return func.coalesce(table.c.session_id, "")
    return func.coalesce(table.c[by], "")


def _sums(table: Any) -> list[ColumnElement[Any]]:  # Any: either table, and its columns
    if table is model_days:
        return [func.sum(model_days.c[name]).label(name) for name in _SUMS]
    calls = model_calls.c
    return [
        func.count().label("calls"),
        func.sum(case((calls.status == "complete", 0), else_=1)).label("incomplete"),
        func.sum(cast(calls.cost.is_(None), Integer)).label("unpriced"),
        *(func.sum(calls[name]).label(name) for name in _TOKENS),
        func.coalesce(func.sum(calls.cost), 0).label("cost"),
    ]


def forget_calls(conn: Connection, old: Horizon, limit: int) -> int:
    """Delete old calls, whose days stay; return how many."""
    slice_ = select(model_calls.c.seq).where(model_calls.c.at < old.before).order_by(model_calls.c.at).limit(limit)
    return conn.execute(delete(model_calls).where(model_calls.c.seq.in_(slice_))).rowcount
