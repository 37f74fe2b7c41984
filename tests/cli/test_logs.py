"""What the log shows to people, and what it never shows."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from nanoclaw_core.cli import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Give the next test the logging that this one found."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def fail(secret: str) -> None:
    raise ValueError(f"it broke, {len(secret)}")


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_a_traceback_shows_no_values_of_variables(
    on_a_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "-".join(["the", "secret"])
    monkeypatch.setattr("sys.stderr.isatty", lambda: on_a_terminal)
    logs.configure("info")
    try:
        fail(secret)
    except ValueError:
        structlog.get_logger().warning("survived", exc_info=True)
    printed = capsys.readouterr().err
    assert "it broke, 10" in printed
    assert "in fail" in printed
    assert secret not in printed
