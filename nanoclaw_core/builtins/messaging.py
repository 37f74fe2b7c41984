"""The action with which an agent writes to a chat before, or besides, its answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

from nanoclaw_core.errors import ActionRefused
from nanoclaw_core.hookspecs import hookimpl
from nanoclaw_core.ports import Action, ActionCall


@dataclass(frozen=True, slots=True, kw_only=True)
class SendMessage:
    """What to say, and to whom."""

    text: Annotated[str, msgspec.Meta(description="The message, as Markdown.", max_length=100_000)]
    to: Annotated[str | None, msgspec.Meta(description="The name of a chat; left out: the chat that you are answering.")] = None


@hookimpl
def nanoclaw_actions() -> Iterable[Action[Any]]:
    return [
        Action(
            name="send_message",
            description="Send a message at once, while you go on working. Your final answer is sent anyway: do not repeat it.",
            parameters=SendMessage,
            handler=send_message,
            idempotent=True,
        )
    ]


async def send_message(call: ActionCall, parameters: SendMessage) -> str:
    """Raises:
    ActionRefused: nothing to say, or nobody of that name.
    """
    if not parameters.text.strip():
        raise ActionRefused("The text is empty. Nothing was sent.")
    return f"Message sent to {await call.host.send(parameters.text, parameters.to)}."
