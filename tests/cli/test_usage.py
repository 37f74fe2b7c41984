"""`nanoclaw usage` and `nanoclaw budget …` from outside, with a host and without."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import anyio
import pytest

from nanoclaw_core.ledger.words import day_of
from nanoclaw_core.store.spending import Spent, book
from tests.cli.test_commands import run
from tests.house import House, open_house


async def spend(house: House, **changes: Any) -> None:
    now = time.time()
    fields: dict[str, Any] = {
        "at": now,
        "day": day_of(now, "UTC"),
        "agent_group_id": house.agent.id,
        "session_id": house.session.id,
        "model": "claude-opus-4-5",
        "input_tokens": 12_000,
        "output_tokens": 900,
        "cache_read_tokens": 3_000_000,
        "cache_write_tokens": 0,
        "status": "complete",
        "cost": 1_582_500_000,
        "priced_as_of": "2026-11-01",
    }
    await house.database.write(lambda conn: book(conn, Spent(**{**fields, **changes})))


@pytest.fixture
def home(nanoclaw_home: Path) -> Path:
    async def fill() -> None:
        async with open_house(nanoclaw_home) as house:
            await spend(house)
            await spend(house, model="gpt-9", cost=None, priced_as_of=None)
            await spend(house, at=1_700_000_000.0, day="2023-11-14", status="incomplete", cost=1)

    anyio.run(fill)
    return nanoclaw_home


def words(text: str) -> str:
    return " ".join(text.split())


def test_what_is_not_known_is_said_and_never_nothing(home: Path) -> None:
    shown = run("usage", "--by", "model", home=home, COLUMNS="120", NANOCLAW_TIMEZONE="UTC")
    assert (shown.returncode, shown.stderr) == (0, "")
    text = words(shown.stdout)
    assert "claude-opus-4-5 2 24.0k 6.0M 0 1.8k ≥ $1.58" in text
    assert "gpt-9 1 12.0k 3.0M 0 900 unknown" in text
    assert "all 3 36.0k 9.0M 0 2.7k ≥ $1.58, and 1 call of unknown price" in text
    assert "1 of the calls broke off" in text
    assert "prices.json" in text


def test_scripts_get_one_object(home: Path) -> None:
    found = json.loads(run("usage", "--json", "--since", "1h", home=home).stdout)
    (row,) = found["rows"]
    assert (row["calls"], row["unpriced"], row["incomplete"], row["cost"]) == (2, 1, 0, 1.5825)
    assert found["total"]["input_tokens"] == 24_000
    assert found["prices_as_of"] == {"packaged": "2026-11-01", "home": None}
    unknown = json.loads(run("usage", "--json", "--by", "model", "--since", "1h", home=home).stdout)["rows"][1]
    assert (unknown["key"], unknown["cost"]) == ("gpt-9", None)


def test_beyond_the_history_whole_days_are_counted(home: Path) -> None:
    keys = [
        row["key"] for row in json.loads(run("usage", "--json", "--by", "day", "--since", "9000d", home=home).stdout)["rows"]
    ]
    assert keys[0] == "2023-11-14"
    assert len(keys) == 2


def test_nothing_was_spent_where_nothing_is(nanoclaw_home: Path) -> None:
    shown = run("usage", home=nanoclaw_home)
    assert (shown.returncode, "No call of the model is in the books" in shown.stdout) == (0, True)
    assert run("usage", "--agent", "Zoe", home=nanoclaw_home).returncode == 0
    assert "none" in run("budget", "list", home=nanoclaw_home).stdout


def test_an_agent_that_is_not_there_is_named(home: Path) -> None:
    for command in (["usage", "--agent", "Zoe"], ["budget", "set", "Zoe", "--per-day", "1"], ["budget", "remove", "Zoe"]):
        ended = run(*command, home=home)
        assert ended.returncode == 3
        assert "There is no agent named 'Zoe'" in ended.stderr


def test_a_budget_is_set_listed_changed_and_removed_without_a_host(home: Path) -> None:
    made = run("budget", "set", "andy", "--per-day", "$5", home=home, NANOCLAW_TIMEZONE="UTC")
    assert (made.returncode, made.stderr) == (0, "")
    assert made.stdout == "Andy may spend $5.00 a day. $1.58 spent today (31 %), a warning at 80 %.\n"
    run("budget", "set", "Andy", "--per-minute", "20", "--warn", "50", home=home)
    (listed,) = json.loads(run("budget", "list", "--json", home=home, NANOCLAW_TIMEZONE="UTC").stdout)
    assert (listed["per_day"], listed["unit"], listed["per_minute"], listed["warn_percent"]) == (5.0, "usd", 20, 50)
    assert "Andy $5.00 a day, 20 calls a minute" in words(run("budget", "list", home=home, COLUMNS="120").stdout)
    assert run("budget", "remove", "Andy", home=home).stdout == "Andy has no budget any more.\n"
    assert run("budget", "remove", "Andy", home=home).stdout == "Andy had no budget.\n"


@pytest.mark.parametrize("amount", ["", "0", "-1", "a lot", "1e9", "5 EUR", "0.0000000001", "9" * 30, "tokens", "nan"])
def test_an_amount_that_is_none_is_wrong_use(home: Path, amount: str) -> None:
    ended = run("budget", "set", "Andy", "--per-day", amount, home=home)
    assert ended.returncode == 2
    assert "is no amount such as 2.50" in words(ended.stderr)


def test_a_budget_of_nothing_is_wrong_use(home: Path) -> None:
    assert run("budget", "set", "Andy", home=home).returncode == 2


def test_a_broken_price_table_is_a_warning_of_doctor_and_harms_nothing(home: Path) -> None:
    (home / "prices.json").write_text("{")
    checks = json.loads(run("doctor", "--json", home=home).stdout)["checks"]
    (line,) = [check for check in checks if check["name"] == "prices"]
    assert line["status"] == "warn"
    assert "The packaged prices count instead" in line["reason"]
    assert run("usage", home=home).returncode == 0
    (home / "prices.json").unlink()
    checks = json.loads(run("doctor", "--json", home=home).stdout)["checks"]
    assert [check["status"] for check in checks if check["name"] == "prices"] == ["ok"]
