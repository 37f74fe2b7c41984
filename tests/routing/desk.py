"""A router, and what it told its neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import anyio

from nanoclaw_core.models import Address, EngageMode, Event, InboundMessage, OutboundRow, Sender
from nanoclaw_core.ports import Channel
from nanoclaw_core.routing.router import Router
from nanoclaw_core.store import agents, chats
from nanoclaw_core.store.database import Connection
from tests.house import CHAT, House

ELSEWHERE = replace(CHAT, chat="chat-2")


def message(text: str = "hello", *, id: str = "m1", to: Address = CHAT, **more: Any) -> InboundMessage:  # noqa: A002
    sender = Sender(handle="ada", name="Ada")
    return InboundMessage(address=to, message_id=id, sender=sender, text=text, sent_at=1.0, **more)


@dataclass
class Desk:
    """A router, and what it told its neighbours."""

    house: House
    router: Router
    woken: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    told: list[Event] = field(default_factory=list)
    said: list[tuple[Address, str]] = field(default_factory=list)

    channels: dict[str, Channel] = field(default_factory=dict)
    answers: list[tuple[str, int, str]] = field(default_factory=list)
    asked_for_usage: list[tuple[str, int]] = field(default_factory=list)

    async def answered(self, session_id: str, question: OutboundRow, label: str) -> None:
        self.answers.append((session_id, question.seq, label))

    async def refuse(self, to: Address, message_id: str, text: str) -> None:
        self.said.append((to, text))

    async def tell_usage(self, to: Address, message_id: str, agent_groups: Sequence[str]) -> None:
        self.asked_for_usage.append((message_id, len(agent_groups)))

    async def route(self, *messages: InboundMessage) -> list[Any]:
        """Accept and route them; return what became of each."""
        for each in messages:
            await self.router.journal.accept(each)
        expected = len(self.told) + len(await self.router.journal.unrouted())
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                await tasks.start(lambda task_status: self.router.run(task_status))
                while len(self.told) < expected:  # noqa: ASYNC110  # nobody announces it
                    await anyio.sleep(0.001)
                tasks.cancel_scope.cancel()
        return [event.data["outcome"] for event in self.told]


def wire_elsewhere(connection: Connection, now: float) -> None:
    agent = agents.main_agent_group(connection)
    assert agent is not None
    group = chats.ensure_messaging_group(
        connection, channel="fake", account="", chat=ELSEWHERE.chat, name="", is_group=False, now=now
    )
    wire = partial(chats.wire, connection, messaging_group_id=group.id, agent_group_id=agent.id, now=now)
    wire(engage_mode=EngageMode.PATTERN, pattern=".")
