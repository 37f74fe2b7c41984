"""Files from people, fetched when the host wants them."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator

import httpx
from telegram.error import BadRequest

from nanoclaw_core import InboundFile, Refused, TryLater
from nanoclaw_telegram.line import Bot, in_our_words


async def fetch(bot: Bot, file: InboundFile, tls: ssl.SSLContext) -> AsyncGenerator[bytes]:
    """The content of `file`. The address that Telegram gives for it holds for an hour, so it is asked for each time."""
    address = await _address(bot, file)
    timeout = httpx.Timeout(30, connect=10)
    try:
        async with (
            httpx.AsyncClient(timeout=timeout, verify=tls) as client,
            client.stream("GET", address) as response,
        ):
            if response.status_code == 429 or response.status_code >= 500:
                raise TryLater(f"Telegram does not give the file out now (HTTP {response.status_code})")
            if response.status_code != 200:
                raise Refused(f"Telegram does not have the file any more (HTTP {response.status_code})")
            async for chunk in response.aiter_bytes():
                yield chunk
    except httpx.HTTPError as error:
        raise TryLater(f"the connection broke while the file was fetched ({type(error).__name__})") from error


async def _address(bot: Bot, file: InboundFile) -> str:
    with in_our_words(repeatable=True):
        try:
            found = await bot.get_file(file.reference)
        except BadRequest as error:
            if "too big" in error.message:
                raise Refused("it is larger than 20 MB, which is the most that Telegram gives to bots") from error
            raise
    if found.file_path is None or not found.file_path.startswith(("http://", "https://")):
        raise Refused("the Bot API server runs with --local and does not give files out")
    return found.file_path
