"""Telegram for NanoClaw: your assistant as a bot."""

from __future__ import annotations

from collections.abc import Iterable

from nanoclaw_core import Channel, ChannelContext, ChannelFactory, Manifest, SetupField, hookimpl


def create(context: ChannelContext) -> Channel:
    """The channel; called in a thread, for importing Telegram's library takes a while."""
    from nanoclaw_telegram.channel import TelegramChannel

    return TelegramChannel(context)


@hookimpl
def nanoclaw_channels() -> Iterable[ChannelFactory]:
    token = SetupField(
        variable="TELEGRAM_BOT_TOKEN",
        label="Bot token",
        help="Write /newbot to @BotFather on Telegram; the token looks like 123456789:AAF…",
    )
    url = SetupField(
        variable="TELEGRAM_API_URL",
        label="Bot API server",
        secret=False,
        required=False,
        help="Only for a Bot API server of your own; Telegram's is https://api.telegram.org",
    )
    manifest = Manifest(fields=(token, url), homepage="https://core.telegram.org/bots")
    return [ChannelFactory(name="telegram", summary="A bot on Telegram", create=create, manifest=manifest)]
