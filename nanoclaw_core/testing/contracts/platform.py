"""The platform's end of a channel under test: a stand-in for its servers that the contract drives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A message of the channel's as people see it now. `files` are names with contents, `buttons` labels."""

    id: str
    text: str
    chat: str = ""
    thread: str | None = None
    reply_to: str | None = None
    files: tuple[tuple[str, bytes], ...] = ()
    buttons: tuple[str, ...] = ()


class Trouble(StrEnum):
    """What happens to the next message that the channel sends."""

    ERROR = "error"  # the server says that it failed, and shows nothing
    CUT_BEFORE = "cut before"  # the connection breaks before the message is read
    CUT_AFTER = "cut after"  # the message is shown, and the connection breaks before the channel hears of it


class Platform:
    """Inherit, and override what your platform has. The first three are needed; what is left out counts as not claimed.

    There is one private chat with one person, whose id is `chat`, and where there are groups one of those. Methods that let
    something happen return once it has happened on the platform; the channel may hear of it later.
    """

    chat = "chat-1"

    @property
    def messages(self) -> Sequence[Shown]:
        """What the channel has sent, oldest first, as people see it now: edited, with what was taken away gone."""
        raise NotImplementedError

    async def say(self, text: str, *, message_id: str | None = None) -> str:
        """Let the person write in the private chat; return the message's id. The same id again is the same message again."""
        raise NotImplementedError

    def present(self) -> AbstractAsyncContextManager[None]:
        """The person is there in this block, which is entered when the channel has begun to run.

        Only for platforms on which nobody can be written to who is not there, such as those that people connect to.
        """
        return nullcontext()

    @property
    def typings(self) -> int:
        """How often it was shown that somebody is typing."""
        raise NotImplementedError

    @property
    def reactions(self) -> Mapping[str, str]:
        """The channel's emoji under messages, by the messages' ids."""
        raise NotImplementedError

    async def say_in_group(self, text: str, *, mention: bool) -> str:
        """Let somebody write in a group, to the bot or to others."""
        raise NotImplementedError

    async def say_in_thread(self, text: str, thread: str) -> str:
        """Let the person write in a thread that has this id, which is made if it is not there."""
        raise NotImplementedError

    async def reply(self, text: str, to: str) -> str:
        """Let the person answer the message `to`."""
        raise NotImplementedError

    async def send_file(self, name: str, content: bytes, text: str = "") -> str:
        """Let the person send a file."""
        raise NotImplementedError

    async def edit(self, message_id: str, text: str) -> None:
        """Let the person change what they wrote."""
        raise NotImplementedError

    async def react(self, message_id: str, emoji: str) -> None:
        """Let the person put an emoji under a message."""
        raise NotImplementedError

    async def press(self, message_id: str, label: str) -> None:
        """Let the person press a button, also one that is not shown any more."""
        raise NotImplementedError

    async def echo(self, text: str) -> str:
        """Let the platform hand a message of the bot's own account to the channel, as one written from another device."""
        raise NotImplementedError

    async def limit(self, seconds: float) -> None:
        """Refuse the next message because there were too many, and ask for a pause."""
        raise NotImplementedError

    async def trouble(self, kind: Trouble) -> None:
        """Let the next message meet with trouble."""
        raise NotImplementedError

    async def disconnect(self) -> None:
        """Break every connection with the channel. New ones are accepted."""
        raise NotImplementedError

    async def remove(self) -> None:
        """Take the bot out of the private chat, or block it there."""
        raise NotImplementedError

    async def revoke(self) -> None:
        """Take the channel's credential no more."""
        raise NotImplementedError

    def can(self, *names: str) -> bool:
        """Whether all of these are overridden."""
        return all(getattr(type(self), name) is not getattr(Platform, name) for name in names)
