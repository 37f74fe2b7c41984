"""What checks look at, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core.errors import ModelUnavailable
from nanoclaw_core.ports import CheckContext, Provider
from nanoclaw_core.testing import FakeClock
from tests.sandbox.fakes import ListedRuntime


def context_on(home: Path, **changes: Any) -> CheckContext:  # Any: as diverse as the context
    """A machine on which a runtime of lists runs, and nobody answers for a model."""

    def nobody() -> Provider:
        raise ModelUnavailable("nobody answers")

    runtime = ListedRuntime()
    fields: dict[str, Any] = {
        "home": home,
        "variables": {},
        "plugins": (),
        "fields": (),
        "host": None,
        "runtime": lambda: runtime,
        "provider": nobody,
        "clock": FakeClock(),
    }
    return CheckContext(**fields | changes)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, empty: the developer's own .env is not looked at."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
