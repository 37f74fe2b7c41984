"""How money and tokens are said."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from nanoclaw_core.ledger.prices import DOLLAR
from nanoclaw_core.store import agents
from nanoclaw_core.store.budgets import Budget, budget_of
from nanoclaw_core.store.spending import Connection, Total, totals

_MOST_LINES: Final = 10
_MONTH: Final = 29 * 86400.0


def usd(amount: int) -> str:
    """Billionths of a US dollar as people say it.

    >>> usd(1_234_500_000), usd(12_300_000), usd(1), usd(0)
    ('$1.23', '$0.0123', '$0.0001', '$0.00')
    """
    if amount == 0 or amount >= DOLLAR:
        return f"${amount / DOLLAR:,.2f}"
    return f"${max(amount / DOLLAR, 0.0001):.4f}"


def count(tokens: int) -> str:
    """Tokens as people say it.

    >>> count(950), count(12_345), count(2_500_000)
    ('950', '12.3k', '2.5M')
    """
    if tokens < 1000:
        return str(tokens)
    return f"{tokens / 1000:.1f}k" if tokens < 999_950 else f"{tokens / 1_000_000:.1f}M"


def amount(value: int, unit: str) -> str:
    return usd(value) if unit == "usd" else f"{value:,} tokens"


def cost(total: Total) -> str:
    """What a sum costs, and what of it is not known.

    >>> some = Total(key="", calls=9, incomplete=0, unpriced=3, input_tokens=1, output_tokens=1, cache_read_tokens=0,
    ...              cache_write_tokens=0, cost=1_230_000_000)
    >>> cost(some)
    '≥ $1.23, and 3 calls of unknown price'
    """
    if total.calls and total.unpriced == total.calls:
        return "unknown"
    least = "≥ " if total.incomplete or total.unpriced else ""
    calls = "1 call" if total.unpriced == 1 else f"{total.unpriced} calls"
    return f"{least}{usd(total.cost)}" + (f", and {calls} of unknown price" if total.unpriced else "")


def whole(totals: Sequence[Total]) -> Total:
    """All of them as one."""
    names = (
        "calls",
        "incomplete",
        "unpriced",
        "input_tokens",
        "output_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "cost",
    )
    return Total(key="", **{name: sum(getattr(each, name) for each in totals) for name in names})


def limits(budget: Budget, today: str) -> str:
    """A budget in a line."""
    parts = []
    if budget.per_day is not None:
        spent = amount(budget.spent_by(today), budget.unit)
        parts.append(f"{spent} of {amount(budget.per_day, budget.unit)} today")
    if budget.per_minute is not None:
        parts.append(f"at most {budget.per_minute} calls a minute")
    return ", ".join(parts)


def statements(conn: Connection, agent_groups: Sequence[str], now: float, timezone: str) -> list[str]:
    """What `/usage` answers, a text for each agent group."""
    day, first = day_of(now, timezone), day_of(now - _MONTH, timezone)
    found = []
    for agent in dict.fromkeys(agent_groups):
        today = totals(conn, "model", from_day=day, agent=agent)
        month = totals(conn, "model", from_day=first, agent=agent)
        name = agents.agent_group(conn, agent).name
        found.append(_statement(name, today, month, budget_of(conn, agent), day))
    return found


def day_of(time: float, timezone: str) -> str:
    """The day of a moment, as it is written in the books."""
    return f"{datetime.fromtimestamp(time, ZoneInfo(timezone)):%Y-%m-%d}"


def _statement(agent: str, today: Sequence[Total], month: Sequence[Total], budget: Budget | None, day: str) -> str:
    lines = [f"**{agent}** today: {_sum(whole(today))}"]
    lines += [f"- {each.key}: {_sum(each)}" for each in today[:_MOST_LINES]] if len(today) > 1 else []
    lines.append(f"Last 30 days: {_sum(whole(month))}")
    if budget is not None:
        lines.append(f"Budget: {limits(budget, day)}")
    return "\n".join(lines)


def _sum(total: Total) -> str:
    if not total.calls:
        return "nothing"
    calls = "1 call" if total.calls == 1 else f"{total.calls:,} calls"
    return f"{cost(total)} ({calls}, {count(total.tokens)} tokens)"
