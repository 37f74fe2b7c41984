"""One bot: its connections, and everything that it does in its chats."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Final, NoReturn, Self

import anyio
import httpx
import telegram
from anyio import to_thread
from anyio.abc import TaskStatus
from telegram.constants import ChatAction

from nanoclaw_core import (
    Address,
    ChannelContext,
    ChannelRevoked,
    InboundFile,
    Receive,
    TryLater,
)
from nanoclaw_telegram.clock import MachineClock
from nanoclaw_telegram.downloads import fetch
from nanoclaw_telegram.ids import CHANNEL, Place, Topics, chat_of
from nanoclaw_telegram.line import Bot, close_bot, in_our_words, open_bot
from nanoclaw_telegram.outgoing import Outgoing
from nanoclaw_telegram.pacing import Pace
from nanoclaw_telegram.polling import Polling, explained, introduce
from nanoclaw_telegram.previews import Previews
from nanoclaw_telegram.questions import Questions
from nanoclaw_telegram.updates import Reader

_CLOSING: Final = 5.0
_TOKEN: Final = re.compile(r"(\d+):[A-Za-z0-9_-]+")


class Account:
    """The bot of one token. Its connections are open while anybody uses them, and closed when nobody does."""

    def __init__(
        self, context: ChannelContext, *, token: str, url: str, largest: int, place: Place, tls: ssl.SSLContext
    ) -> None:
        self._context = context
        self._token = token
        self._url = url
        self._place = place
        self._tls = tls
        self._clock = context.clock or MachineClock()
        self._topics = Topics()
        self._pace = Pace(self._clock)
        self._bot: Bot | None = None
        self._users = 0
        self.outgoing = Outgoing(self._call, self._name, largest)
        self.questions = Questions(self._call, self.outgoing)
        self.previews = Previews(self._call, self._pace, self._clock, self._name)

    @classmethod
    async def of(cls, context: ChannelContext, *, token: str, url: str, largest: int) -> Self:
        """The account of `token`, not asked about yet.

        Raises:
            ChannelRevoked: no bot has such a token.
        """
        match = _TOKEN.fullmatch(token)
        if match is None:
            raise ChannelRevoked(CHANNEL, "TELEGRAM_BOT_TOKEN is not a token as BotFather gives them (123456789:AAF…)")
        place = Place.of(await context.cursor(), bot_id=int(match[1]))
        tls = await to_thread.run_sync(httpx.create_ssl_context)  # it reads all certificates of the machine
        return cls(context, token=token, url=url, largest=largest, place=place, tls=tls)

    async def listen(self, receive: Receive, task_status: TaskStatus[None]) -> NoReturn:
        """Hand the host what people write, until cancelled."""
        async with self._connected() as bot:
            with explained():
                me = await introduce(bot)
                reader = Reader(me, self._place, self._topics)
                task_status.started()
                polling = Polling(
                    bot,
                    receive,
                    self._place,
                    reader,
                    self.outgoing,
                    self.questions,
                    context=self._context,
                    clock=self._clock,
                )
                await polling.run()

    async def typing(self, to: Address) -> None:
        chat, thread = chat_of(to)
        async with self._call(to, count=0, repeatable=True) as bot:
            await bot.send_chat_action(chat, ChatAction.TYPING, message_thread_id=thread)

    async def fetch(self, file: InboundFile) -> AsyncGenerator[bytes]:
        async with self._connected() as bot, aclosing(fetch(bot, file, self._tls)) as chunks:
            async for chunk in chunks:
                yield chunk

    @asynccontextmanager
    async def _call(self, to: Address, *, count: int = 1, repeatable: bool = False) -> AsyncIterator[Bot]:
        """See `outgoing.Call`."""
        if count:
            await self._pace.turn(to.chat, count)
        async with self._connected() as bot:
            try:
                with in_our_words(repeatable=repeatable):
                    yield bot
            except TryLater as later:
                if later.after is not None:
                    self._pace.hold(to.chat, later.after)
                raise

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Bot]:
        self._users += 1
        bot = self._bot = self._bot or open_bot(self._token, self._url, self._tls)
        try:
            yield bot
        finally:
            self._users -= 1
            if not self._users:
                self._bot = None
                with anyio.move_on_after(_CLOSING, shield=True):
                    await close_bot(bot)

    def _name(self, message: telegram.Message) -> str:
        """What the host calls a message that was sent."""
        thread = message.message_thread_id if message.is_topic_message else None
        self._topics.note(message.chat.id, message.message_id, thread)
        return self._place.name(message.message_id)


async def who_is(token: str, url: str) -> str:
    """Who the bot of `token` is, as one line for people.

    Raises:
        NanoClawError: Telegram does not say.
    """
    account = await Account.of(ChannelContext(settings={}, wake=_nobody), token=token, url=url, largest=0)
    async with account._connected() as bot:  # noqa: SLF001
        me = await introduce(bot)
    groups = (
        "it sees all messages of its groups" if me.can_read_all_group_messages else "in groups it sees what is meant for it"
    )
    return f"@{me.username} ({me.full_name}); {groups}"


def _nobody(chat: str) -> None:
    """Nobody waits for a chat while the channel is being set up."""
