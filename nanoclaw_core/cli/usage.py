"""`nanoclaw usage` and `nanoclaw budget …`: what was spent, and what may be."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from typing import Any, Final, TypeAlias

import click

from nanoclaw_core.cli import logs
from nanoclaw_core.cli.operation import operate
from nanoclaw_core.cli.table import show as show_table
from nanoclaw_core.cli.text import one_line, short_path
from nanoclaw_core.errors import UnknownName
from nanoclaw_core.ledger import words
from nanoclaw_core.ledger.limits import listed
from nanoclaw_core.ledger.prices import DOLLAR, Prices, packaged
from nanoclaw_core.ledger.words import day_of
from nanoclaw_core.settings import Settings
from nanoclaw_core.store import agents, budgets, spending
from nanoclaw_core.store.inspection import looking
from nanoclaw_core.store.spending import Connection, Total

Amount: TypeAlias = tuple[int, str]

_DAY: Final = 86400.0


def show(settings: Settings, by: str, agent: str | None, since: float | None, as_json: bool) -> None:
    """Print the sums.

    Raises:
        UnknownName: there is no such agent. DatabaseBroken, HomeUnusable: the database cannot be read.
    """
    logs.silence()
    found = _totals(settings, by, agent, since)
    if as_json:
        _print_json(
            {
                "by": by,
                "since": None if since is None else time.time() - since,
                "rows": [_plain(each) for each in found],
                "total": _plain(words.whole(found)),
                "prices_as_of": _as_of(settings),
            }
        )
        return
    if not found:
        click.echo(f"No call of the model is in the books of {short_path(settings.home)}.")
        return
    total = words.whole(found)
    rows = [_row(one_line(each.key, 60) or "(none)", each) for each in found]
    if len(found) > 1:
        rows.append(_row("all", total))
    heads = (by.upper(), "CALLS", "IN", "CACHE READ", "CACHE WRITE", "OUT", "COST")
    show_table(f"Usage by {by}", heads, rows)
    if total.incomplete:
        click.echo(f"{total.incomplete} of the calls broke off before the provider said all they took; at least that much.")
    if total.unpriced:
        own = short_path(settings.home / "prices.json")
        click.echo(f"What some calls cost is not known: they broke off, or no table has their model. Add its price to {own}.")


def set_budget(settings: Settings, agent: str, per_day: Amount | None, warn: int | None, per_minute: int | None) -> None:
    """Set or change a budget.

    Raises:
        UnknownName: there is no such agent. RequestFailed: the host says why not.
    """
    logs.silence()
    amount, unit = per_day or (None, None)
    made = operate(settings, "budget.set", agent=agent, per_day=amount, unit=unit, warn_percent=warn, per_minute=per_minute)
    click.echo(f"{one_line(made['agent'], 60)} may spend {_limit(made)}. {_state(made)}".rstrip())


def list_budgets(settings: Settings, as_json: bool) -> None:
    """Print the budgets."""
    logs.silence()
    path = settings.home / "nanoclaw.db"
    today = day_of(time.time(), settings.timezone)
    found: list[dict[str, Any]] = []  # Any: JSON
    if path.exists():
        with looking(path) as connection:
            found = [listed(name, each, today) for name, each in budgets.every_budget(connection)]
    if as_json:
        _print_json([_in_dollars(each) for each in found])
        return
    rows = [(one_line(each["agent"], 60), _limit(each), _state(each)) for each in found]
    show_table("Budgets", ("AGENT", "LIMIT", "TODAY"), rows)
    if any(each["day"] > today for each in found):
        click.echo("The clock is behind the last call: `nanoclaw budget set` begins the day anew.")


def remove_budget(settings: Settings, agent: str) -> None:
    """End a budget.

    Raises:
        UnknownName: there is no such agent.
    """
    logs.silence()
    gone = operate(settings, "budget.remove", agent=agent)
    name = one_line(gone["agent"], 60)
    click.echo(f"{name} has no budget any more." if gone["was_there"] else f"{name} had no budget.")


def _totals(settings: Settings, by: str, agent: str | None, since: float | None) -> list[Total]:
    path = settings.home / "nanoclaw.db"
    if not path.exists():
        return []
    with looking(path) as connection:
        chosen = None if agent is None else _agent_id(connection, agent)
        if since is not None and since <= settings.history_days * _DAY:
            return spending.totals(connection, by, since=time.time() - since, agent=chosen)
        from_day = None if since is None else day_of(time.time() - since, settings.timezone)
        return spending.totals(connection, by, from_day=from_day, agent=chosen)


def _agent_id(connection: Connection, name: str) -> str:
    found = agents.agent_group_named(connection, name)
    if found is None:
        raise UnknownName("agent", name, [group.name for group in agents.agent_groups(connection)])
    return found.id


def _row(key: str, total: Total) -> tuple[str, ...]:
    tokens = (total.input_tokens, total.cache_read_tokens, total.cache_write_tokens, total.output_tokens)
    return key, f"{total.calls:,}", *map(words.count, tokens), words.cost(total)


def _limit(budget: dict[str, Any]) -> str:  # Any: JSON
    parts = []
    if budget["per_day"] is not None:
        parts.append(f"{words.amount(budget['per_day'], budget['unit'])} a day")
    if budget["per_minute"] is not None:
        parts.append(f"{budget['per_minute']} calls a minute")
    return ", ".join(parts)


def _state(budget: dict[str, Any]) -> str:  # Any: JSON
    if budget["per_day"] is None:
        return ""
    share = 100 * budget["spent"] // budget["per_day"]
    return f"{words.amount(budget['spent'], budget['unit'])} spent today ({share} %), a warning at {budget['warn_percent']} %."


def _plain(total: Total) -> dict[str, Any]:  # Any: JSON
    return {**asdict(total), "cost": None if total.calls and total.unpriced == total.calls else total.cost / DOLLAR}


def _in_dollars(budget: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    if budget["unit"] != "usd":
        return budget
    return {**budget, **{name: budget[name] and budget[name] / DOLLAR for name in ("per_day", "spent")}}


def _as_of(settings: Settings) -> dict[str, str | None]:
    own = Prices(settings.home)
    return {"packaged": packaged().as_of, "home": own.as_of}


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))
