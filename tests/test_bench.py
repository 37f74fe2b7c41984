"""The arithmetic and the writing of figures; what they measure is measured by `make bench` alone."""

from __future__ import annotations

import json
import platform
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from bench import report
from bench.acceptance import waits
from bench.crowded import cut_short
from bench.figures import Figures, number
from bench.history import in_mailbox
from bench.machine import processor
from tests.crash.report import heading


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
    assert figures.meets_aim(cold) is True
    assert figures.meets_aim(rate) is False


def test_an_aim_may_be_for_the_ratio(figures: Figures) -> None:
    flat = figures.add("flat", "s", [0.45], floor="floor: nothing", most_ratio=1.5)
    steep = figures.add("steep", "s", [0.46], floor="floor: nothing", most_ratio=1.5)
    alone = figures.add("alone", "s", [0.46], floor="floor: not taken", most_ratio=1.5)
    assert [figures.meets_aim(figure) for figure in (flat, steep, alone)] == [True, False, None]


def test_a_message_is_timed_by_its_id_whatever_its_number() -> None:
    began = {"first": 1.0, "second": 1.1}
    numbers = {"earlier": 1, "second": 2, "first": 3}
    assert waits(began, numbers, {2: 1.2, 3: 1.5}) == pytest.approx([0.5, 0.1])


def test_checks_that_ran_out_of_time_are_counted() -> None:
    reasons = ["this check had no result after 60 s", "all is well"]
    assert cut_short(json.dumps({"checks": [{"reason": reason} for reason in reasons]})) == 1


async def test_a_message_goes_its_whole_way_through_a_mailbox_with_others_behind_it(tmp_path: Path) -> None:
    assert len(await in_mailbox(tmp_path, 20, rounds=3)) == 3
    counts = {"rows": 23, "finals": 46, "parts": 23}
    with closing(sqlite3.connect(tmp_path / "sessions" / "main" / "s" / "inbound.db")) as db:
        assert {table: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in counts} == counts  # noqa: S608
        assert db.execute("SELECT floor FROM delivered").fetchone() == (46,)


def test_the_heading_names_the_kind_of_machine_and_no_machine() -> None:
    words = report.title()
    assert all(name in words for name in ("nanoclaw-core", "GiB", "Docker", "Claude Code", "Python"))
    assert platform.node() not in words
    assert heading(7, 20, 90.0) == f"20 points of seed 7 in 1.5 minutes.\n{words}"


def test_a_processor_is_named_in_plain_words() -> None:
    assert processor("flags\t: fpu\nmodel name\t: Intel(R) Xeon(R)  Processor\nmodel name\t: other\n") == "Intel Xeon Processor"
    assert processor("") == platform.machine()


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
    figures.add("with much behind it", "s", [0.6], floor="floor: nothing", most_ratio=1.5)
    report.write_page(figures, page)
    text = page.read_text()
    assert text.startswith("# Before\n")
    assert text.endswith("\n\nAfter.\n")
    assert "stale" not in text
    assert "| cold | 0.900 | s | 0.600 – 1.20 |  | 3.00 | ≤ 1 | met |" in text
    assert "| accepted | 400 | messages/s |  |  |  | ≥ 500 | missed |" in text
    assert "| with much behind it | 0.600 | s |  |  | 2.00 | ≤ 1.5 × floor | missed |" in text


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
