"""Does Telegram take the token? Asked while the channel is being set up."""

from __future__ import annotations

from collections.abc import Mapping

from nanoclaw_telegram.access import Access, certificates
from nanoclaw_telegram.line import close_bot
from nanoclaw_telegram.polling import explained


async def check(values: Mapping[str, str]) -> str:
    """Ask Telegram who the bot of the token is; one line about it.

    Raises:
        ChannelRevoked: there is no such bot. NanoClawError: Telegram cannot be asked.
    """
    access = Access.of(values)
    access.bot_id  # noqa: B018  # what is no token is not asked about
    bot = access.open(await certificates())
    try:
        with explained():
            me = await bot.get_me()
    finally:
        await close_bot(bot)
    groups = (
        "it sees all messages of its groups" if me.can_read_all_group_messages else "in groups it sees what is meant for it"
    )
    return f"@{me.username} ({me.full_name}); {groups}"
