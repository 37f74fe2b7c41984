"""Budgets as people set them: an amount in words, and what of an earlier budget stays."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any, Final

from nanoclaw_core.ledger.prices import DOLLAR
from nanoclaw_core.models import AgentGroup
from nanoclaw_core.store import budgets
from nanoclaw_core.store.budgets import Budget
from nanoclaw_core.store.spending import Connection

WARN_AT: Final = 80
_AMOUNT: Final = re.compile(r"(?:\$|usd)?(\d{1,9}(?:\.\d{1,9})?)(usd|\$|k?tokens?|mtokens?)?", re.IGNORECASE)
_SIZES: Final = {"": 1, "k": 1000, "m": 1_000_000}
_MOST: Final = 10**15


def amount_in(text: str) -> tuple[int, str]:
    """An amount as people type it, and its unit: dollars, unless it says tokens.

    >>> amount_in("2.50"), amount_in("$5"), amount_in("10 USD"), amount_in("200k tokens"), amount_in("2Mtokens")
    ((2500000000, 'usd'), (5000000000, 'usd'), (10000000000, 'usd'), (200000, 'tokens'), (2000000, 'tokens'))

    Raises:
        ValueError: it is none, or nothing.
    """
    found = _AMOUNT.fullmatch(text.replace(" ", "").replace(",", ""))
    if found is None:
        raise ValueError(text)
    number, unit = Decimal(found[1]), (found[2] or "usd").lower()
    size = DOLLAR if unit in ("usd", "$") else _SIZES[unit.partition("token")[0]]
    amount = int(number * size)
    if not 0 < amount <= _MOST or ("token" in unit and text.strip().startswith("$")):
        raise ValueError(text)
    return amount, "usd" if size == DOLLAR else "tokens"


def change(
    conn: Connection,
    agent: AgentGroup,
    today: str,
    *,
    per_day: int | None,
    unit: str | None,
    warn_percent: int | None,
    per_minute: int | None,
) -> dict[str, Any]:  # Any: JSON
    """Set what is not None, and leave the rest of an earlier budget."""
    before = budgets.budget_of(conn, agent.id)
    if per_day is None and before is not None:
        per_day, unit = before.per_day, before.unit
    if warn_percent is None:
        warn_percent = before.warn_percent if before else WARN_AT
    if per_minute is None and before is not None:
        per_minute = before.per_minute
    made = budgets.set_budget(
        conn,
        agent_group_id=agent.id,
        per_day=per_day,
        unit=unit or "usd",
        warn_percent=warn_percent,
        per_minute=per_minute,
        today=today,
    )
    return listed(agent.name, made, today)


def listed(agent: str, budget: Budget, today: str) -> dict[str, Any]:  # Any: JSON
    """A budget as JSON; amounts of dollars are billionths."""
    return {
        "agent": agent,
        "per_day": budget.per_day,
        "unit": budget.unit,
        "warn_percent": budget.warn_percent,
        "per_minute": budget.per_minute,
        "day": max(today, budget.day),
        "spent": budget.spent_by(today),
    }
