"""Telegram for NanoClaw: your assistant as a bot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nanoclaw_core import Channel, ChannelContext, ChannelFactory, Manifest, SetupField, hookimpl

MANIFEST = Manifest(
    steps=(
        "Write /newbot to @BotFather on Telegram (https://t.me/BotFather), and answer its two questions.",
        "It answers with the bot's token. Whoever has that is the bot: show it to nobody.",
    ),
    fields=(
        SetupField(
            variable="TELEGRAM_BOT_TOKEN",
            label="The bot's token",
            where="from @BotFather; /token shows that of an earlier bot",
            help="it looks like 123456789:AAF…",
            pattern=r"[0-9]+:[A-Za-z0-9_-]{30,}",
            form="digits, a colon, and some 35 letters, digits, - or _, as BotFather gives it",
        ),
        SetupField(
            variable="TELEGRAM_API_URL",
            label="The Bot API server",
            secret=False,
            required=False,
            help="another one only if you run your own",
            pattern=r"https?://\S+",
            form="an address that begins with https:// or http://",
            default="https://api.telegram.org",
        ),
    ),
    homepage="https://core.telegram.org/bots",
    pairs=True,
)


def create(context: ChannelContext) -> Channel:
    """The channel; called in a thread, for importing Telegram's library takes a while."""
    from nanoclaw_telegram.channel import TelegramChannel

    return TelegramChannel(context)


async def check(values: Mapping[str, str]) -> str:
    """See `ChannelFactory`."""
    from nanoclaw_telegram.check import who_is

    return await who_is(values)


@hookimpl
def nanoclaw_channels() -> Iterable[ChannelFactory]:
    return [ChannelFactory(name="telegram", summary="A bot on Telegram", create=create, manifest=MANIFEST, check=check)]
