"""Every test here runs under all guards, and a container test that is skipped is a failure of the run."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
import structlog

from nanoclaw_core.testing.guards import refuse_real_models

_skipped_container_tests: list[str] = []


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The libraries of the platforms are bound to asyncio; nothing here promises trio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def guards(nanoclaw_environment_guard: None, nanoclaw_network_guard: None, nanoclaw_loop_guard: None) -> None:
    """No test leaves this machine, changes the environment for the next one, or blocks the event loop."""


@pytest.fixture(autouse=True)
def same_umask() -> Iterator[None]:
    """Commands that a test runs in this process set it, as they do in theirs."""
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture(scope="session", autouse=True)
def no_real_models() -> Iterator[None]:
    """For the whole run, whatever a test or the host under test decides."""
    with refuse_real_models():
        yield


@pytest.fixture(scope="session", autouse=True)
def hear_ctrl_c() -> None:
    """Whoever is started in the background by a shell ignores ctrl-C, and so would every program that a test interrupts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def quick_log() -> None:
    """A traceback in the log is plain text: made beautiful, with all variables, it would hold up the event loop."""
    plain = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(processors=[*structlog.get_config()["processors"][:-1], plain])


@pytest.fixture(autouse=True)
def same_log() -> Iterator[None]:
    """What a command silenced or sent elsewhere, for its own process, is as before for the next test."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and "container" in report.keywords and not hasattr(report, "wasxfail"):
        _skipped_container_tests.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped_container_tests:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for nodeid in _skipped_container_tests:
        terminalreporter.write_line(f"FAILED: a container test may not be skipped: {nodeid}", red=True)
