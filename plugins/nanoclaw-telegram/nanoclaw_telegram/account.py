"""One bot: its connections, and everything that it does in its chats."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import NoReturn, Self

from anyio.abc import TaskStatus
from telegram.constants import ChatAction

from nanoclaw_core import Address, ChannelContext, InboundFile, Receive, TryLater
from nanoclaw_telegram.access import Access, certificates
from nanoclaw_telegram.clock import MachineClock
from nanoclaw_telegram.downloads import fetch
from nanoclaw_telegram.ids import Place, chat_of
from nanoclaw_telegram.line import Bot, close_bot, in_our_words
from nanoclaw_telegram.outgoing import Outgoing
from nanoclaw_telegram.pacing import Pace
from nanoclaw_telegram.polling import Polling, explained
from nanoclaw_telegram.previews import Previews
from nanoclaw_telegram.questions import Questions
from nanoclaw_telegram.updates import Reader


class Account:
    """The bot of one token. Its connections are open while anybody uses them, and closed when nobody does."""

    def __init__(self, context: ChannelContext, access: Access, *, largest: int, place: Place, tls: ssl.SSLContext) -> None:
        self._context = context
        self._access = access
        self._place = place
        self._tls = tls
        self._clock = context.clock or MachineClock()
        self._pace = Pace(self._clock)
        self._bot: Bot | None = None
        self._users = 0
        self.outgoing = Outgoing(self._call, place, largest)
        self.questions = Questions(self._call, place, self.outgoing)
        self.previews = Previews(self._call, place, self._pace, self._clock)

    @classmethod
    async def of(cls, context: ChannelContext, access: Access, *, largest: int) -> Self:
        """The account, not asked about yet. `largest` is how many bytes a file may have that it sends.

        Raises:
            ChannelRevoked: no bot has such a token.
        """
        place = Place.of(await context.cursor(), bot_id=access.bot_id)
        return cls(context, access, largest=largest, place=place, tls=await certificates())

    async def listen(self, receive: Receive, task_status: TaskStatus[None]) -> NoReturn:
        """Hand the host what people write, until cancelled."""
        async with self._connected() as bot:
            with explained():
                reader = Reader(await bot.get_me(), self._place)
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
                if later.after is not None and to.chat:
                    self._pace.hold(to.chat, later.after)
                raise

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[Bot]:
        """The one bot of all who use it at the same time."""
        self._users += 1
        bot = self._bot = self._bot or self._access.open(self._tls)
        try:
            yield bot
        finally:
            self._users -= 1
            if not self._users:
                self._bot = None
                await close_bot(bot)
