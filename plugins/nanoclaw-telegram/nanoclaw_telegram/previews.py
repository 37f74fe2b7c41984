"""The beginning of an answer, shown while it is being written.

In a private chat as Telegram's own draft, which goes by itself; elsewhere as a message that is edited, and at last by the
answer itself.
"""

from __future__ import annotations

import zlib
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from nanoclaw_core import Address, Clock, OutcomeUnknown, Refused
from nanoclaw_telegram.ids import Place, chat_of
from nanoclaw_telegram.outgoing import Call, remove, rewrite, say
from nanoclaw_telegram.pacing import Pace
from nanoclaw_telegram.words import render

#: Seconds between two views of the same answer.
DRAFT_INTERVAL: Final = 0.7
EDIT_INTERVAL: Final = 4.0
_MOST_PREVIEWS: Final = 100


@dataclass(slots=True)
class _Shown:
    """What was shown of one answer; `is_over` when nothing more of it will be."""

    at: float
    text: str = ""
    is_over: bool = False


class Previews:
    """What is shown of each answer, by its key."""

    def __init__(self, call: Call, place: Place, pace: Pace, clock: Clock) -> None:
        self._call = call
        self._place = place
        self._pace = pace
        self._clock = clock
        self._shown: OrderedDict[str, _Shown] = OrderedDict()
        self._undrafted: set[str] = set()  # chats in which Telegram shows no drafts

    async def draft(self, to: Address, text: str, key: str, message_id: str | None) -> str | None:
        """See `StreamingChannel`."""
        if not text:
            await self._take_away(to, message_id)
            return None
        is_private = chat_of(to)[0] > 0 and to.chat not in self._undrafted
        shown = self._due(key, text, DRAFT_INTERVAL if is_private else EDIT_INTERVAL)
        if shown is None or not self._pace.has_room(to.chat):
            return message_id
        shown.at, shown.text = self._clock.monotonic(), text
        self._pace.take(to.chat)
        if is_private:
            await self._show_draft(to, text, key)
            return message_id
        return await self._show_message(to, text, shown, message_id)

    def _due(self, key: str, text: str, interval: float) -> _Shown | None:
        """What was shown of `key`; None when it is too early for more, or there is nothing new."""
        now = self._clock.monotonic()
        shown = self._shown.setdefault(key, _Shown(at=now - interval))
        self._shown.move_to_end(key)
        if len(self._shown) > _MOST_PREVIEWS:
            self._shown.popitem(last=False)
        return None if shown.is_over or shown.text == text or now - shown.at < interval else shown

    async def _take_away(self, to: Address, message_id: str | None) -> None:
        if message_id is not None:  # a draft goes by itself
            async with self._call(to, repeatable=True) as bot:
                await remove(bot, to, self._place.number(message_id))

    async def _show_draft(self, to: Address, text: str, key: str) -> None:
        chat, thread = chat_of(to)
        words = render(text)
        try:
            async with self._call(to, repeatable=True, count=0) as bot:
                number = zlib.crc32(key.encode()) or 1
                await bot.send_message_draft(chat, number, words.text, message_thread_id=thread, entities=words.entities)
        except Refused:
            self._undrafted.add(to.chat)

    async def _show_message(self, to: Address, text: str, shown: _Shown, message_id: str | None) -> str | None:
        words = render(text)
        if message_id is not None:
            async with self._call(to, repeatable=True, count=0) as bot:
                shown.is_over = not await rewrite(bot, to, self._place.number(message_id), words, text)
            return message_id
        try:
            async with self._call(to, count=0) as bot:
                return self._place.name((await say(bot, to, words, text)).message_id)
        except OutcomeUnknown:
            shown.is_over = True  # one message that nobody will edit is enough
            raise
