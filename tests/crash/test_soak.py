"""A short soak; `make soak` runs a long one."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

from tests.crash.soak import Sample, leaks

ROOT = Path(__file__).parents[2]

FLAT = Sample(turns=0, memory=90_000, objects=1000, descriptors=70, threads=12, tasks=40, mailboxes=64, doors=4, lanes=0)


def test_a_host_that_works_for_long_holds_no_more_than_before() -> None:
    """In a process of its own, which holds nothing of other tests; few mailboxes, so that this many turns come to the limit."""
    run = [sys.executable, "-m", "tests.crash.soak", "--turns", "240", "--mailboxes", "4"]
    ended = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_what_grows_is_named_and_what_grew_only_at_first_is_not() -> None:
    assert leaks([replace(FLAT, memory=min(90_000, 50_000 + 10_000 * number)) for number in range(20)]) == []
    assert leaks([replace(FLAT, descriptors=70 + 10 * number) for number in range(20)]) == [
        "descriptors grew by 70 in the last third"
    ]
