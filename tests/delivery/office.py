"""A running delivery on a house of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from nanoclaw_core.delivery.queue import Delivery
from nanoclaw_core.mailbox import NewOutbound
from nanoclaw_core.models import Address, Event
from nanoclaw_core.ports import Channel
from nanoclaw_core.testing import FakeChannel
from tests.house import CHAT, House


class Post:
    """A running delivery, and what it told."""

    def __init__(self, house: House, channels: dict[str, Channel]) -> None:
        self.house = house
        self.told: list[Event] = []
        self.moves: list[tuple[Address, str]] = []
        self.delivery = Delivery(house.database, house.mailboxes, channels, house.clock, self.told.append, self._moved)

    async def _moved(self, chat: Address, new: str) -> None:
        self.moves.append((chat, new))

    async def put(self, *texts: str, to: Address = CHAT) -> None:
        for text in texts:
            await self.house.mailbox.add_outbound(f"key-{text}", NewOutbound(to=to, text=text))
        self.delivery.wake(self.house.session.id)

    async def until_nothing_is_due(self) -> None:
        while await self.house.mailbox.due():
            await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def post(house: House, *channels: FakeChannel) -> AsyncIterator[Post]:
    office = Post(house, {channel.name: channel for channel in channels})
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            await tasks.start(lambda task_status: office.delivery.run(task_status))
            yield office
            tasks.cancel_scope.cancel()
