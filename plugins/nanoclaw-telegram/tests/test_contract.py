"""The channel keeps the rules of the port, whatever the contract lets happen on Telegram."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from nanoclaw_core import Channel, ChannelContext
from nanoclaw_core.testing import ChannelContract, Platform, Shown, Trouble
from nanoclaw_telegram import create
from tests.peers.telegram import Drop, Failure, Refusal, TelegramPeer
from tests.peers.telegram_chats import ADA, BEN, BOT, FAMILY, HOME, Json

_TROUBLE: Mapping[Trouble, Failure] = {
    Trouble.ERROR: Refusal(code=500, description="Internal Server Error"),
    Trouble.CUT_BEFORE: Drop(),
    Trouble.CUT_AFTER: Drop(effect=True),
}


class Telegram(Platform):
    """Telegram's servers, and Ada, who writes to the bot."""

    chat = str(HOME["id"])

    def __init__(self, peer: TelegramPeer) -> None:
        self.peer = peer

    @property
    def messages(self) -> Sequence[Shown]:
        return [self._shown(message) for message in self.peer.chats.messages.values() if message.get("from") == BOT]

    async def say(self, text: str, *, message_id: str | None = None) -> str:
        fields: Json = {"message_id": int(message_id)} if message_id else {}
        return self._say(text=text, **fields)

    @property
    def typings(self) -> int:
        return len(self.peer.chats.actions)

    @property
    def reactions(self) -> Mapping[str, str]:
        return {str(key[1]): kinds[0]["emoji"] for key, kinds in self.peer.chats.bot_reactions.items() if kinds}

    async def say_in_group(self, text: str, *, mention: bool) -> str:
        name = f"@{BOT['username']}"
        marks = [{"type": "mention", "offset": 0, "length": len(name)}]
        fields = {"text": f"{name} {text}", "entities": marks} if mention else {"text": text}
        return str(self.peer.say(chat=FAMILY, sender=BEN, **fields)["message_id"])

    async def say_in_thread(self, text: str, thread: str) -> str:
        return self._say(text=text, message_thread_id=int(thread), is_topic_message=True)

    async def reply(self, text: str, to: str) -> str:
        return self._say(text=text, reply_to_message=self._message(to))

    async def send_file(self, name: str, content: bytes, text: str = "") -> str:
        document = self.peer.chats.store(content) | {"file_name": name}
        return self._say(document=document, caption=text)

    async def edit(self, message_id: str, text: str) -> None:
        self.peer.edit(self._message(message_id), text=text)

    async def react(self, message_id: str, emoji: str) -> None:
        await self.peer.wait_for(lambda: self.peer.polls)  # until then, nobody has asked for reactions
        self.peer.react(self._message(message_id), emoji)

    async def press(self, message_id: str, label: str) -> None:
        rows = self._message(message_id)["reply_markup"]["inline_keyboard"]
        data = next(button["callback_data"] for row in rows for button in row if button["text"] == label)
        self.peer.press(self._message(message_id), data)

    async def echo(self, text: str) -> str:
        return self._say(text=text, sender=BOT)

    async def limit(self, seconds: float) -> None:
        self.peer.script("sendMessage", Refusal(code=429, description="Too Many Requests", retry_after=seconds))

    async def trouble(self, kind: Trouble) -> None:
        self.peer.script("sendMessage", _TROUBLE[kind])

    async def disconnect(self) -> None:
        self.peer.cut()

    async def remove(self) -> None:
        self.peer.chats.block()

    async def revoke(self) -> None:
        self.peer.revoke()

    def _say(self, *, sender: Json = ADA, **fields: Any) -> str:  # Any: fields of a message
        return str(self.peer.say(sender=sender, **fields)["message_id"])

    def _message(self, message_id: str) -> Json:
        return self.peer.chats.messages[HOME["id"], int(message_id)]

    def _shown(self, message: Json) -> Shown:
        document, original = message.get("document"), message.get("reply_to_message")
        rows = message.get("reply_markup", {}).get("inline_keyboard", ())
        return Shown(
            id=str(message["message_id"]),
            text=message.get("text") or message.get("caption") or "",
            chat=str(message["chat"]["id"]),
            thread=str(message["message_thread_id"]) if "message_thread_id" in message else None,
            reply_to=str(original["message_id"]) if original else None,
            files=((document["file_name"], self.peer.chats.content(document["file_id"])),) if document else (),
            buttons=tuple(button["text"] for row in rows for button in row),
        )


class TestTelegram(ChannelContract):
    @pytest.fixture
    async def platform(self) -> AsyncIterator[Telegram]:
        async with TelegramPeer() as peer:
            yield Telegram(peer)

    def make_channel(self, platform: Telegram, context: ChannelContext) -> Channel:
        peer = platform.peer
        return create(replace(context, settings={"TELEGRAM_BOT_TOKEN": peer.token, "TELEGRAM_API_URL": peer.url}))
