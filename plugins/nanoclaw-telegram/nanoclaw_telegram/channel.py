"""The channel as the host sees it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from anyio.abc import TaskStatus

from nanoclaw_core import (
    Address,
    Capabilities,
    ChannelContext,
    ChannelRevoked,
    InboundFile,
    LengthUnit,
    Missed,
    OutboundMessage,
    Progress,
    Question,
    Receipt,
    Receive,
    TryLater,
)
from nanoclaw_telegram.access import Access
from nanoclaw_telegram.account import Account

#: What bots may send, in bytes: with Telegram's own server, and with a Bot API server of one's own.
_LARGEST: Final = 50_000_000
_LARGEST_OWN: Final = 2_000_000_000


class TelegramChannel:
    """One bot on Telegram: a channel that types, fetches, edits, reacts, asks and streams."""

    def __init__(self, context: ChannelContext) -> None:
        self._context = context
        self._access = Access.of(context.settings)
        self._account: Account | None = None
        self.capabilities = Capabilities(
            max_length=4096,
            length_unit=LengthUnit.UTF16,
            threads=True,
            missed=Missed.REDELIVERED,
            max_file_size=_LARGEST if self._access.is_public else _LARGEST_OWN,
            max_caption=1024,
            files_at_once=10,
        )

    async def run(self, receive: Receive, *, task_status: TaskStatus[None]) -> None:
        await (await self._opened()).listen(receive, task_status)

    async def send(self, message: OutboundMessage) -> Receipt:
        return await (await self._used()).outgoing.send(message)

    async def typing(self, to: Address, progress: Progress) -> None:  # noqa: ARG002  # Telegram shows only that it types
        await (await self._used()).typing(to)

    async def fetch(self, file: InboundFile) -> AsyncGenerator[bytes]:
        async with aclosing((await self._used()).fetch(file)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def edit(self, to: Address, message_id: str, text: str) -> None:
        await (await self._used()).outgoing.edit(to, message_id, text)

    async def react(self, to: Address, message_id: str, emoji: str) -> None:
        await (await self._used()).outgoing.react(to, message_id, emoji)

    async def ask(self, message: OutboundMessage, question: Question) -> Receipt:
        return await (await self._used()).questions.ask(message, question)

    async def answered(self, to: Address, message_id: str, text: str) -> None:
        await (await self._used()).questions.answered(to, message_id, text)

    async def draft(self, to: Address, text: str, key: str, message_id: str | None = None) -> str | None:
        return await (await self._used()).previews.draft(to, text, key, message_id)

    async def _used(self) -> Account:
        try:
            return await self._opened()
        except ChannelRevoked as error:  # the owner hears of it from `run`; what is to be sent waits for a better token
            raise TryLater(str(error)) from error

    async def _opened(self) -> Account:
        if self._account is None:
            opened = await Account.of(self._context, self._access, largest=self.capabilities.max_file_size)
            self._account = self._account or opened  # somebody else may have been as quick
        return self._account
