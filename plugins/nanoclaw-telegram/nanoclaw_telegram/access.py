"""What the owner has set: the bot's token, and the server that knows it."""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

import httpx
from anyio import to_thread

from nanoclaw_core import ChannelRevoked
from nanoclaw_telegram.ids import CHANNEL
from nanoclaw_telegram.line import Bot, open_bot

PUBLIC_API: Final = "https://api.telegram.org"

_TOKEN: Final = re.compile(r"([0-9]+):[A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """A bot's token, and the address of its Bot API server, without a slash at its end."""

    token: str
    url: str

    @classmethod
    def of(cls, values: Mapping[str, str]) -> Self:
        """Out of the values of the manifest's variables."""
        url = values.get("TELEGRAM_API_URL", "").strip().rstrip("/") or PUBLIC_API
        return cls(token=values.get("TELEGRAM_BOT_TOKEN", "").strip(), url=url)

    @property
    def is_public(self) -> bool:
        """Whether the server is Telegram's own."""
        return self.url == PUBLIC_API

    @property
    def bot_id(self) -> int:
        """The bot's number, which its tokens begin with.

        Raises:
            ChannelRevoked: no bot has such a token.
        """
        match = _TOKEN.fullmatch(self.token)
        if match is None:
            raise ChannelRevoked(CHANNEL, "TELEGRAM_BOT_TOKEN is not a token as BotFather gives them (123456789:AAF…)")
        return int(match[1])

    def open(self, tls: ssl.SSLContext) -> Bot:
        """A bot whose connections are made when they are needed; `close_bot` ends them.

        Raises:
            ChannelRevoked: no bot has such a token.
        """
        self.bot_id  # noqa: B018  # what is no token is not sent to anybody
        return open_bot(self.token, self.url, tls)


async def certificates() -> ssl.SSLContext:
    """What this machine trusts; reading that takes a while."""
    return await to_thread.run_sync(httpx.create_ssl_context)
