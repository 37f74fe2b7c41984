"""How messages and places in the stream of updates are called: by Telegram's own numbers, told apart where those repeat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from telegram import ReplyParameters

from nanoclaw_core import Address, Refused

CHANNEL: Final = "telegram"


@dataclass(slots=True, kw_only=True)
class Place:
    """How far this bot's updates have been taken: those before `offset` were stored; None before the first.

    Each bot numbers updates and messages for itself. `era` counts the bots that this channel has had, so that a message of
    another bot is not taken for one that is known.

    >>> place = Place.of("123:1001:0", bot_id=123)
    >>> place.cursor(1007)
    '123:1008:0'
    >>> Place.of("123:1001:0", bot_id=456)
    Place(bot_id=456, offset=None, era=1)
    """

    bot_id: int
    offset: int | None = None
    era: int = 0

    @classmethod
    def of(cls, cursor: str | None, bot_id: int) -> Place:
        """The place that `cursor` says, seen by the bot `bot_id`."""
        if cursor is None:
            return cls(bot_id=bot_id)
        known, offset, era = map(int, cursor.split(":"))
        return cls(bot_id=bot_id, offset=offset, era=era) if known == bot_id else cls(bot_id=bot_id, era=era + 1)

    def cursor(self, update_id: int) -> str:
        """What to store with the update `update_id`."""
        return f"{self.bot_id}:{update_id + 1}:{self.era}"

    def name(self, message_id: int, mark: str = "") -> str:
        """What the host calls a message, or what happened to it with `mark`.

        >>> [Place(bot_id=1).name(7), Place(bot_id=1, era=2).name(7, "edit1001")]
        ['7', '7.bot2.edit1001']
        """
        return ".".join([str(message_id), *self._bot, *([mark] if mark else [])])

    def number(self, name: str) -> int:
        """The number of the message that is called so, or to which that happened.

        >>> Place(bot_id=1).number("7.edit1001")
        7

        Raises:
            Refused: no message of this bot's is called so.
        """
        digits, *marks = name.split(".")
        if not digits.isdecimal() or [mark for mark in marks if mark.startswith("bot")] != self._bot:
            raise Refused(f"this bot knows no message {name!r}")
        return int(digits)

    def reply(self, name: str | None) -> ReplyParameters | None:
        """To answer the message that is called so, or nothing if it is gone by then, or was another bot's."""
        try:
            return None if name is None else ReplyParameters(self.number(name), allow_sending_without_reply=True)
        except Refused:
            return None

    @property
    def _bot(self) -> list[str]:
        return [f"bot{self.era}"] if self.era else []


def chat_of(address: Address) -> tuple[int, int | None]:
    """The chat and the thread of an address, as the Bot API calls them.

    Raises:
        Refused: Telegram has no such chat.
    """
    try:
        return int(address.chat), int(address.thread) if address.thread else None
    except ValueError as error:
        raise Refused(f"no chat on Telegram is called {address.chat!r}") from error
