"""The actions with which an agent speaks to people before, or besides, its answer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Final

import msgspec

from nanoclaw_core.builtins.emoji import emoji_of
from nanoclaw_core.errors import ActionRefused
from nanoclaw_core.filenames import clean_name, media_type
from nanoclaw_core.hookspecs import hookimpl
from nanoclaw_core.models import UploadedFile
from nanoclaw_core.ports import Action, ActionCall

_LONGEST: Final = 100_000  # characters
_To = Annotated[str | None, msgspec.Meta(description="The name of a chat; left out: the chat that you are answering.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class SendMessage:
    """What to say, and to whom."""

    text: Annotated[str, msgspec.Meta(description="The message, as Markdown.", max_length=_LONGEST)]
    to: _To = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SendFile:
    """Which file, and what to say of it."""

    path: Annotated[UploadedFile, msgspec.Meta(description="The file, relative to /workspace or absolute.")]
    text: Annotated[str, msgspec.Meta(description="What is said of it, as Markdown.", max_length=_LONGEST)] = ""
    name: Annotated[str | None, msgspec.Meta(description="What people see it called; left out: as it is called.")] = None
    to: _To = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EditMessage:
    """Which message, and its new text."""

    message_id: Annotated[str, msgspec.Meta(description="The id that you were told when you sent it, such as s12.")]
    text: Annotated[str, msgspec.Meta(description="The whole new text, as Markdown.", max_length=_LONGEST)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AddReaction:
    """To which message, and with what."""

    message_id: Annotated[str, msgspec.Meta(description="The `id` of a `<message>`.")]
    emoji: Annotated[str, msgspec.Meta(description="One emoji, or a name such as thumbs_up.", max_length=40)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AskUser:
    """What to ask, and what can be answered."""

    question: Annotated[str, msgspec.Meta(description="The question, as Markdown.", max_length=2000)]
    options: Annotated[
        tuple[str, ...], msgspec.Meta(description="Labels of buttons, 60 characters each.", min_length=2, max_length=10)
    ]
    to: _To = None


@hookimpl
def nanoclaw_actions() -> Iterable[Action[Any]]:
    return [
        Action(
            name="send_message",
            description="Send a message at once, while you go on working. Your final answer is sent anyway: do not repeat it.",
            parameters=SendMessage,
            handler=send_message,
            idempotent=True,
        ),
        Action(
            name="send_file",
            description="Send a file of yours to a chat at once.",
            parameters=SendFile,
            handler=send_file,
            idempotent=True,
        ),
        Action(
            name="edit_message",
            description="Change the text of a message that you sent with a tool.",
            parameters=EditMessage,
            handler=edit_message,
            idempotent=True,
        ),
        Action(
            name="add_reaction",
            description="React to a message with an emoji. It takes the place of your earlier one.",
            parameters=AddReaction,
            handler=add_reaction,
            idempotent=True,
        ),
        Action(
            name="ask_user",
            description="Ask a question with buttons. Returns at once; the answer arrives later, as a message.",
            parameters=AskUser,
            handler=ask_user,
            idempotent=True,
        ),
    ]


async def send_message(call: ActionCall, parameters: SendMessage) -> str:
    """Raises:
    ActionRefused: nothing to say, or nobody of that name.
    """
    if not parameters.text.strip():
        raise ActionRefused("The text is empty. Nothing was sent.")
    sent = await call.host.send(parameters.text, parameters.to)
    return f"Message sent to {sent.to} (id {sent.id})."


async def send_file(call: ActionCall, parameters: SendFile) -> str:
    """Raises:
    ActionRefused: nobody of that name, or no files there, or none so large.
    """
    name = parameters.path.name if parameters.name is None else clean_name(parameters.name)
    file = replace(parameters.path, name=name, media_type=media_type(name))
    sent = await call.host.send(parameters.text, parameters.to, files=[file])
    return f"{name} sent to {sent.to} (id {sent.id})."


async def edit_message(call: ActionCall, parameters: EditMessage) -> str:
    """Raises:
    ActionRefused: no message of the agent's, or it cannot be changed.
    """
    sent = await call.host.edit(parameters.message_id, parameters.text)
    return f"The message {sent.id} in {sent.to} gets the new text."


async def add_reaction(call: ActionCall, parameters: AddReaction) -> str:
    """Raises:
    ActionRefused: no emoji, no such message, or no reactions there.
    """
    emoji = emoji_of(parameters.emoji)
    return f"{emoji} is put under the message {parameters.message_id} in {await call.host.react(parameters.message_id, emoji)}."


async def ask_user(call: ActionCall, parameters: AskUser) -> str:
    """Raises:
    ActionRefused: no question, options that cannot be buttons, or nobody of that name.
    """
    sent = await call.host.ask(parameters.question, parameters.options, parameters.to)
    return f"Asked in {sent.to} (id {sent.id}). The answer arrives as a message; end your turn if you need it."
