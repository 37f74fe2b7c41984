"""The books and the budgets, in SQLite and in PostgreSQL alike."""

from __future__ import annotations

from functools import partial

from nanoclaw_core.store import agents, budgets, spending
from nanoclaw_core.store.database import Database
from nanoclaw_core.store.pruning import Horizon
from nanoclaw_core.store.spending import Spent


def spent(agent: str, day: int, model: str = "m", cost: int | None = 7, status: str = "complete") -> Spent:
    return Spent(
        at=float(day),
        day=f"2026-01-{day:02}",
        agent_group_id=agent,
        session_id="s",
        model=model,
        input_tokens=10,
        output_tokens=1,
        cache_read_tokens=100,
        cache_write_tokens=0,
        status=status,
        cost=cost,
        priced_as_of="2026-01-01",
    )


async def test_sums_of_calls_and_of_days_are_the_same(db: Database) -> None:
    andy = await db.write(partial(agents.create_agent_group, name="Andy", folder="andy", now=1.0))
    for each in (
        spent(andy.id, 1),
        spent(andy.id, 1, cost=None),
        spent(andy.id, 2, "n", status="incomplete"),
        spent("gone", 3),
    ):
        await db.write(partial(spending.book, spent=each))
    for by in spending.BY:
        days = await db.read(partial(spending.totals, by=by))
        assert days == await db.read(partial(spending.totals, by=by, since=0.0))
        assert sum(each.calls for each in days) == 4
        assert (sum(each.unpriced for each in days), sum(each.incomplete for each in days)) == (1, 1)
        assert sum(each.cost for each in days) == 21
    by_agent = await db.read(partial(spending.totals, by="agent"))
    assert [(each.key, each.cost) for each in by_agent] == [("Andy", 14), ("gone", 7)]
    late = await db.read(partial(spending.totals, by="day", from_day="2026-01-02", agent=andy.id))
    assert [each.key for each in late] == ["2026-01-02"]
    assert await db.write(partial(spending.forget_calls, old=Horizon(now=9.0, before=2.0), limit=100)) == 2
    assert sum(each.calls for each in await db.read(partial(spending.totals, by="agent"))) == 4


async def test_a_budget_counts_the_latest_day_alone(db: Database) -> None:
    andy = await db.write(partial(agents.create_agent_group, name="Andy", folder="andy", now=1.0))
    await db.write(partial(spending.book, spent=spent(andy.id, 1)))
    made = partial(budgets.set_budget, agent_group_id=andy.id, per_day=100, unit="usd", warn_percent=50, per_minute=None)
    assert (await db.write(partial(made, today="2026-01-01"))).spent == 7
    charge = partial(budgets.charge, agent_group_id=andy.id, tokens=0)
    found = [
        await db.write(partial(charge, today=f"2026-01-0{day}", cost=cost)) for day, cost in ((1, 43), (1, 1), (3, 5), (2, 50))
    ]
    assert [each and (each[0].day[-1], each[0].spent, each[1]) for each in found] == [
        ("1", 50, True),
        ("1", 51, False),
        ("3", 5, False),
        ("3", 55, True),
    ]
    assert [(name, each.spent) for name, each in await db.read(budgets.every_budget)] == [("Andy", 55)]
    assert await db.write(partial(budgets.remove_budget, agent_group_id=andy.id))
    assert await db.read(partial(budgets.budget_of, agent_group_id=andy.id)) is None
    assert await db.write(partial(charge, today="2026-01-04", cost=1)) is None
