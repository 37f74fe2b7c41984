"""A pool on paper."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.house import House, open_house
from tests.workers.crew import Crew, open_crew


@pytest.fixture
async def house(nanoclaw_home: Path) -> AsyncIterator[House]:
    async with open_house(nanoclaw_home) as house:
        yield house


@pytest.fixture
async def crew(house: House) -> AsyncIterator[Crew]:
    async with open_crew(house) as crew:
        yield crew
