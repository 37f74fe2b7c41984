"""Which capability each test of a contract is about, and what became of them all: a report that can be kept as a file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import pytest

F = TypeVar("F", bound=Callable[..., object])

MARK: Final = "nanoclaw_capability"
_NOT_CLAIMED: Final = "not claimed: "


def capability(name: str) -> Callable[[F], F]:
    """Mark a test of a contract as one of the capability `name`."""
    return getattr(pytest.mark, MARK)(name)  # type: ignore[no-any-return]  # pytest's marks are untyped


def not_claimed(what: str) -> None:
    """End this test: the implementation does not say that it can do this."""
    pytest.skip(_NOT_CLAIMED + what)


@dataclass(slots=True, kw_only=True)
class Outcome:
    """How the tests of one capability ended; `notes` say why they failed or were not claimed."""

    passed: int = 0
    failed: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def word(self) -> str:
        return "fail" if self.failed else "pass" if self.passed else "not claimed"


class Report:
    """A pytest plugin that gathers outcomes by contract class and capability, and writes them to `path` at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._outcomes: dict[str, dict[str, Outcome]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        names = [str(value) for key, value in report.user_properties if key == MARK]
        if not names or (report.when != "call" and report.outcome == "passed"):
            return
        place, _, test = report.nodeid.rpartition("::")
        outcome = self._outcomes.setdefault(place, {}).setdefault(names[0], Outcome())
        if report.failed:
            outcome.failed += 1
            outcome.notes.append(f"{test}: {_last_line(report.longreprtext)}")
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            outcome.notes.append(reason.removeprefix("Skipped: ").removeprefix(_NOT_CLAIMED))
        else:
            outcome.passed += 1

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if not hasattr(session.config, "workerinput"):  # xdist's workers hand their reports on
            self._path.write_text(json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    def as_json(self) -> Mapping[str, Mapping[str, Mapping[str, object]]]:
        """For each contract class and capability: the word, how many tests passed and failed, and the notes."""
        return {place: {name: _row(outcome) for name, outcome in found.items()} for place, found in self._outcomes.items()}


def _row(outcome: Outcome) -> Mapping[str, object]:
    notes: Sequence[str] = list(dict.fromkeys(outcome.notes))
    return {"outcome": outcome.word, "passed": outcome.passed, "failed": outcome.failed, "notes": notes}


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("E ")] or text.splitlines()
    return lines[0].removeprefix("E").strip()[:300] if lines else ""
