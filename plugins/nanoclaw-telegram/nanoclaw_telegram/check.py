"""Does Telegram take the token? Asked while the channel is being set up."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from anyio import to_thread

from nanoclaw_telegram.channel import API_URL, TOKEN, api_url


async def check(values: Mapping[str, str]) -> str:
    """Ask Telegram who the bot of the token is; one line about it.

    Raises:
        NanoClawError: the token is not taken, or Telegram cannot be reached.
    """
    module = await to_thread.run_sync(import_module, "nanoclaw_telegram.account")
    line: str = await module.who_is(values.get(TOKEN, "").strip(), api_url(values.get(API_URL, "")))
    return line
