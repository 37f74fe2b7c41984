"""The pytest plugin that comes with nanoclaw-core: fixtures prefixed `nanoclaw_`, none of them automatic."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nanoclaw_core.testing import FakeChannel, FakeClock, ScriptedModel


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("nanoclaw").addoption(
        "--nanoclaw-report", metavar="FILE", help="write what each contract says of each capability to FILE, as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "nanoclaw_capability(name): the capability that this test of a contract is about")
    if path := config.getoption("--nanoclaw-report"):
        from nanoclaw_core.testing.contracts.report import Report

        config.pluginmanager.register(Report(Path(path)), "nanoclaw-report")


def pytest_itemcollected(item: pytest.Item) -> None:
    if mark := item.get_closest_marker("nanoclaw_capability"):
        item.user_properties.append((mark.name, mark.args[0]))


@pytest.fixture
def nanoclaw_clock() -> FakeClock:
    """A clock that stands still until `await clock.advance(seconds)`."""
    from nanoclaw_core.testing.clock import FakeClock

    return FakeClock()


@pytest.fixture
def nanoclaw_channel() -> FakeChannel:
    """A channel whose platform is the test."""
    from nanoclaw_core.testing.channel import FakeChannel

    return FakeChannel()


@pytest.fixture
def nanoclaw_home() -> Iterator[Path]:
    """An empty home folder of mode 0700, with a path short enough for Unix sockets (108 bytes on Linux)."""
    with tempfile.TemporaryDirectory(prefix="nc") as folder:
        yield Path(folder)


@pytest.fixture
async def nanoclaw_scripted_model() -> AsyncIterator[ScriptedModel]:
    """A server that speaks the Messages API from a script."""
    from nanoclaw_core.testing.scripted_model import ScriptedModel

    async with ScriptedModel() as model:
        yield model


@pytest.fixture
def nanoclaw_network_guard() -> Iterator[None]:
    """Fails a test that leaves this machine."""
    from nanoclaw_core.testing.guards import network_guard

    with network_guard():
        yield


@pytest.fixture
def nanoclaw_environment_guard() -> Iterator[None]:
    """Fails a test that leaves `os.environ` changed."""
    from nanoclaw_core.testing.guards import environment_guard

    with environment_guard():
        yield


@pytest.fixture
def nanoclaw_loop_guard() -> Iterator[None]:
    """Fails a test that blocks the event loop."""
    from nanoclaw_core.testing.guards import loop_guard

    with loop_guard():
        yield
