"""What a message holds, whatever its kind, as a text that an agent can read and files that can be fetched."""

from __future__ import annotations

from collections.abc import Iterator

import telegram
from telegram import Message, MessageOriginChannel, MessageOriginChat, MessageOriginHiddenUser, MessageOriginUser

from nanoclaw_core import FileKind, InboundFile


def text_of(message: Message) -> str:
    """The text or caption, with a line for what is neither text nor file; empty where there is none of it.

    A forwarded message says so first: these are not the words of who sent it.
    """
    origin = _origin(message)
    lines = [origin and f"[forwarded from {origin}]", *_things(message), message.text or message.caption or ""]
    return "\n".join(filter(None, lines))


def files_of(message: Message) -> tuple[InboundFile, ...]:
    """The files of a message, each by its `file_id`, which stays valid for the bot that received it."""
    return tuple(_files(message))


def _things(message: Message) -> Iterator[str]:
    """Each thing that is neither text nor file, in one paragraph."""
    if message.venue:
        venue = message.venue
        yield f"[place: {venue.title}, {venue.address} ({_spot(venue.location)})]"
    elif message.location:
        live = ", live" if "live_period" in message.location.to_dict() else ""  # its own attribute warns of its type
        yield f"[location: {_spot(message.location)}{live}]"
    if message.contact:
        contact = message.contact
        yield f"[contact: {_full_name(contact.first_name, contact.last_name)}, {contact.phone_number}]"
    if message.poll:
        options = "".join(f"\n- {option.text}" for option in message.poll.options)
        yield f"[poll: {message.poll.question}]{options}"
    if message.dice:
        yield f"[{message.dice.emoji} {message.dice.value}]"
    if message.sticker:
        yield f"[sticker {message.sticker.emoji or ''}]".replace(" ]", "]")
    yield from _rare_things(message)


def _rare_things(message: Message) -> Iterator[str]:
    if message.checklist:
        tasks = "".join(f"\n- [{'x' if task.completion_date else ' '}] {task.text}" for task in message.checklist.tasks)
        yield f"[checklist: {message.checklist.title}]{tasks}"
    if message.story:
        yield f"[a story of {message.story.chat.effective_name}, which bots cannot see]"
    if message.paid_media:
        yield "[paid media, which bots cannot see]"
    if message.game:
        yield f"[game: {message.game.title}]"
    if message.invoice:
        yield f"[invoice: {message.invoice.title}]"
    if message.giveaway:
        yield "[a giveaway]"


def _spot(location: telegram.Location) -> str:
    return f"{location.latitude:.6f}, {location.longitude:.6f}"


def _files(message: Message) -> Iterator[InboundFile]:
    number = message.message_id
    if message.photo:
        largest = max(message.photo, key=lambda size: size.width * size.height)
        yield _file(largest, f"photo-{number}.jpg", FileKind.PHOTO, "image/jpeg")
    if message.live_photo:
        yield _file(message.live_photo, f"live-photo-{number}.mp4", FileKind.VIDEO, "video/mp4")
    if message.video:
        yield _file(message.video, message.video.file_name or f"video-{number}.mp4", FileKind.VIDEO, "video/mp4")
    if message.video_note:
        yield _file(message.video_note, f"video-note-{number}.mp4", FileKind.VIDEO, "video/mp4")
    if message.animation:
        yield _file(message.animation, message.animation.file_name or f"animation-{number}.mp4", FileKind.VIDEO, "video/mp4")
    elif message.document:  # an animation comes as a document as well
        yield _file(message.document, message.document.file_name or f"file-{number}", FileKind.FILE, "")
    if message.voice:
        yield _file(message.voice, f"voice-{number}.ogg", FileKind.VOICE, "audio/ogg")
    if message.audio:
        yield _file(message.audio, message.audio.file_name or f"audio-{number}.mp3", FileKind.AUDIO, "audio/mpeg")
    if message.sticker:
        ending = "tgs" if message.sticker.is_animated else "webm" if message.sticker.is_video else "webp"
        yield _file(message.sticker, f"sticker-{number}.{ending}", FileKind.STICKER, "")


_Media = (
    telegram.PhotoSize
    | telegram.LivePhoto
    | telegram.Video
    | telegram.VideoNote
    | telegram.Animation
    | telegram.Document
    | telegram.Voice
    | telegram.Audio
    | telegram.Sticker
)


def _file(media: _Media, name: str, kind: FileKind, media_type: str) -> InboundFile:
    stated = getattr(media, "mime_type", None) or media_type
    return InboundFile(name=name, reference=media.file_id, kind=kind, media_type=stated, size=media.file_size)


def _origin(message: Message) -> str:
    """Whose words a forwarded message holds; '' for one that is not forwarded."""
    match message.forward_origin:
        case None:
            return ""
        case MessageOriginUser(sender_user=user):
            return user.full_name
        case MessageOriginHiddenUser(sender_user_name=name):
            return name
        case MessageOriginChat(sender_chat=chat) | MessageOriginChannel(chat=chat):
            return chat.effective_name or "a chat"
    return "somebody"


def _full_name(first: str, last: str | None) -> str:
    return f"{first} {last}" if last else first
