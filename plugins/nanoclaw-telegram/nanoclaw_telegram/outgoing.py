"""What the host sends: texts, files, edits and reactions."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Final, Protocol

import telegram
from telegram import InlineKeyboardMarkup, LinkPreviewOptions, ReplyParameters
from telegram.constants import ReactionEmoji
from telegram.error import BadRequest

from nanoclaw_core import Address, OutboundMessage, Receipt, Refused
from nanoclaw_telegram.ids import Place, chat_of
from nanoclaw_telegram.line import Bot
from nanoclaw_telegram.uploads import send_files
from nanoclaw_telegram.words import CAPTION, Words, render

NO_PREVIEW: Final = LinkPreviewOptions(is_disabled=True)
_VARIATION: Final = "\ufe0f"
_LOST: Final = ("message to edit not found", "can't be edited", "message_id_invalid")


class Call(Protocol):
    """How everything here reaches a chat: when it is the turn of `count` messages there, with errors in NanoClaw's words.

    With `repeatable`, doubt about what was done is a reason to do it again.
    """

    def __call__(self, to: Address, *, count: int = 1, repeatable: bool = False) -> AbstractAsyncContextManager[Bot]: ...


class Outgoing:
    """Sends in the name of one bot. A file has at most `largest` bytes."""

    def __init__(self, call: Call, place: Place, largest: int) -> None:
        self._call = call
        self._place = place
        self._largest = largest

    async def send(self, message: OutboundMessage, buttons: InlineKeyboardMarkup | None = None) -> Receipt:
        """Send the files with the text as their caption, or else the text, in the place of its preview."""
        if message.files:
            first, *rest = await self._send_files(message)
            return Receipt(message_id=first, others=tuple(rest))
        return Receipt(message_id=await self._send_text(message, buttons))

    async def edit(self, to: Address, message_id: str, text: str) -> None:
        changed = self._place.number(message_id)
        async with self._call(to, repeatable=True) as bot:
            if not await rewrite(bot, to, changed, render(text), text):
                raise Refused("Telegram lets the bot change this message no more")

    async def react(self, to: Address, message_id: str, emoji: str) -> None:
        chat, message = chat_of(to)[0], self._place.number(message_id)
        sign = emoji.replace(_VARIATION, "")
        if sign and sign not in {known.replace(_VARIATION, "") for known in ReactionEmoji}:
            raise Refused(f"bots cannot react with {emoji} on Telegram, only with {' '.join(ReactionEmoji)}")
        async with self._call(to, repeatable=True) as bot:
            await bot.set_message_reaction(chat, message, sign or None)

    async def _send_text(self, message: OutboundMessage, buttons: InlineKeyboardMarkup | None) -> str:
        words = render(message.text)
        if message.replaces is not None:
            preview = self._place.number(message.replaces)
            async with self._call(message.to, repeatable=True) as bot:
                if await rewrite(bot, message.to, preview, words, message.text, buttons):
                    return message.replaces
        async with self._call(message.to) as bot:
            sent = await say(bot, message.to, words, message.text, self._place.reply(message.reply_to), buttons)
        return self._place.name(sent.message_id)

    async def _send_files(self, message: OutboundMessage) -> list[str]:
        if message.replaces is not None:  # a text cannot become a picture
            async with self._call(message.to, repeatable=True) as bot:
                await remove(bot, message.to, self._place.number(message.replaces))
        async with self._call(message.to, count=len(message.files)) as bot:
            reply = self._place.reply(message.reply_to)
            caption, plain = render(message.text, CAPTION), Words(text=message.text)
            try:
                sent = await send_files(bot, message, caption, reply, self._largest)
            except BadRequest as error:
                if not caption.entities or "entit" not in error.message.lower():
                    raise
                sent = await send_files(bot, message, plain, reply, self._largest)
        return [self._place.name(each.message_id) for each in sent]


async def say(
    bot: Bot,
    to: Address,
    words: Words,
    plain: str,
    reply: ReplyParameters | None = None,
    buttons: InlineKeyboardMarkup | None = None,
) -> telegram.Message:
    """Send `words`; `plain` where Telegram does not take them."""
    chat, thread = chat_of(to)
    try:
        return await bot.send_message(
            chat,
            words.text,
            entities=words.entities,
            message_thread_id=thread,
            reply_parameters=reply,
            reply_markup=buttons,
            link_preview_options=NO_PREVIEW,
        )
    except BadRequest:
        if words.text == plain and not words.entities:
            raise
    return await say(bot, to, Words(text=plain), plain, reply, buttons)


async def rewrite(
    bot: Bot, to: Address, message_id: int, words: Words, plain: str, buttons: InlineKeyboardMarkup | None = None
) -> bool:
    """Give a message of the bot's another text; False when Telegram does not let it."""
    chat, _ = chat_of(to)
    try:
        await bot.edit_message_text(
            words.text,
            chat,
            message_id,
            entities=words.entities,
            reply_markup=buttons,
            link_preview_options=NO_PREVIEW,
        )
    except BadRequest as error:
        reason = error.message.lower()
        if "not modified" in reason:
            return True
        if any(sign in reason for sign in _LOST):
            return False
        if words.text == plain and not words.entities:
            raise
        return await rewrite(bot, to, message_id, Words(text=plain), plain, buttons)
    return True


async def remove(bot: Bot, to: Address, message_id: int) -> None:
    """Take a message of the bot's away; one that is gone already is fine."""
    chat, _ = chat_of(to)
    try:
        await bot.delete_message(chat, message_id)
    except BadRequest as error:
        if "not found" not in error.message.lower():
            raise
