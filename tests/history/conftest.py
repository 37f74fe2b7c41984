"""A house in which messages can be brought to any state, by the calls that the host itself makes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from nanoclaw_core.history import outcomes
from nanoclaw_core.history.outcomes import Outcome, Standing
from nanoclaw_core.history.timeline import Moment, Timeline, timeline
from nanoclaw_core.journal import Journal
from nanoclaw_core.mailbox import NewOutbound, NewRow, row_id
from nanoclaw_core.models import Failure, InboundMessage, Push, Sender, Session, TurnEnd, Usage
from nanoclaw_core.store import workers
from tests.house import CHAT, House, open_house

WORKER = "w0123456789ab"


@dataclass(kw_only=True)
class Past:
    """What happened so far. Each call takes a second of the clock."""

    house: House
    journal: Journal
    count: int = 0
    pushes: dict[int, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.house.home

    async def tick(self, seconds: float = 1.0) -> None:
        await self.house.clock.advance(seconds)

    async def accept(self, text: str = "hello", **fields: Any) -> int:  # Any: as diverse as a message's fields
        """A message comes; return its number."""
        self.count += 1
        message = InboundMessage(
            address=CHAT,
            message_id=f"m{self.count}",
            sender=Sender(handle="ada", name="Ada"),
            text=text,
            sent_at=self.house.clock.time() - 1,
        )
        await self.journal.accept(replace(message, **fields))
        await self.tick()
        return self.count

    async def route(self, number: int, word: str = "heard", session: Session | None = None) -> None:
        """It reaches the agent's mailbox, or that of another session, or is routed with another word."""
        if word == "heard":
            session = session or self.house.session
            row = NewRow(
                id=row_id(session.id, number),
                address=CHAT,
                message_id=f"m{number}",
                sender_id="fake:ada",
                sender_name="Ada",
                text="hello",
                sent_at=self.house.clock.time(),
            )
            await (await self.house.mailboxes.open(session)).add_rows([row])
        await self.journal.routed({number: word})
        await self.tick()

    async def claim(self, worker: str = WORKER) -> None:
        claim = partial(workers.claim_worker, session_id=self.house.session.id, secret_hash="x", image="image:1")
        await self.house.database.write(partial(claim, worker_id=worker, now=self.house.clock.time()))
        await self.tick()
        started = partial(workers.started, worker_id=worker, container_id="c0ffee", now=self.house.clock.time())
        await self.house.database.write(started)
        await self.tick()

    async def end_worker(self, reason: str, worker: str = WORKER) -> None:
        await self.house.database.write(
            partial(workers.end_worker, worker_id=worker, reason=reason, now=self.house.clock.time())
        )
        await self.tick()

    async def push(self, number: int, worker: str = WORKER) -> None:
        self.pushes[number] = f"u{number}"
        row = row_id(self.house.session.id, number)
        await self.house.mailbox.record_push(Push(uuid=f"u{number}", text="hello"), [row], worker)
        await self.tick()

    async def end_turn(self, number: int, text: str = "hi there", failure: Failure | None = None) -> None:
        word = failure.kind.value if failure else "answered"
        end = TurnEnd(
            id=f"{WORKER}-{number}",
            covered=(f"u{number}",),
            text=text,
            conversation="c1",
            failure=failure,
            usage=Usage(input_tokens=10, output_tokens=2, model_calls=1),
        )
        await self.house.mailbox.end_turn(end, [NewOutbound(to=CHAT, text=text)] if text else [], word)
        await self.tick()

    async def deliver(self, seq: int = 1) -> None:
        await self.house.mailbox.sending(seq, 0)
        await self.house.mailbox.sent(seq, 0, f"p{seq}")
        await self.house.mailbox.delivered(seq)
        await self.tick()

    async def worked_on(self) -> int:
        """A message that a worker has; return its number."""
        number = await self.accept()
        await self.route(number)
        await self.claim()
        await self.push(number)
        return number

    # --- what is told of it ---

    async def newest(self, limit: int = 20, agent: str | None = None, chat: str | None = None) -> list[Standing]:
        return await to_thread.run_sync(partial(outcomes.newest, self.home, limit, agent=agent, chat=chat))

    async def outcome(self) -> Outcome:
        """That of the only message, with the only agent."""
        ((outcome,),) = [each.outcomes for each in await self.newest()]
        return outcome

    async def stuck(self, after: float, patient: frozenset[str] = frozenset()) -> list[int]:
        """The numbers of what is stuck `after` so many seconds."""
        found = await to_thread.run_sync(outcomes.stuck, self.home, self.house.clock.time() + after, patient)
        return [each.message.number for each in found.messages]

    async def timeline(self, number: int = 1) -> Timeline:
        return await to_thread.run_sync(timeline, self.home, number)

    async def moments(self, number: int = 1) -> list[Moment]:
        return list((await self.timeline(number)).moments)


@pytest.fixture
async def past(nanoclaw_home: Path) -> AsyncIterator[Past]:
    async with open_house(nanoclaw_home) as house:
        house.clock._started = 1_000_000_000.0  # long ago also for a command, which has the machine's clock
        yield Past(house=house, journal=Journal(house.database, house.clock))
