"""From an update of the Bot API to what the host is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import telegram
from telegram import ChatMember, Message, MessageEntity, Update

from nanoclaw_core import Address, InboundKind, InboundMessage, Quote, Sender
from nanoclaw_telegram.content import files_of, text_of
from nanoclaw_telegram.ids import CHANNEL, Place
from nanoclaw_telegram.words import Words

#: What reading an update that is not as documented may raise, in the library and here.
MALFORMED: Final = (AttributeError, IndexError, KeyError, OverflowError, OSError, RuntimeError, TypeError, ValueError)

_MENTIONS: Final[list[str | None]] = [MessageEntity.MENTION, MessageEntity.TEXT_MENTION, MessageEntity.BOT_COMMAND]
_GROUPS: Final = frozenset({"group", "supergroup", "channel"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """A group has another id now."""

    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reachable:
    """The bot may write in a chat, perhaps again."""

    chat: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Press:
    """Somebody pressed a button; Telegram shows that it is being worked on until `query` is answered.

    `answer` is None when the button is none of this channel's, and its time is not known. `under` is what the message says.
    """

    query: str
    answer: InboundMessage | None
    under: Words


Found = InboundMessage | Moved | Reachable | Press | None


class Reader:
    """Reads the updates of the bot `me`."""

    def __init__(self, me: telegram.User, place: Place) -> None:
        self._me = me
        self._place = place
        self._handle = f"@{me.username}".lower()

    def read(self, raw: Mapping[str, Any]) -> Found:  # Any: JSON that nobody has checked
        """What an update says; None where it says nothing for us.

        Raises:
            MALFORMED: it is not as documented.
        """
        update = Update.de_json(dict(raw), None)
        if message := update.message or update.channel_post:
            return self._message(message)
        if edited := update.edited_message or update.edited_channel_post:
            return self._edit(edited, update.update_id)
        if update.message_reaction:
            return self._reaction(update.message_reaction, update.update_id)
        if update.callback_query:
            return self._press(update.callback_query)
        if update.my_chat_member and _may_write(update.my_chat_member.new_chat_member):
            return Reachable(chat=str(update.my_chat_member.chat.id))
        return None

    # --- kinds ------------------------------------------------------------------------------------------------------------

    def _message(self, message: Message) -> Found:
        if message.migrate_to_chat_id:
            return Moved(old=str(message.chat.id), new=str(message.migrate_to_chat_id))
        if message.migrate_from_chat_id:
            return Moved(old=str(message.migrate_from_chat_id), new=str(message.chat.id))
        text, files = text_of(message), files_of(message)
        is_mention = self._mentions_me(message)
        if not (text or files) or (self._is_for_another(message) and not is_mention):
            return None
        return InboundMessage(
            address=self._address(message),
            message_id=self._place.name(message.message_id),
            sender=self._sender(message.from_user, message.sender_chat),
            text=text,
            sent_at=message.date.timestamp(),
            is_group=message.chat.type in _GROUPS,
            is_mention=is_mention,
            chat_name=_name(message.chat),
            reply_to=self._quote(message),
            files=files,
        )

    def _edit(self, message: Message, update_id: int) -> Found:
        if message.location or message.migrate_to_chat_id or message.migrate_from_chat_id:
            return None  # a live location moves all the time
        found = self._message(message)
        if not isinstance(found, InboundMessage):
            return None
        name = self._place.name(message.message_id, f"edit{update_id}")
        sent_at = (message.edit_date or message.date).timestamp()
        return replace(found, kind=InboundKind.EDIT, about=found.message_id, message_id=name, sent_at=sent_at)

    def _reaction(self, reaction: telegram.MessageReactionUpdated, update_id: int) -> Found:
        chat, message_id = reaction.chat, reaction.message_id
        return InboundMessage(
            address=Address(channel=CHANNEL, chat=str(chat.id)),  # Telegram does not say in which topic
            message_id=self._place.name(message_id, f"reaction{update_id}"),
            sender=self._sender(reaction.user, reaction.actor_chat),
            text=" ".join(map(_sign, reaction.new_reaction)),
            sent_at=reaction.date.timestamp(),
            is_group=chat.type in _GROUPS,
            chat_name=_name(chat),
            kind=InboundKind.REACTION,
            about=self._place.name(message_id),
        )

    def _press(self, query: telegram.CallbackQuery) -> Found:
        message = query.message
        question, colon, choice = (query.data or "").rpartition(":")
        # Of an old one, Telegram tells no more than its number, and the date 0.
        known = message if isinstance(message, Message) and message.date.timestamp() else None
        is_forged = known is not None and query.data not in _buttons(known)  # apps can say that anything was pressed
        if message is None or is_forged or not (question and colon and choice):
            return Press(query=query.id, answer=None, under=Words(text=""))
        under = Words(text=known.text or "", entities=tuple(known.entities)) if known else Words(text="")
        thread = known.message_thread_id if known and known.is_topic_message else None
        answer = InboundMessage(
            address=Address(channel=CHANNEL, chat=str(message.chat.id), thread=None if thread is None else str(thread)),
            message_id=self._place.name(message.message_id, f"press{query.id}"),
            sender=self._sender(query.from_user, None),
            text=choice,
            sent_at=0.0,
            is_group=message.chat.type in _GROUPS,
            chat_name=_name(message.chat),
            kind=InboundKind.ANSWER,
            about=question,
        )
        return Press(query=query.id, answer=answer, under=under)

    # --- parts ------------------------------------------------------------------------------------------------------------

    def _address(self, message: Message) -> Address:
        thread = message.message_thread_id if message.is_topic_message else None  # outside of forums, it names a reply
        return Address(channel=CHANNEL, chat=str(message.chat.id), thread=None if thread is None else str(thread))

    def _sender(self, user: telegram.User | None, chat: telegram.Chat | None) -> Sender:
        """Who wrote; a chat, for channels and for administrators who speak in the name of their group."""
        if chat is not None:
            return Sender(handle=str(chat.id), name=_name(chat))
        if user is None:
            return Sender(handle="unknown", name="somebody")
        return Sender(handle=str(user.id), name=user.full_name, is_own=user.id == self._me.id)

    def _quote(self, message: Message) -> Quote | None:
        original = message.reply_to_message
        if original is None and message.quote:  # of another chat
            return Quote(message_id="", text=message.quote.text)
        if original is None or original.forum_topic_created:  # what is said in a topic replies to the topic's beginning
            return None
        text = message.quote.text if message.quote else text_of(original)
        name = self._sender(original.from_user, original.sender_chat).name
        return Quote(message_id=self._place.name(original.message_id), sender_name=name, text=text)

    def _mentions_me(self, message: Message) -> bool:
        original = message.reply_to_message
        if original and original.from_user and original.from_user.id == self._me.id and not original.forum_topic_created:
            return True
        return any(self._means_me(entity, text) for entity, text in _marked(message))

    def _means_me(self, entity: MessageEntity, text: str) -> bool:
        if entity.type == MessageEntity.TEXT_MENTION:
            return entity.user is not None and entity.user.id == self._me.id
        return text.lower() == self._handle or (text.startswith("/") and text.lower().endswith(self._handle))

    def _is_for_another(self, message: Message) -> bool:
        """Whether it begins with a command that names another bot, such as `/stop@other_bot`."""
        return any(
            entity.type == MessageEntity.BOT_COMMAND and entity.offset == 0 and "@" in text and not self._means_me(entity, text)
            for entity, text in _marked(message)
        )


def together(messages: Sequence[InboundMessage]) -> InboundMessage:
    """The messages of an album as one."""
    return replace(
        messages[0],
        text="\n".join(message.text for message in messages if message.text),
        files=tuple(file for message in messages for file in message.files),
        is_mention=any(message.is_mention for message in messages),
    )


def _marked(message: Message) -> list[tuple[MessageEntity, str]]:
    """The mentions and commands in a text or caption."""
    found = message.parse_entities(_MENTIONS) if message.text else {}
    return [*found.items(), *(message.parse_caption_entities(_MENTIONS) if message.caption else {}).items()]


def _buttons(message: Message) -> set[object]:
    """What the buttons under a message say of themselves."""
    rows = message.reply_markup.inline_keyboard if message.reply_markup else ()
    return {button.callback_data for row in rows for button in row}


def _name(chat: telegram.Chat) -> str:
    return chat.effective_name or ""


def _sign(reaction: telegram.ReactionType) -> str:
    match reaction:
        case telegram.ReactionTypeEmoji(emoji=emoji):
            return emoji
        case telegram.ReactionTypePaid():
            return "⭐"
    return "(a custom emoji)"


def _may_write(member: ChatMember) -> bool:
    return member.status in (ChatMember.MEMBER, ChatMember.ADMINISTRATOR, ChatMember.OWNER)
