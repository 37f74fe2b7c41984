"""The channel keeps the rules of the port."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from nanoclaw_core import Address, OutboundMessage
from nanoclaw_core.testing import ChannelContract
from nanoclaw_telegram.channel import TelegramChannel
from tests.peers.telegram import TelegramPeer
from tests.peers.telegram_chats import HOME, Json


class Chat:
    """Ada's chat with the bot, as the contract wants it."""

    def __init__(self, platform: TelegramPeer) -> None:
        self._platform = platform

    async def say(self, text: str, *, message_id: str | None = None) -> object:
        fields: Json = {"message_id": int(message_id)} if message_id else {}
        return self._platform.say(text, **fields)

    async def sent(self, count: int) -> Sequence[OutboundMessage]:
        return [
            OutboundMessage(to=Address(channel="telegram", chat=str(data["chat_id"])), text=data["text"], key="")
            for data in await self._platform.sent(count)
        ]


class TestTelegram(ChannelContract):
    @pytest.fixture
    def address(self) -> Address:
        return Address(channel="telegram", chat=str(HOME["id"]))

    @pytest.fixture
    def channel(self, telegram: TelegramChannel) -> TelegramChannel:
        return telegram

    @pytest.fixture
    def peer(self, platform: TelegramPeer) -> Chat:
        return Chat(platform)
