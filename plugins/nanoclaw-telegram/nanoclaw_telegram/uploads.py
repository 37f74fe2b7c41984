"""Files to people: alone as what they are, several as an album."""

from __future__ import annotations

import mimetypes
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any, Final, Literal

import anyio
import telegram
from telegram import InputFile, InputMediaAudio, InputMediaDocument, InputMediaPhoto, InputMediaVideo, ReplyParameters
from telegram.error import BadRequest

from nanoclaw_core import OutboundFile, OutboundMessage, Refused
from nanoclaw_telegram.ids import chat_of
from nanoclaw_telegram.line import Bot
from nanoclaw_telegram.words import Words

#: How many files Telegram shows as one album.
MOST_FILES: Final = 10
_LARGEST_PHOTO: Final = 10_000_000

Kind = Literal["photo", "video", "animation", "audio", "voice", "document"]

_KINDS: Final[dict[str, Kind]] = {
    "image/jpeg": "photo",
    "image/png": "photo",
    "image/webp": "photo",
    "image/gif": "animation",
    "video/mp4": "video",
    "audio/mpeg": "audio",
    "audio/mp4": "audio",
    "audio/x-m4a": "audio",
    "audio/ogg": "voice",
}
_ALBUM: Final = {
    "photo": InputMediaPhoto,
    "video": InputMediaVideo,
    "audio": InputMediaAudio,
    "document": InputMediaDocument,
}


def kind_of(file: OutboundFile) -> Kind:
    """What Telegram shows `file` as."""
    media_type = file.media_type or mimetypes.guess_type(file.name)[0] or ""
    kind = _KINDS.get(media_type.partition(";")[0].strip().lower(), "document")
    return "document" if kind == "photo" and file.size > _LARGEST_PHOTO else kind


async def send_files(
    bot: Bot, message: OutboundMessage, caption: Words, reply: ReplyParameters | None, largest: int
) -> Sequence[telegram.Message]:
    """Send the files of `message` in one call.

    Raises:
        Refused: one of them is empty, larger than `largest`, or cannot be read.
    """
    for file in message.files:
        _check(file, largest)
    chat, thread = chat_of(message.to)
    place: dict[str, Any] = {"chat_id": chat, "message_thread_id": thread, "reply_parameters": reply}
    if len(message.files) == 1:
        return [await _send_one(bot, message.files[0], caption, place)]
    kinds = {kind_of(file) for file in message.files}
    if not (kinds <= {"photo", "video"} or kinds == {"audio"}):
        kinds = {"document"}  # the one kind that every file can be
    async with AsyncExitStack() as stack:
        album = []
        for position, file in enumerate(message.files):
            kind = "document" if kinds == {"document"} else kind_of(file)
            words = caption if position == 0 else Words(text="")
            media = await _opened(stack, file, attach=True)
            album.append(_ALBUM[kind](media, caption=words.text or None, caption_entities=words.entities))
        return await bot.send_media_group(media=album, **place)


async def _send_one(bot: Bot, file: OutboundFile, caption: Words, place: dict[str, Any]) -> telegram.Message:
    kind = kind_of(file)
    try:
        return await _send_as(kind, bot, file, caption, place)
    except BadRequest:
        if kind == "document":
            raise
    return await _send_as("document", bot, file, caption, place)  # a picture of odd proportions, a broken film


async def _send_as(kind: Kind, bot: Bot, file: OutboundFile, caption: Words, place: dict[str, Any]) -> telegram.Message:
    async with AsyncExitStack() as stack:
        more = {kind: await _opened(stack, file), "caption": caption.text or None, "caption_entities": caption.entities}
        sent: telegram.Message = await getattr(bot, f"send_{kind}")(**place, **more)
        return sent


async def _opened(stack: AsyncExitStack, file: OutboundFile, *, attach: bool = False) -> InputFile:
    try:
        opened = await stack.enter_async_context(await anyio.open_file(file.path, "rb"))
    except OSError as error:
        raise Refused(f"the file {file.name} cannot be read: {error.strerror}") from error
    return InputFile(opened.wrapped, filename=file.name, attach=attach, read_file_handle=False)


def _check(file: OutboundFile, largest: int) -> None:
    if file.size == 0:
        raise Refused(f"the file {file.name} is empty, and Telegram takes no empty files")
    if file.size > largest:
        raise Refused(f"the file {file.name} has {file.size / 1e6:.0f} MB, and bots may send {largest / 1e6:.0f} MB")
