"""What tokens cost, whose table counts, and what is wrong with one that does not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core.ledger.prices import DOLLAR, FILE, Prices, PriceTable, Tokens, packaged

MILLION = 1_000_000


def cost(prices: Prices, model: str, **tokens: int) -> float | None:
    rate = prices.rate(model)
    found = rate.cost(Tokens(**tokens)) if rate else None
    return None if found is None else found / DOLLAR


def write(home: Path, document: Any, as_of: str = "2026-11-20") -> None:
    text = document if isinstance(document, str) else json.dumps({"as_of": as_of, "models": document})
    (home / FILE).write_text(text)


def test_the_packaged_prices_know_what_claude_costs(tmp_path: Path) -> None:
    prices = Prices(tmp_path)
    assert cost(prices, "claude-sonnet-4-6", input=MILLION, output=MILLION) == 18
    assert cost(prices, "claude-haiku-4-5-20251001", cache_read=MILLION) == 0.1
    assert cost(prices, "claude-opus-4-5", cache_write=MILLION) == 6.25
    assert cost(prices, "claude-opus-4-5", cache_write=MILLION, cache_write_1h=MILLION) == 10


@pytest.mark.parametrize(
    "model", ["", "gpt-9", "claude-sonnet-4-7", "claude-opus-4-5-turbo", "claude-sonnet-4-5-2025", "anthropic/claude-opus-4-5"]
)
def test_a_model_that_no_table_has_has_no_price(tmp_path: Path, model: str) -> None:
    assert Prices(tmp_path).rate(model) is None


def test_a_long_prompt_has_a_price_of_its_own_or_none(tmp_path: Path) -> None:
    prices = Prices(tmp_path)
    assert cost(prices, "claude-haiku-5-5", input=100_000) == 0.01
    assert cost(prices, "claude-haiku-5-5", input=50_001, cache_read=50_000) == pytest.approx(0.0250005 + 0.0025)
    assert cost(prices, "claude-sonnet-4-5", input=200_001) is None


def test_the_most_that_a_call_may_cost_is_never_less_than_it_does(tmp_path: Path) -> None:
    prices, counts = Prices(tmp_path), (0, 7, 150_000)
    for model in packaged().models:
        rate = prices.rate(model)
        assert rate is not None
        for tokens in (
            Tokens(input=a, cache_write=b, cache_write_1h=b, output=c) for a in counts for b in counts for c in counts
        ):
            assert (rate.cost(tokens) or 0) <= rate.most(Tokens(input=tokens.all_in, output=tokens.output))


def test_the_homes_table_wins_for_the_models_that_it_has(tmp_path: Path) -> None:
    write(tmp_path, {"claude-opus-4-5": [{"input": 1, "output": 2.5}], "local-*": [{"input": 0, "output": 0}]})
    prices = Prices(tmp_path)
    assert prices.check() is None
    assert cost(prices, "claude-opus-4-5", input=MILLION, cache_read=MILLION) == 2
    assert cost(prices, "local-llama", input=MILLION) == 0
    assert cost(prices, "claude-sonnet-4-6", input=MILLION) == 3
    assert {rate.as_of for rate in map(prices.rate, ("local-x", "claude-opus-4-5")) if rate} == {"2026-11-20"}


def test_a_table_that_changes_counts_from_then_on(tmp_path: Path) -> None:
    prices = Prices(tmp_path)
    assert cost(prices, "mine", input=MILLION) is None
    write(tmp_path, {"mine": [{"input": 1, "output": 1}]})
    assert cost(prices, "mine", input=MILLION) == 1
    write(tmp_path, {"mine": [{"input": 20, "output": 1}]})
    assert cost(prices, "mine", input=MILLION) == 20
    (tmp_path / FILE).unlink()
    assert cost(prices, "mine", input=MILLION) is None


@pytest.mark.parametrize(
    "document",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"as_of": "2026-01-01"}',
        '{"as_of": "yesterday", "models": {}}',
        '{"as_of": "2026-01-01", "models": {"m": {"input": 1, "output": 1}}}',
        '{"as_of": "2026-01-01", "models": {"m": [{"input": -1, "output": 1}]}}',
        '{"as_of": "2026-01-01", "models": {"m": [{"input": "free", "output": 1}]}}',
        '{"as_of": "2026-01-01", "models": {"m": [{"input": 1e300, "output": 1}]}}',
        '{"as_of": "2026-01-01", "models": {"m": [{"input": 1, "output": 1, "outptu": 2}]}}',
        '{"as_of": "2026-01-01", "models": {"m": [{"input": NaN, "output": 1}]}}',
        '{"as_of": "2026-01-01", "models": {"m": [{"input": "NaN", "output": 1}]}}',
        " " * 300_000,
    ],
    ids=lambda text: text[:80].strip(),
)
def test_a_broken_table_leaves_the_packaged_one_and_says_what_to_do(tmp_path: Path, document: str) -> None:
    write(tmp_path, document)
    prices = Prices(tmp_path)
    fault = prices.check()
    assert fault is not None
    assert "correct the file, or remove it" in str(fault)
    assert cost(prices, "claude-opus-4-5", input=MILLION) == 5


def test_what_is_no_file_is_no_table(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    assert Prices(tmp_path).check() is not None


def test_the_packaged_table_is_dated_and_in_it_a_longer_name_is_no_version_of_a_shorter_one(tmp_path: Path) -> None:
    assert isinstance(packaged(), PriceTable)
    prices = Prices(tmp_path)
    for name, bands in packaged().models.items():
        rate = prices.rate(f"{name}-20260101")
        assert rate is not None
        assert rate.bands == bands
