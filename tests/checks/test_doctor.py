"""Running checks: a line for everything, whatever a check does, and mending what offers it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from nanoclaw_core.doctor import examine, mend
from nanoclaw_core.errors import HostNotRunning
from nanoclaw_core.ports import Check, CheckContext, CheckResult, CheckStatus
from tests.checks.conftest import context_on


@pytest.fixture
def context(nanoclaw_home: Path) -> CheckContext:
    return context_on(nanoclaw_home)


async def fine(context: CheckContext) -> AsyncIterator[CheckResult]:
    yield CheckResult(name="fine", status=CheckStatus.OK, reason="it is")


async def breaks(context: CheckContext) -> AsyncIterator[CheckResult]:
    yield CheckResult(name="first", status=CheckStatus.OK, reason="so far")
    raise ZeroDivisionError("of its own")


async def refuses(context: CheckContext) -> AsyncIterator[CheckResult]:
    yield CheckResult(name="first", status=CheckStatus.OK, reason="so far")
    raise HostNotRunning("/home")


async def hangs(context: CheckContext) -> AsyncIterator[CheckResult]:
    yield CheckResult(name="first", status=CheckStatus.OK, reason="so far")
    await anyio.sleep_forever()


async def babbles(context: CheckContext) -> AsyncIterator[Any]:
    yield "no result at all"


def checks(*runs: Any) -> list[Check]:
    return [Check(name=run.__name__, run=run, time_limit=0.05) for run in runs]


@pytest.mark.parametrize(
    ("run", "says"),
    [
        (breaks, "this check itself failed: ZeroDivisionError: of its own"),
        (refuses, str(HostNotRunning("/home"))),
        (hangs, "this check had no result after 0.05 s"),
        (babbles, "it yields str, not CheckResult"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_a_check_that_goes_wrong_costs_only_what_it_had_still_to_say(run: Any, says: str, context: CheckContext) -> None:
    with capture_logs():
        *before, broken, after = await examine(checks(run, fine), context)
    assert [line.name for line in before] == (["first"] if run is not babbles else [])
    assert (broken.name, broken.status) == (run.__name__, CheckStatus.FAIL)
    assert says in broken.reason
    assert ("itself failed" in broken.reason) == (run in (breaks, babbles))
    assert after.name == "fine"


async def test_checks_run_side_by_side_and_their_lines_stay_in_order(context: CheckContext) -> None:
    second_has_run = anyio.Event()

    async def first(context: CheckContext) -> AsyncIterator[CheckResult]:
        await second_has_run.wait()
        yield CheckResult(name="first", status=CheckStatus.OK, reason="late")

    async def second(context: CheckContext) -> AsyncIterator[CheckResult]:
        second_has_run.set()
        yield CheckResult(name="second", status=CheckStatus.OK, reason="early")

    found = await examine([Check(name="first", run=first), Check(name="second", run=second)], context)
    assert [line.name for line in found] == ["first", "second"]


async def test_mending_does_what_lines_offer_and_one_failure_stops_no_other() -> None:
    async def works() -> str:
        return "made it whole"

    async def cannot() -> str:
        raise PermissionError("not yours")

    lines = [
        CheckResult(name="one", status=CheckStatus.FAIL, reason="broken", fix="do it", mend=cannot),
        CheckResult(name="two", status=CheckStatus.WARN, reason="odd"),
        CheckResult(name="three", status=CheckStatus.WARN, reason="odd", mend=works),
    ]
    with capture_logs():
        done = await mend(lines)
    assert [(line.name, line.status, line.reason) for line in done] == [
        ("one", CheckStatus.FAIL, "PermissionError: not yours"),
        ("three", CheckStatus.OK, "made it whole"),
    ]
