"""The arithmetic and the writing of figures; what they measure is measured by `make bench` alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import report
from bench.figures import Figures, number


@pytest.fixture
def figures() -> Figures:
    found = Figures()
    found.add("floor: nothing", "s", [0.2, 0.4, 0.3])
    found.add("cold", "s", [0.9, 1.2, 0.6], aim=1.0, floor="floor: nothing")
    found.add("accepted", "messages/s", [400.0], aim=500, is_rate=True)
    return found


def test_a_figure_is_held_against_its_floor_and_its_aim(figures: Figures) -> None:
    _, cold, rate = figures.found
    assert cold.median == 0.9
    assert figures.ratio(cold) == pytest.approx(3.0)
    assert cold.meets_aim is True
    assert rate.meets_aim is False


def test_a_percentile_is_a_sample_that_was_taken() -> None:
    figure = Figures().add("many", "s", range(1, 201))
    assert figure.percentile(0.99) == 198
    assert figure.percentile(1.0) == 200


@pytest.mark.parametrize(
    ("value", "words"), [(0.04567, "0.0457"), (1.234, "1.23"), (512.3, "512"), (61234.0, "61234"), (0, "0")]
)
def test_numbers_have_three_digits_that_mean_something(value: float, words: str) -> None:
    assert number(value) == words


def test_only_what_stands_between_the_marks_is_replaced(figures: Figures, tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Before\n\n{report.BEGIN}\nstale\n{report.END}\n\nAfter.\n")
    report.write_page(figures, page)
    text = page.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("\n\nAfter.\n")
    assert "stale" not in text
    assert "| cold | 0.900 | s | 0.600 – 1.20 |  | 3.00 | ≤ 1 | met |" in text
    assert "| accepted | 400 | messages/s |  |  |  | ≥ 500 | missed |" in text


def test_a_page_without_marks_is_left_alone(figures: Figures, tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text("# Mine\n")
    with pytest.raises(ValueError, match="has no lines"):
        report.write_page(figures, page)
    assert page.read_text() == "# Mine\n"


def test_json_holds_every_sample(figures: Figures) -> None:
    rows = json.loads(report.as_json(figures))["figures"]
    assert rows[1]["samples"] == [0.9, 1.2, 0.6]
    assert rows[1]["ratio"] == pytest.approx(3.0)
