"""Twenty points of a crash run, and what the run itself is made of."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanoclaw_core.builtins import demo
from tests.crash import mind, report
from tests.crash.checks import Fault, Findings, Kind
from tests.crash.run import Point
from tests.crash.strikes import KINDS, MOMENTS, Blow, deck

ROOT = Path(__file__).parents[2]
SEED = 15


@pytest.mark.container
def test_twenty_blows_lose_nothing_double_nothing_and_leave_nothing_behind() -> None:
    command = [sys.executable, "-m", "tests.crash", "--points", "20", "--seed", str(SEED)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "  20 " in done.stdout


# --- the blows ------------------------------------------------------------------------------------------------------------


def test_a_seed_means_the_same_blows_however_many_are_asked_for() -> None:
    def drawn(points: int) -> list[tuple[str, str, float, bool, float]]:
        return [(blow.kind, blow.moment, blow.delay, blow.holds, blow.rng.random()) for blow in deck(7, points)]

    assert drawn(200)[:20] == drawn(20)
    assert drawn(20) != [(blow.kind, blow.moment, blow.delay, blow.holds, blow.rng.random()) for blow in deck(8, 20)]


def test_a_short_run_has_every_kind_and_a_long_one_every_moment_of_each() -> None:
    assert {blow.kind for blow in deck(1, len(KINDS))} == set(KINDS)
    struck = {(blow.kind, blow.moment) for blow in deck(1, 400)}
    assert struck == {(kind, moment) for kind, (_, _, moments) in KINDS.items() for moment in moments}
    assert {moment for _, moment in struck} == set(MOMENTS)


# --- the model ------------------------------------------------------------------------------------------------------------


def asked(*content: demo.Json) -> demo.Json:
    tools = [{"name": name} for name in ("Bash", "mcp__nanoclaw__count", "mcp__nanoclaw__send_message")]
    return {"tools": tools, "messages": list(content)}


def heard(text: str) -> demo.Json:
    return {"role": "user", "content": f'<message sender="x">{text}</message>'}


def exchange(thought: mind.Thought, *, is_error: bool = False) -> Iterator[demo.Json]:
    (block,) = thought.answer.blocks
    yield {"role": "assistant", "content": [block]}
    yield {"role": "user", "content": [{"type": "tool_result", "tool_use_id": block["id"], "is_error": is_error}]}


def test_the_model_takes_every_step_of_every_message_and_then_replies() -> None:
    messages = [heard("#7 bash count"), heard("#8 say")]
    taken = []
    for _ in range(3):
        thought = mind.think(asked(*messages))
        taken.append((thought.number, thought.step))
        messages += exchange(thought)
    assert taken == [(7, "bash"), (7, "count"), (8, "say")]
    assert mind.think(asked(*messages)).answer == demo.say("reply 7, reply 8")


def test_the_model_makes_a_call_that_failed_again_but_not_for_ever() -> None:
    messages = [heard("#7 count")]
    for _ in range(mind.MOST_TRIES):
        thought = mind.think(asked(*messages))
        assert thought.step == "count"
        messages += exchange(thought, is_error=True)
    assert mind.think(asked(*messages)).answer == demo.say("reply 7")


# --- the report -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def points(tmp_path: Path) -> list[Point]:
    faults = [[], [Fault(kind=Kind.LOST, detail="nobody saw the reply to '#3'")]]
    return [
        Point(
            number=number,
            blow=Blow(kind="host killed", moment="sending", delay=0.0, holds=True, rng=random.Random(1)),
            messages=3,
            recovery=float(number),
            came=True,
            findings=Findings(faults=found, doubts=1),
            home=tmp_path,
        )
        for number, found in enumerate(faults, start=1)
    ]


def test_each_fault_is_told_with_the_way_to_its_record(points: list[Point], tmp_path: Path) -> None:
    sound, bad = (report.line_of(point).splitlines() for point in points)
    assert sound == ["   1 host killed at: sending, held; 3 messages, 1.0 s; 1 in doubt"]
    assert bad[1:] == ["     LOST: nobody saw the reply to '#3'", f"     see {tmp_path / 'crash.txt'}"]


def test_the_table_counts_by_what_was_killed(points: list[Point]) -> None:
    expected = ("2", "0", "6", "1", "0", "0", "0", "2", "0", "1.5 s", "2.0 s")
    assert report.rows_of(points) == [("host killed", *expected), ("all", *expected)]


def test_only_what_stands_between_the_marks_is_replaced(points: list[Point], tmp_path: Path) -> None:
    page = tmp_path / "reliability.md"
    page.write_text(f"# Before\n\n{report.BEGIN}\nstale\n{report.END}\n\nAfter.\n")
    report.write_page(points, "2 points", page)
    text = page.read_text()
    assert text.startswith(f"# Before\n\n{report.BEGIN}\n\n2 points.\n\n| what was killed |")
    assert text.endswith(f"{report.END}\n\nAfter.\n")
    assert "stale" not in text
