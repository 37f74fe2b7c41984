"""A router on a house of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanoclaw_core.journal import Journal
from nanoclaw_core.routing.router import Router
from tests.house import arrivals, open_house
from tests.routing.desk import Desk


@pytest.fixture
async def desk(nanoclaw_home: Path) -> AsyncIterator[Desk]:
    async with open_house(nanoclaw_home) as house:
        journal = Journal(house.database, house.clock)
        desk = Desk(house, None)  # type: ignore[arg-type]  # made in the next line, since each needs the other
        desk.router = Router(
            database=house.database,
            journal=journal,
            mailboxes=house.mailboxes,
            home=house.home,
            clock=house.clock,
            wake=desk.woken.append,
            stop=desk.stopped.append,
            refuse=desk.refuse,
            tell_usage=desk.tell_usage,
            answered=desk.answered,
            arrivals=arrivals(house.home, house.clock, journal, desk.channels),
            tell=desk.told.append,
        )
        yield desk
