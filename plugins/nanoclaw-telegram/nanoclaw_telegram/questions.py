"""Questions with buttons."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

import anyio
from telegram import InlineKeyboardButton, InlineKeyboardMarkup
from telegram.error import BadRequest

from nanoclaw_core import Address, DeliveryError, OutboundMessage, Question, Receipt
from nanoclaw_telegram.ids import Place, chat_of
from nanoclaw_telegram.outgoing import Call, Outgoing, rewrite, say
from nanoclaw_telegram.updates import Press
from nanoclaw_telegram.words import TEXT, Words, render, units

_ANSWERED: Final = "This was answered already."
_UNKNOWN: Final = "This button is not in use any more."
_MOST_QUESTIONS: Final = 500
_WIDE: Final = 12  # characters; longer labels get a line each
_PATIENCE: Final = 5.0


class Questions:
    """The questions of one bot. What they say is remembered, so that an answer can be shown under it."""

    def __init__(self, call: Call, place: Place, outgoing: Outgoing) -> None:
        self._call = call
        self._place = place
        self._outgoing = outgoing
        self._asked: OrderedDict[tuple[int, int], Words] = OrderedDict()

    async def ask(self, message: OutboundMessage, question: Question) -> Receipt:
        receipt = await self._outgoing.send(message, _buttons(question))
        self._remember(chat_of(message.to)[0], self._place.number(receipt.message_id), render(message.text))
        return receipt

    async def answered(self, to: Address, message_id: str, text: str) -> None:
        """Show `text` under the question, in place of the buttons; in a message of its own where it is not known any more."""
        chat, asked = chat_of(to)[0], self._place.number(message_id)
        words = self._asked.get((chat, asked))
        async with self._call(to, repeatable=True) as bot:
            if words is not None and units(f"{words.text}\n\n{text}") <= TEXT:
                shown = Words(text=f"{words.text}\n\n{text}", entities=words.entities)
                await rewrite(bot, to, asked, shown, shown.text)
                return
            try:
                await bot.edit_message_reply_markup(chat, asked, reply_markup=None)
            except BadRequest as error:
                if "not modified" in error.message:  # it was done, and said, before
                    return
                raise
            await say(bot, to, Words(text=text), text, self._place.reply(message_id))

    def note(self, press: Press) -> None:
        """Remember what the question under which somebody pressed says: an earlier host may have asked it."""
        if press.answer is not None and press.under.text:
            self._remember(chat_of(press.answer.address)[0], self._place.number(press.answer.message_id), press.under)

    async def pressed(self, press: Press, *, is_first: bool) -> None:
        """Tell who pressed a button that it was heard, for at most a few seconds: their app waits for that."""
        said = _UNKNOWN if press.answer is None else None if is_first else _ANSWERED
        await self.acknowledge(press.query, said, press.answer.address if press.answer else None)

    async def acknowledge(self, query: str, text: str | None, to: Address | None = None) -> None:
        with anyio.move_on_after(_PATIENCE):
            try:
                async with self._call(to or Address(channel="", chat=""), repeatable=True, count=0) as bot:
                    await bot.answer_callback_query(query, text)
            except DeliveryError:
                return  # too late for them: the sign on the button goes by itself

    def _remember(self, chat: int, message_id: int, words: Words) -> None:
        self._asked[chat, message_id] = words
        if len(self._asked) > _MOST_QUESTIONS:
            self._asked.popitem(last=False)


def _buttons(question: Question) -> InlineKeyboardMarkup:
    """The choices in one line where they are short. What a button says of itself has at most 64 bytes on Telegram."""
    buttons = [InlineKeyboardButton(choice.label, callback_data=f"{question.id}:{choice.id}") for choice in question.choices]
    is_wide = len(buttons) > 4 or any(len(choice.label) > _WIDE for choice in question.choices)
    return InlineKeyboardMarkup([[button] for button in buttons] if is_wide else [buttons])
