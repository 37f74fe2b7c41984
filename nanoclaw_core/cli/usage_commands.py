"""The commands about money: what was spent, and what may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from nanoclaw_core.cli.base import Group, settings, span

if TYPE_CHECKING:
    from nanoclaw_core.cli.usage import Amount


@click.command()
@click.option(
    "--by",
    type=click.Choice(["agent", "session", "task", "model", "day"]),
    default="agent",
    help="What to sum up by (agent).",
)
@click.option("--agent", metavar="NAME", help="Only what this agent spent.")
@click.option("--since", metavar="DURATION", callback=span, help="Only the last 90m, 12h, 7d …; without it, everything.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object.")
def usage(by: str, agent: str | None, since: float | None, as_json: bool) -> None:
    """Show the tokens that the model took, and what they cost.

    Costs are those of the price list on the day of the call. Reads the home, and changes nothing: a host may run or not.
    """
    from nanoclaw_core.cli.usage import show

    show(settings(), by, agent, since, as_json)


@click.group(cls=Group)
def budget() -> None:
    """Limit what agents may spend in a day.

    Over its budget, an agent's turn ends with a notice in the chat. Changes take effect at once.
    """


def _amount(_context: click.Context, _parameter: click.Parameter, text: str | None) -> Amount | None:
    from nanoclaw_core.ledger.limits import amount_in

    try:
        return None if text is None else amount_in(text)
    except ValueError as error:
        raise click.BadParameter(f"{text!r} is no amount such as 2.50 (US dollars), 200ktokens or 2Mtokens.") from error


@budget.command("set")
@click.argument("agent")
@click.option("--per-day", metavar="AMOUNT", callback=_amount, help="US dollars like 2.50, or tokens like 200ktokens.")
@click.option("--warn", metavar="PERCENT", type=click.IntRange(1, 100), help="Tell the owner at this share of a day (80).")
@click.option("--per-minute", metavar="CALLS", type=click.IntRange(1, 100_000), help="At most so many calls in a minute.")
def set_budget(agent: str, per_day: Amount | None, warn: int | None, per_minute: int | None) -> None:
    """Set the budget of AGENT, or change it.

    What is not named stays as it is. The day is that of NANOCLAW_TIMEZONE; what was spent today counts.
    """
    from nanoclaw_core.cli.usage import set_budget

    if per_day is None and per_minute is None and warn is None:
        raise click.UsageError("Say what to limit: --per-day AMOUNT, or --per-minute CALLS.")
    set_budget(settings(), agent, per_day, warn, per_minute)


@budget.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON array.")
def list_budgets(as_json: bool) -> None:
    """List the budgets, and what is spent of them."""
    from nanoclaw_core.cli.usage import list_budgets

    list_budgets(settings(), as_json)


@budget.command("remove")
@click.argument("agent")
def remove_budget(agent: str) -> None:
    """Let AGENT spend without limit."""
    from nanoclaw_core.cli.usage import remove_budget

    remove_budget(settings(), agent)
