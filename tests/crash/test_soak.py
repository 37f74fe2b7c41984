"""A short soak; `make soak` runs a long one."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace

import pytest

from nanoclaw_core.mailbox import box
from tests.crash.soak import Sample, leaks, soak

FLAT = Sample(turns=0, memory=90_000, objects=1000, descriptors=70, threads=12, tasks=40, mailboxes=64, doors=4, lanes=0)


async def test_a_host_that_works_for_long_holds_no_more_than_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(box, "_OPEN", 4)  # so that this many turns come to the limit
    async with aclosing(soak(240)) as samples:
        found = [sample async for sample in samples]
    assert leaks(found) == []


def test_what_grows_is_named_and_what_grew_only_at_first_is_not() -> None:
    assert leaks([replace(FLAT, memory=min(90_000, 50_000 + 10_000 * number)) for number in range(20)]) == []
    assert leaks([replace(FLAT, descriptors=70 + 10 * number) for number in range(20)]) == [
        "descriptors grew by 70 in the last third"
    ]
