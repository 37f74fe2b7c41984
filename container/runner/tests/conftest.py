"""Fixtures for the runner's tests."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from miniature import FakeHost, Home


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The runner is bound to asyncio."""
    return "asyncio"


@pytest.fixture
def home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="nc") as folder:
        yield Home(Path(folder))


@pytest.fixture
async def host(home: Home) -> AsyncIterator[FakeHost]:
    async with FakeHost(home.socket).up() as fake:
        yield fake
