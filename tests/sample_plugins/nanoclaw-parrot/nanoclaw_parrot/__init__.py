"""A channel that repeats what it hears, an action that rolls a die, and a count of what happened."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
import msgspec
from anyio.abc import TaskStatus

from nanoclaw_core import (
    Action,
    ActionCall,
    Capabilities,
    ChannelFactory,
    Event,
    OutboundMessage,
    Receipt,
    Receive,
    hookimpl,
)

heard: Counter[str] = Counter()


class Parrot:
    """A bird without a network: what is sent to it is kept in `said`."""

    capabilities = Capabilities(max_length=280)

    def __init__(self) -> None:
        self.said: list[str] = []

    async def run(self, receive: Receive, *, task_status: TaskStatus[None]) -> None:
        task_status.started()
        await anyio.sleep_forever()

    async def send(self, message: OutboundMessage) -> Receipt:
        self.said.append(message.text)
        return Receipt(message_id=message.key)


@dataclass(frozen=True, kw_only=True)
class RollDice:
    sides: Annotated[int, msgspec.Meta(ge=2, le=100, description="How many sides the die has")] = 6


async def roll(call: ActionCall, parameters: RollDice) -> str:
    return f"You rolled a {secrets.randbelow(parameters.sides) + 1}."


@hookimpl
def nanoclaw_channels() -> Iterable[ChannelFactory]:
    return [ChannelFactory(name="parrot", summary="Says it again", create=lambda context: Parrot())]


@hookimpl
def nanoclaw_actions() -> Iterable[Action[Any]]:
    return [Action(name="roll_dice", description="Roll one die.", parameters=RollDice, handler=roll)]


@hookimpl
def nanoclaw_event(event: Event) -> None:
    heard[event.name] += 1
