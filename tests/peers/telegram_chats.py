"""What a Telegram server knows of chats, messages and files, and what each method of a bot does to them."""

from __future__ import annotations

import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import PurePosixPath
from typing import Any

Json = dict[str, Any]  # Any: JSON as the Bot API has it

BOT: Json = {"id": 123456789, "is_bot": True, "first_name": "Andy", "username": "andy_test_bot"}
ADA: Json = {"id": 42, "is_bot": False, "first_name": "Ada", "last_name": "Lovelace", "username": "ada"}
BEN: Json = {"id": 43, "is_bot": False, "first_name": "Ben"}
HOME: Json = {"id": 42, "type": "private", "first_name": "Ada", "last_name": "Lovelace", "username": "ada"}
FAMILY: Json = {"id": -1001000000001, "type": "supergroup", "title": "Family"}
FORUM: Json = {"id": -1001000000002, "type": "supergroup", "title": "Projects", "is_forum": True}
CLUB: Json = {"id": -501, "type": "group", "title": "Club"}
NEWS: Json = {"id": -1001000000003, "type": "channel", "title": "News"}

#: The server's own limits.
TEXT, CAPTION, CALLBACK_DATA, DOWNLOAD, UPLOAD = 4096, 1024, 64, 20 * 2**20, 50 * 2**20

REACTIONS = frozenset(["👍", "👎", "❤", "🔥", "🎉", "😁", "🤔", "😢", "👏", "👌", "👀", "💯", "🙏"])

#: The methods that send one file, and the field of the message that then has it.
_FILES = {
    "sendPhoto": "photo",
    "sendDocument": "document",
    "sendVoice": "voice",
    "sendAudio": "audio",
    "sendVideo": "video",
    "sendAnimation": "animation",
}


@dataclass(frozen=True, kw_only=True)
class Upload:
    """A file that came with a request."""

    name: str
    content: bytes


class Rejected(Exception):
    """The API refuses a call."""

    def __init__(self, code: int, description: str, parameters: Json | None = None) -> None:
        super().__init__(description)
        self.code = code
        self.parameters = parameters


def bad(reason: str) -> Rejected:
    return Rejected(400, f"Bad Request: {reason}")


def units(text: str) -> int:
    """The length of a text as Telegram counts it."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


class Chats:
    """All chats of one bot. `messages` are as they are now, by chat and id, whoever wrote them."""

    def __init__(self) -> None:
        self.known: dict[int, Json] = {chat["id"]: chat for chat in (HOME, FAMILY, FORUM, CLUB, NEWS)}
        self.messages: dict[tuple[int, int], Json] = {}
        self.people_reactions: dict[tuple[int, int], list[Json]] = {}
        self.bot_reactions: dict[tuple[int, int], list[Json]] = {}
        self.answers: dict[str, Json | None] = {}  # callback queries; None: not answered yet
        self.drafts: list[Json] = []
        self.topics: set[tuple[int, int]] = set()
        self.actions: list[Json] = []
        self.files: dict[str, Json] = {}
        self.paths: dict[str, bytes] = {}
        self._closed: dict[int, Rejected] = {}
        # Supergroups and channels number their own messages; all other chats of a bot share one series.
        self._ids: dict[int, Iterator[int]] = defaultdict(lambda: count(1))
        self._dates = count(1_800_000_000)
        self._names = count(1)

    # --- what people do ---------------------------------------------------------------------------------------------------

    def add(self, chat: Json, *, sender: Json | None, **fields: Any) -> Json:
        """A new message; `sender` is None for posts of a channel."""
        own = chat["type"] in ("supergroup", "channel")
        message_id = fields.pop("message_id", None) or next(self._ids[chat["id"] if own else 0])
        message = {"message_id": message_id, "date": next(self._dates), "chat": chat, **fields}
        if sender is not None:
            message["from"] = sender
        if "message_thread_id" in fields:
            self.topics.add((chat["id"], fields["message_thread_id"]))
        self.known.setdefault(chat["id"], chat)
        self.messages[chat["id"], message_id] = message
        return message

    def change(self, message: Json, **fields: Any) -> Json:
        key = (message["chat"]["id"], message["message_id"])
        edited = {**self.messages.get(key, message), **fields}
        if "reply_markup" not in fields and message.get("from") == BOT:
            edited.pop("reply_markup", None)  # an edit that does not repeat the buttons takes them away
        self.messages[key] = {**edited, "edit_date": next(self._dates)}
        return self.messages[key]

    def ask(self) -> str:
        """The id of a new callback query."""
        query_id = str(next(self._names))
        self.answers[query_id] = None
        return query_id

    def store(self, content: bytes, path: str = "documents/file.bin", *, size: int | None = None) -> Json:
        """A file on the server, as it stands in a message; `size` is what the server says of it."""
        number = next(self._names)
        folder, name = PurePosixPath(path).parent, PurePosixPath(path).name
        file_id = f"file-{number}-{secrets.token_hex(4)}"
        size = len(content) if size is None else size
        found = {"file_id": file_id, "file_unique_id": f"unique-{number}", "file_size": size}
        self.files[file_id] = {**found, "file_path": f"{folder}/{number}-{name}"}
        self.paths[f"{folder}/{number}-{name}"] = content
        return found

    def content(self, file_id: str) -> bytes:
        """What is in a file."""
        return self.paths[self.files[file_id]["file_path"]]

    def close(self, chat: Json, code: int, description: str) -> None:
        """From now on the bot is refused there: `kick`, `block` and `delete` say it in Telegram's words."""
        self._closed[chat["id"]] = Rejected(code, description)

    def kick(self, chat: Json) -> None:
        self.close(chat, 403, f"Forbidden: bot was kicked from the {chat['type']} chat")

    def block(self, chat: Json = HOME) -> None:
        self.close(chat, 403, "Forbidden: bot was blocked by the user")

    def delete(self, chat: Json) -> None:
        self.close(chat, 400, "Bad Request: chat not found")

    def upgrade(self, chat: Json) -> Json:
        new = {**chat, "id": -1002000000000 + chat["id"], "type": "supergroup"}
        self.known[new["id"]] = new
        self._closed[chat["id"]] = Rejected(
            400, "Bad Request: group chat was upgraded to a supergroup chat", {"migrate_to_chat_id": new["id"]}
        )
        return new

    # --- what the bot does ------------------------------------------------------------------------------------------------

    def do(self, method: str, data: Json, files: dict[str, Upload]) -> Any:  # whatever the method returns
        if method in _FILES:
            return self._send_file(_FILES[method], data, files)
        does: dict[str, Callable[[Json], Any]] = {  # the same
            "answerCallbackQuery": self._answer_callback,
            "deleteMessage": self._delete,
            "editMessageReplyMarkup": self._edit_markup,
            "editMessageText": self._edit_text,
            "getChat": lambda data: {**self._chat(data), "accent_color_id": 0, "max_reaction_count": 11},
            "getFile": self._get_file,
            "getMe": lambda _: {**BOT, "can_join_groups": True, "can_read_all_group_messages": False},
            "sendChatAction": self._act,
            "sendMessage": self._send_message,
            "sendMessageDraft": self._draft,
            "setMessageReaction": self._set_reaction,
            "setMyCommands": lambda _: True,
        }
        if method == "sendMediaGroup":
            return self._send_group(data, files)
        if method not in does:
            raise Rejected(404, "Not Found: method not found")
        return does[method](data)

    def _chat(self, data: Json) -> Json:
        chat_id = int(data["chat_id"])
        if chat_id in self._closed:
            raise self._closed[chat_id]
        if chat_id not in self.known:
            raise bad("chat not found")
        return self.known[chat_id]

    def _send(self, data: Json, **fields: Any) -> Json:
        """Add a message of the bot's, where it may be."""
        chat = self._chat(data)
        if thread := data.get("message_thread_id"):
            if (chat["id"], int(thread)) not in self.topics:
                raise bad("message thread not found")
            fields |= {"message_thread_id": int(thread), "is_topic_message": True}
        if reply := data.get("reply_parameters"):
            original = self.messages.get((chat["id"], int(reply["message_id"])))
            if original is None and not reply.get("allow_sending_without_reply"):
                raise bad("message to be replied not found")
            if original is not None:
                fields["reply_to_message"] = original
        if markup := data.get("reply_markup"):
            _check_buttons(markup)
            fields["reply_markup"] = markup
        return self.add(chat, sender=None if chat["type"] == "channel" else BOT, **fields)

    def _send_message(self, data: Json) -> Json:
        text = _checked(data["text"], TEXT, "message", data.get("entities"))
        return self._send(data, text=text, entities=data.get("entities") or [])

    def _send_file(self, kind: str, data: Json, files: dict[str, Upload]) -> Json:
        self._chat(data)
        _checked(data.get("caption", ""), CAPTION, "message caption", data.get("caption_entities"), may_be_empty=True)
        return self._send(data, **self._kept(kind, _uploaded(data.get(kind, ""), kind, files)), caption=data.get("caption", ""))

    def _send_group(self, data: Json, files: dict[str, Upload]) -> list[Json]:
        self._chat(data)
        if not 2 <= len(data["media"]) <= 10:
            raise bad("wrong number of messages in the album")
        kinds = {item["type"] for item in data["media"]}
        if len(kinds) > 1 and not kinds <= {"photo", "video"}:
            raise bad("can't mix different types of media in the album")
        group = str(next(self._names))
        kept = [
            {"caption": _checked_caption(item), **self._kept(item["type"], _uploaded(item["media"], "", files))}
            for item in data["media"]
        ]
        return [self._send(data, media_group_id=group, **fields) for fields in kept]

    def _kept(self, kind: str, upload: Upload) -> Json:
        """An uploaded file as the field of a message."""
        file = self.store(upload.content, f"{kind}s/{PurePosixPath(upload.name).name or 'file'}")
        more: Json = {"file_name": upload.name}
        if kind in ("voice", "audio", "video", "animation"):
            more |= {"duration": 1}
        if kind in ("photo", "video", "animation"):
            more |= {"width": 1, "height": 1}
        return {kind: [file | more] if kind == "photo" else file | more}

    def _act(self, data: Json) -> bool:
        self._chat(data)
        self.actions.append(data)
        return True

    def _draft(self, data: Json) -> bool:
        if self._chat(data)["type"] != "private":
            raise bad("TEXTDRAFT_PEER_INVALID")
        if int(data["draft_id"]) == 0:
            raise bad("draft_id must be non-zero")
        _checked(data["text"], TEXT, "message", data.get("entities"), may_be_empty=True)
        self.drafts.append(data)
        return True

    def _edit_text(self, data: Json) -> Json:
        message = self._own(data)
        text = _checked(data["text"], TEXT, "message", data.get("entities"))
        changes = {"text": text, "entities": data.get("entities") or []}
        if data.get("reply_markup"):
            _check_buttons(data["reply_markup"])
            changes["reply_markup"] = data["reply_markup"]
        return self._changed(message, changes, ("text", "entities", "reply_markup"))

    def _edit_markup(self, data: Json) -> Json:
        changes = {"reply_markup": data["reply_markup"]} if data.get("reply_markup") else {}
        return self._changed(self._own(data), changes, ("reply_markup",))

    def _changed(self, message: Json, changes: Json, compared: tuple[str, ...]) -> Json:
        if all((message.get(name) or []) == (changes.get(name) or []) for name in compared):
            raise bad(
                "message is not modified: specified new message content and reply markup are exactly the same as a current "
                "content and reply markup of the message"
            )
        return self.change(message, **changes)

    def _delete(self, data: Json) -> bool:
        message = self._own(data, "delete")
        del self.messages[message["chat"]["id"], message["message_id"]]
        return True

    def _own(self, data: Json, what: str = "edit") -> Json:
        message = self.messages.get((self._chat(data)["id"], int(data["message_id"])))
        if message is None:
            raise bad(f"message to {what} not found")
        if message.get("from") != BOT:
            raise bad(f"message can't be {what}ed")
        return message

    def _set_reaction(self, data: Json) -> bool:
        key = (self._chat(data)["id"], int(data["message_id"]))
        if key not in self.messages:
            raise bad("message to react not found")
        reaction = data.get("reaction") or []
        if len(reaction) > 1 or any(kind.get("emoji") not in REACTIONS for kind in reaction):
            raise bad("REACTION_INVALID")
        self.bot_reactions[key] = reaction
        return True

    def _answer_callback(self, data: Json) -> bool:
        if self.answers.get(data["callback_query_id"], data) is not None:
            raise bad("query is too old and response timeout expired or query ID is invalid")
        self.answers[data["callback_query_id"]] = data
        return True

    def _get_file(self, data: Json) -> Json:
        file = self.files.get(data["file_id"])
        if file is None:
            raise bad("wrong file_id or the file is temporarily unavailable")
        if file["file_size"] > DOWNLOAD:
            raise bad("file is too big")
        return file


def _checked(text: str, limit: int, what: str, entities: list[Json] | None = None, *, may_be_empty: bool = False) -> str:
    if not text.strip() and not may_be_empty:
        raise bad("message text is empty")
    if units(text) > limit:
        raise bad(f"{what} is too long")
    for entity in entities or ():
        if entity["offset"] < 0 or entity["length"] <= 0 or entity["offset"] + entity["length"] > units(text):
            raise bad(f"can't parse entities: entity beyond the end of the text at offset {entity['offset']}")
    return text


def _checked_caption(item: Json) -> str:
    return _checked(item.get("caption", ""), CAPTION, "message caption", may_be_empty=True)


def _check_buttons(markup: Json) -> None:
    for button in (button for row in markup.get("inline_keyboard", ()) for button in row):
        if not button.get("text"):
            raise bad("text of the button is empty")
        if not 1 <= len(button.get("callback_data", "").encode()) <= CALLBACK_DATA and "url" not in button:
            raise bad("BUTTON_DATA_INVALID")


def _uploaded(value: str, kind: str, files: dict[str, Upload]) -> Upload:
    """The file that a parameter means: `attach://name`, or the part of the request that has the parameter's own name."""
    upload = files.get(value.removeprefix("attach://") if value.startswith("attach://") else kind)
    if upload is None:
        raise bad(f"wrong file identifier/HTTP URL specified: {value}")
    if not upload.content:
        raise bad("file must be non-empty")
    if len(upload.content) > UPLOAD:
        raise Rejected(413, "Request Entity Too Large")
    return upload
