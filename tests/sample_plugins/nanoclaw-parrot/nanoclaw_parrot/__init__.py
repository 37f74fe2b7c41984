"""A channel whose platform is a folder, an action that rolls a die, and a count of what happened."""

from __future__ import annotations

import json
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
import msgspec
from anyio.abc import TaskStatus

from nanoclaw_core import (
    Action,
    ActionCall,
    Address,
    Capabilities,
    ChannelContext,
    ChannelFactory,
    CredentialRefused,
    Event,
    InboundMessage,
    Manifest,
    OutboundMessage,
    Receipt,
    Receive,
    Sender,
    SetupField,
    TryLater,
    hookimpl,
)

heard: Counter[str] = Counter()


class Parrot:
    """A bird without a network. What is put into its cage as `NAME.json` is a message; what it is told stands in `said`.

    Such a file holds chat, sender, text and, for a group, is_group. Without a cage it hears nothing.
    """

    capabilities = Capabilities(max_length=280)

    def __init__(self, cage: str = "") -> None:
        self.cage = anyio.Path(cage) if cage else None
        self.said: list[str] = []

    async def run(self, receive: Receive, *, task_status: TaskStatus[None]) -> None:
        task_status.started()
        if self.cage is None:
            await anyio.sleep_forever()
            return
        while True:
            for file in sorted([file async for file in self.cage.glob("*.json")]):
                await receive(_message(file.stem, json.loads(await file.read_text())))
                await file.unlink()
            await anyio.sleep(0.05)

    async def send(self, message: OutboundMessage) -> Receipt:
        self.said.append(message.text)
        if self.cage is not None:
            async with await (self.cage / "said").open("a") as said:
                await said.write(f"{message.to.chat}: {message.text}\n")
        return Receipt(message_id=message.key)


def _message(name: str, it: Mapping[str, Any]) -> InboundMessage:  # Any: JSON
    return InboundMessage(
        address=Address(channel="parrot", chat=it["chat"]),
        message_id=name,
        sender=Sender(handle=it["sender"], name=it["sender"].title()),
        text=it["text"],
        sent_at=0.0,
        is_group=it.get("is_group", False),
    )


MANIFEST = Manifest(
    fields=(
        SetupField(
            variable="PARROT_TOKEN",
            label="The parrot's token",
            where="It is engraved on the ring around its left leg.",
            pattern=r"polly-[0-9]{4,}",
            form="polly- and four digits or more",
        ),
        SetupField(variable="PARROT_CAGE", label="Its cage", secret=False, required=False, help="A folder."),
        SetupField(variable="PARROT_FOOD", label="What it eats", secret=False, default="nuts"),
    ),
    steps=("Buy a parrot.", "Read the token on its ring."),
    pairs=True,
    homepage="https://parrots.example.com",
)


async def check(values: Mapping[str, str]) -> str:
    """Ends with 0: a stolen bird. Ends with 9: it sleeps. Ends with 8: a bug, which shows the token."""
    token = values["PARROT_TOKEN"]
    if token.endswith("0"):
        raise CredentialRefused(f"The parrot does not answer to {token}.")
    if token.endswith("9"):
        raise TryLater(f"the parrot {token} sleeps")
    if token.endswith("8"):
        raise RuntimeError(f"no parrot at /bot{token}/whoami")
    return f"@polly, which eats {values['PARROT_FOOD']}"


def create(context: ChannelContext) -> Parrot:
    return Parrot(context.settings.get("PARROT_CAGE", ""))


@dataclass(frozen=True, kw_only=True)
class RollDice:
    sides: Annotated[int, msgspec.Meta(ge=2, le=100, description="How many sides the die has")] = 6


async def roll(call: ActionCall, parameters: RollDice) -> str:
    return f"You rolled a {secrets.randbelow(parameters.sides) + 1}."


@hookimpl
def nanoclaw_channels() -> Iterable[ChannelFactory]:
    return [ChannelFactory(name="parrot", summary="Says it again", create=create, manifest=MANIFEST, check=check)]


@hookimpl
def nanoclaw_actions() -> Iterable[Action[Any]]:
    return [Action(name="roll_dice", description="Roll one die.", parameters=RollDice, handler=roll)]


@hookimpl
def nanoclaw_event(event: Event) -> None:
    heard[event.name] += 1
