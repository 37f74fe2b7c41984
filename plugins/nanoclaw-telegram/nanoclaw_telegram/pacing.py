"""How fast a bot may speak: about one message per second in a chat, twenty per minute in a group, thirty per second in all.

After https://core.telegram.org/bots/faq#my-bot-is-hitting-limits-how-do-i-avoid-this. A pause that Telegram asks for concerns
one chat, so that no other waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nanoclaw_core import Clock, TryLater

#: Who would have to wait for longer is told to come again, in seconds.
_LONGEST: Final = 15.0
_MOST_CHATS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """One message each `interval` seconds, and `burst` of them at once after a silence."""

    interval: float
    burst: int


_PRIVATE: Final = Rate(interval=1.0, burst=5)
_GROUP: Final = Rate(interval=3.0, burst=15)
_ALL: Final = Rate(interval=0.04, burst=20)


class Pace:
    """The turns of one bot's messages. Chats are called by their ids; those of groups are negative."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._due: dict[str, float] = {}  # when the burst of each would be spent without a pause

    def has_room(self, chat: str) -> bool:
        """Whether a message could go out at once with others to spare: previews take nothing from answers."""
        return all(self._wait(name, spare=_rate(name).burst // 3) <= 0 for name in (chat, ""))

    def take(self, chat: str, count: int = 1) -> float:
        """Count `count` messages; return the seconds to wait before they go out."""
        wait = max(self._wait(chat), self._wait(""))
        if wait <= _LONGEST:
            for name in (chat, ""):
                rate = _rate(name)
                self._due[name] = max(self._due.get(name, 0.0), self._clock.monotonic()) + rate.interval * count
            self._forget()
        return wait

    async def turn(self, chat: str, count: int = 1) -> None:
        """Wait until `count` messages may go to `chat`.

        Raises:
            TryLater: that would take too long.
        """
        wait = self.take(chat, count)
        if wait > _LONGEST:
            raise TryLater("too much was said in this chat in a short time", wait)
        if wait > 0:
            await self._clock.sleep(wait)

    def hold(self, chat: str, seconds: float) -> None:
        """Telegram asked for a pause in `chat`."""
        rate = _rate(chat)
        self._due[chat] = self._clock.monotonic() + seconds + rate.interval * (rate.burst - 1)
        self._forget()

    def _wait(self, chat: str, spare: int = 0) -> float:
        rate = _rate(chat)
        return self._due.get(chat, 0.0) - rate.interval * (rate.burst - 1 - spare) - self._clock.monotonic()

    def _forget(self) -> None:
        if len(self._due) > _MOST_CHATS:
            now = self._clock.monotonic()
            self._due = {chat: due for chat, due in self._due.items() if due > now}


def _rate(chat: str) -> Rate:
    if not chat:
        return _ALL
    return _GROUP if chat.startswith("-") else _PRIVATE
