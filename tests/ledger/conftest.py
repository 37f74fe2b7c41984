"""Books on a real database, with one agent's calls."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core.ledger.books import Ledger, Wish
from nanoclaw_core.ledger.prices import DOLLAR, Prices
from nanoclaw_core.ledger.tally import Tally
from nanoclaw_core.models import Event, WorkerIdentity
from nanoclaw_core.operations import NewBudget, change_budget
from nanoclaw_core.store import budgets, spending
from nanoclaw_core.store.budgets import Budget
from nanoclaw_core.store.spending import Total
from tests.house import House, open_house
from tests.ledger.test_tally import event

MODEL = "claude-opus-4-5"  # 5 dollars for a million tokens in, 25 out


def stream(tokens_in: int, tokens_out: int, model: str = MODEL) -> bytes:
    usage = {"input_tokens": tokens_in, "output_tokens": 1}
    return event("message_start", message={"model": model, "usage": usage}) + event(
        "message_delta", usage={"output_tokens": tokens_out}
    )


@dataclass
class Till:
    """A ledger, and whom it told what."""

    house: House
    ledger: Ledger
    warnings: list[str] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)

    @property
    def worker(self) -> WorkerIdentity:
        return WorkerIdentity(worker_id="w", session_id="s1", agent_group=self.house.agent, secret_hash="")

    @asynccontextmanager
    async def call(self, **wish: Any) -> AsyncIterator[Tally]:
        asked = Wish(**{"model": MODEL, "size": 4000, "most_output": 1000, **wish})
        async with self.ledger.call(self.worker, asked) as tally:
            tally.begin("text/event-stream")
            yield tally

    async def spend(self, tokens_in: int = 0, tokens_out: int = 0, model: str = MODEL) -> None:
        async with self.call(model=model) as tally:
            tally.hear(stream(tokens_in, tokens_out, model))
        await self.settled()

    async def settled(self) -> None:
        """Wait until what has ended is in the books."""
        account = self.ledger._accounts[self.house.agent.id]
        while any(hold.is_live for hold in account.holds):
            await account.changed.wait()

    async def limit(self, **wish: Any) -> None:
        today = self.ledger.today()
        new = NewBudget(agent=self.house.agent.name, **wish)
        await self.house.database.write(partial(change_budget, wish=new, today=today))

    async def limit_dollars(self, dollars: float, **wish: Any) -> None:
        await self.limit(per_day=int(dollars * DOLLAR), unit="usd", **wish)

    async def budget(self) -> Budget:
        found = await self.house.database.read(partial(budgets.budget_of, agent_group_id=self.house.agent.id))
        assert found is not None
        return found

    async def totals(self, by: str = "agent", **where: Any) -> list[Total]:
        return await self.house.database.read(partial(spending.totals, by=by, **where))

    async def total(self) -> Total:
        (total,) = await self.totals()
        return total


@pytest.fixture
async def till(nanoclaw_home: Path) -> AsyncIterator[Till]:
    async with open_house(nanoclaw_home) as house:
        warnings: list[str] = []
        told: list[Event] = []

        async def warn(text: str) -> None:
            warnings.append(text)

        async with Ledger(house.database, Prices(house.home), house.clock, "Europe/Berlin", warn, told.append) as ledger:
            yield Till(house, ledger, warnings, told)
