"""A house with one agent in one chat."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.house import House, open_house


@pytest.fixture
async def house(nanoclaw_home: Path) -> AsyncIterator[House]:
    async with open_house(nanoclaw_home) as house:
        yield house
