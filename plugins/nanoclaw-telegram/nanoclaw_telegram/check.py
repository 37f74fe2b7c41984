"""Does Telegram take the token, and can this bot be asked for its messages? Asked while the channel is being set up."""

from __future__ import annotations

from collections.abc import Mapping

from telegram import User

from nanoclaw_core import ChannelRevoked, CredentialRefused
from nanoclaw_telegram.access import Access, certificates
from nanoclaw_telegram.line import Bot, close_bot
from nanoclaw_telegram.polling import WEBHOOK, explained


async def who_is(values: Mapping[str, str]) -> str:
    """Who the bot of the token is, in one line.

    Raises:
        CredentialRefused: there is no such bot, or it is another program's. NanoClawError: Telegram cannot be asked.
    """
    try:
        me, webhook = await _ask(Access.of(values).open(await certificates()))
    except ChannelRevoked as error:
        raise CredentialRefused("Telegram does not take this token. BotFather shows the right one: /token.") from error
    if webhook:
        raise CredentialRefused(f"@{me.username} is in use: {WEBHOOK}")
    groups = (
        "it sees all messages of its groups" if me.can_read_all_group_messages else "in groups it sees what is meant for it"
    )
    return f"@{me.username}, {me.full_name}; {groups}"


async def _ask(bot: Bot) -> tuple[User, str]:
    """The bot, and the web address that its messages go to, if there is one."""
    try:
        with explained():
            return await bot.get_me(), (await bot.get_webhook_info()).url
    finally:
        await close_bot(bot)
