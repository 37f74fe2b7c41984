"""A whole chat platform in memory, with everything that a platform can have, and the channel that belongs to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from itertools import count

import anyio
from anyio.abc import TaskStatus

from nanoclaw_core import (
    Address,
    Capabilities,
    ChannelContext,
    ChannelRevoked,
    InboundFile,
    InboundKind,
    InboundMessage,
    MessageTooLong,
    Missed,
    OutboundMessage,
    OutcomeUnknown,
    Progress,
    Question,
    Quote,
    Receipt,
    Receive,
    Refused,
    Sender,
    TryLater,
)
from nanoclaw_core.testing import Platform, Shown, Trouble


class Town(Platform):
    """Keeps what people write until the channel confirms it, and shows what the channel sends."""

    def __init__(self) -> None:
        self.updates: list[InboundMessage] = []
        self.shown: dict[str, Shown] = {}
        self.kept: dict[str, bytes] = {}
        self.questions: dict[str, Question] = {}
        self.emoji: dict[str, str] = {}
        self.typed = 0
        self.pause: float | None = None
        self.next: Trouble | None = None
        self.is_closed = self.is_revoked = False
        self.breaks = 0
        self.news = anyio.Event()
        self._ids = count(1)

    # --- what the contract drives ---

    @property
    def messages(self) -> Sequence[Shown]:
        return list(self.shown.values())

    @property
    def typings(self) -> int:
        return self.typed

    @property
    def reactions(self) -> Mapping[str, str]:
        return self.emoji

    async def say(self, text: str, *, message_id: str | None = None) -> str:
        return self.put(text, message_id)

    async def say_in_group(self, text: str, *, mention: bool) -> str:
        return self.put(text, chat="group-1", is_group=True, is_mention=mention)

    async def say_in_thread(self, text: str, thread: str) -> str:
        return self.put(text, thread=thread)

    async def reply(self, text: str, to: str) -> str:
        return self.put(text, reply_to=Quote(message_id=to, text=self.shown[to].text), is_mention=True)

    async def send_file(self, name: str, content: bytes, text: str = "") -> str:
        self.kept[name] = content
        return self.put(text, files=(InboundFile(name=name, reference=name, size=len(content)),))

    async def edit(self, message_id: str, text: str) -> None:
        self.put(text, kind=InboundKind.EDIT, about=message_id)

    async def react(self, message_id: str, emoji: str) -> None:
        self.put(emoji, kind=InboundKind.REACTION, about=message_id)

    async def press(self, message_id: str, label: str) -> None:
        question = self.questions[message_id]
        choice = next(choice for choice in question.choices if choice.label == label)
        self.put(choice.id, kind=InboundKind.ANSWER, about=question.id)

    async def echo(self, text: str) -> str:
        return self.put(text, is_own=True)

    async def limit(self, seconds: float) -> None:
        self.pause = seconds

    async def trouble(self, kind: Trouble) -> None:
        self.next = kind

    async def disconnect(self) -> None:
        self.breaks += 1
        self._tell()

    async def remove(self) -> None:
        self.is_closed = True

    async def revoke(self) -> None:
        self.is_revoked = True
        self._tell()

    # --- what the channel reaches ---

    def put(
        self,
        text: str,
        message_id: str | None = None,
        *,
        chat: str | None = None,
        thread: str | None = None,
        is_own: bool = False,
        is_group: bool = False,
        is_mention: bool = False,
        reply_to: Quote | None = None,
        kind: InboundKind = InboundKind.MESSAGE,
        about: str | None = None,
        files: tuple[InboundFile, ...] = (),
    ) -> str:
        message_id = message_id or f"m{next(self._ids)}"
        message = InboundMessage(
            address=Address(channel="town", chat=chat or self.chat, thread=thread),
            message_id=message_id,
            sender=Sender(handle="bot" if is_own else "ada", name="Ada", is_own=is_own),
            text=text,
            sent_at=1.0,
            is_group=is_group,
            is_mention=is_mention,
            reply_to=reply_to,
            kind=kind,
            about=about,
            files=files,
        )
        self.updates.append(message)
        self._tell()
        return message_id

    def post(self, message: OutboundMessage) -> str:
        """Take a message from the channel, unless something is in the way."""
        trouble, self.next = self.next, None
        if self.pause is not None:
            pause, self.pause = self.pause, None
            raise TryLater("too many messages", after=pause)
        if self.is_closed:
            raise Refused("the bot was removed")
        if trouble in (Trouble.ERROR, Trouble.CUT_BEFORE):
            raise TryLater("the town is closed")
        message_id = message.replaces or f"b{next(self._ids)}"
        self.shown[message_id] = Shown(
            id=message_id,
            text=message.text,
            chat=message.to.chat,
            thread=message.to.thread,
            reply_to=message.reply_to,
            files=tuple((file.name, file.path.read_bytes()) for file in message.files),
        )
        if trouble is Trouble.CUT_AFTER:
            raise OutcomeUnknown("the connection broke")
        return message_id

    def _tell(self) -> None:
        self.news.set()
        self.news = anyio.Event()


class TownChannel:
    """Keeps every rule of the port."""

    capabilities = Capabilities(
        max_length=500, threads=True, missed=Missed.REDELIVERED, max_file_size=1_000_000, max_caption=100, files_at_once=3
    )

    def __init__(self, town: Town, context: ChannelContext) -> None:
        self.town = town
        self.context = context
        self._drafts: dict[str, str] = {}

    async def run(self, receive: Receive, *, task_status: TaskStatus[None]) -> None:
        place = int(await self.context.cursor() or 0)
        breaks = self.town.breaks
        task_status.started()
        while True:
            if self.town.is_revoked:
                raise ChannelRevoked("town", "the key was taken back")
            if self.town.breaks != breaks:
                raise ConnectionError("the town broke it")
            if place == len(self.town.updates):
                await self.town.news.wait()
            else:
                place += 1
                await self.take(receive, self.town.updates[place - 1], str(place))

    async def take(self, receive: Receive, message: InboundMessage, cursor: str) -> None:
        if message.kind in (InboundKind.EDIT, InboundKind.REACTION):
            message = replace(message, message_id=f"{message.about}:{cursor}")
        try:
            await receive(message, cursor)
        except MessageTooLong as error:
            self.town.post(OutboundMessage(to=message.address, text=str(error), key=cursor))
            self.town.shown.popitem()

    async def send(self, message: OutboundMessage) -> Receipt:
        return Receipt(message_id=self.town.post(message))

    async def typing(self, to: Address, progress: Progress) -> None:
        self.town.typed += 1

    async def settled(self, to: Address, message_ids: tuple[str, ...], outcome: str) -> None:
        pass

    async def fetch(self, file: InboundFile) -> AsyncIterator[bytes]:
        if file.reference not in self.town.kept:
            raise Refused("there is no such file")
        yield self.town.kept[file.reference]

    async def edit(self, to: Address, message_id: str, text: str) -> None:
        self.town.shown[message_id] = replace(self.town.shown[message_id], text=text)

    async def react(self, to: Address, message_id: str, emoji: str) -> None:
        self.town.emoji[message_id] = emoji

    async def ask(self, message: OutboundMessage, question: Question) -> Receipt:
        receipt = await self.send(message)
        self.town.questions[receipt.message_id] = question
        labels = tuple(choice.label for choice in question.choices)
        self.town.shown[receipt.message_id] = replace(self.town.shown[receipt.message_id], buttons=labels)
        return receipt

    async def answered(self, to: Address, message_id: str, text: str) -> None:
        shown = self.town.shown[message_id]
        self.town.shown[message_id] = replace(shown, buttons=(), text=f"{shown.text}\n{text}")

    async def draft(self, to: Address, text: str, key: str, message_id: str | None = None) -> str | None:
        if message_id is None:
            return self.town.post(OutboundMessage(to=to, text=text, key=key))
        if not text:
            del self.town.shown[message_id]
            return None
        await self.edit(to, message_id, text)
        return message_id
