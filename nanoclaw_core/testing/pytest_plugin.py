"""The pytest plugin that comes with nanoclaw-core: fixtures prefixed `nanoclaw_`, none of them automatic."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from nanoclaw_core.testing import FakeChannel, FakeClock, ScriptedModel


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
