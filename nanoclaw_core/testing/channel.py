"""A channel without a platform: the test is the platform."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from itertools import count

import anyio
from anyio.abc import TaskStatus

from nanoclaw_core.models import (
    Address,
    Capabilities,
    InboundFile,
    InboundKind,
    InboundMessage,
    Manifest,
    OutboundMessage,
    Progress,
    Question,
    Quote,
    Receipt,
    Sender,
)
from nanoclaw_core.ports import ChannelContext, ChannelFactory, Receive


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A call of `StreamingChannel.draft`."""

    to: Address
    text: str
    key: str
    message_id: str | None


class FakeChannel:
    """Both ends of a channel: `say` is a person who writes, `outbox` is what people see.

    It is a `Channel` with every Protocol but the stream. `attempts` holds every call of `send`, also those that failed as
    `fail_next` told them to; `outbox` only what was taken. `edits`, `reactions`, `questions` and `decisions` are what people
    see of those, `contents` the names and contents of the files that were sent: the host deletes its copies. `files` holds what
    `fetch` gives for each reference: bytes, or the error that it raises.
    """

    def __init__(self, name: str = "fake", *, capabilities: Capabilities | None = None) -> None:
        self.name = name
        self.capabilities = capabilities or Capabilities()
        self.outbox: list[OutboundMessage] = []
        self.attempts: list[OutboundMessage] = []
        self.contents: list[tuple[str, bytes]] = []
        self.settlements: list[tuple[Address, tuple[str, ...], str]] = []
        self.typings: list[tuple[Address, Progress]] = []
        self.files: dict[str, bytes | BaseException] = {}
        self.edits: list[tuple[Address, str, str]] = []
        self.reactions: list[tuple[Address, str, str]] = []
        self.questions: list[tuple[OutboundMessage, Question]] = []
        self.decisions: list[tuple[Address, str, str]] = []
        self.runs = 0
        self.context: ChannelContext | None = None
        self._receive: Receive | None = None
        self._connected = anyio.Event()
        self._broken: anyio.Event | None = None
        self._break_with: BaseException | None = None
        self._failures: deque[BaseException] = deque()
        self._changed = anyio.Event()
        self._ids = count(1)

    def factory(self, manifest: Manifest | None = None) -> ChannelFactory:
        """Offer this very object, the way a plugin would."""

        def create(context: ChannelContext) -> FakeChannel:
            self.context = context
            return self

        return ChannelFactory(
            name=self.name, summary="The test is the platform", create=create, manifest=manifest or Manifest()
        )

    # --- the channel's side -----------------------------------------------------------------------------------------------

    async def run(self, receive: Receive, *, task_status: TaskStatus[None]) -> None:
        self.runs += 1
        self._receive, self._broken = receive, anyio.Event()
        self._connected.set()
        task_status.started()
        try:
            await self._broken.wait()
        finally:
            self._receive, self._connected = None, anyio.Event()
        if self._break_with is not None:
            raise self._break_with

    async def send(self, message: OutboundMessage) -> Receipt:
        self.attempts.append(message)
        self._fail()
        self.contents += [(file.name, file.path.read_bytes()) for file in message.files]
        self.outbox.append(message)
        self._note()
        return Receipt(message_id=f"sent-{len(self.outbox)}")

    def _fail(self) -> None:
        if self._failures:
            self._note()
            raise self._failures.popleft()

    async def typing(self, to: Address, progress: Progress) -> None:
        self.typings.append((to, progress))
        self._note()

    async def settled(self, to: Address, message_ids: tuple[str, ...], outcome: str) -> None:
        self.settlements.append((to, message_ids, outcome))
        self._note()

    async def ask(self, message: OutboundMessage, question: Question) -> Receipt:
        receipt = await self.send(message)
        self.questions.append((message, question))
        return receipt

    async def answered(self, to: Address, message_id: str, text: str) -> None:
        self.decisions.append((to, message_id, text))
        self._note()

    async def edit(self, to: Address, message_id: str, text: str) -> None:
        self._fail()
        self.edits.append((to, message_id, text))
        self._note()

    async def react(self, to: Address, message_id: str, emoji: str) -> None:
        self._fail()
        self.reactions.append((to, message_id, emoji))
        self._note()

    async def fetch(self, file: InboundFile) -> AsyncGenerator[bytes]:
        content = self.files[file.reference]
        if isinstance(content, BaseException):
            raise content
        for start in range(0, len(content), 1024):
            yield content[start : start + 1024]

    # --- the platform's side ----------------------------------------------------------------------------------------------

    async def say(
        self,
        text: str,
        *,
        message_id: str | None = None,
        chat: str = "chat-1",
        thread: str | None = None,
        sender: str = "ada",
        name: str = "Ada",
        is_own: bool = False,
        is_group: bool = False,
        is_mention: bool = False,
        chat_name: str = "",
        reply_to: Quote | None = None,
        sent_at: float = 1_800_000_000.0,
        cursor: str | None = None,
        kind: InboundKind = InboundKind.MESSAGE,
        about: str | None = None,
        files: tuple[InboundFile, ...] = (),
    ) -> bool:
        """Let a person write; waits for the connection. Returns what `receive` returned: False for a known message id."""
        message = InboundMessage(
            address=Address(channel=self.name, chat=chat, thread=thread),
            message_id=message_id or f"message-{next(self._ids)}",
            sender=Sender(handle=sender, name=name, is_own=is_own),
            text=text,
            sent_at=sent_at,
            is_group=is_group,
            is_mention=is_mention,
            chat_name=chat_name,
            reply_to=reply_to,
            kind=kind,
            about=about,
            files=files,
        )
        return await self.deliver(message, cursor)

    async def deliver(self, message: InboundMessage, cursor: str | None = None) -> bool:
        """Hand a whole message to the host; waits for the connection."""
        while self._receive is None:
            await self._connected.wait()
        return await self._receive(message, cursor)

    def fail_next(self, *errors: BaseException) -> None:
        """Let the next calls of `send`, `edit` or `react` raise these, one each."""
        self._failures.extend(errors)

    def break_connection(self, error: BaseException) -> None:
        """Let `run` raise."""
        if self._broken is None:
            raise RuntimeError("this channel is not running")
        self._break_with = error
        self._broken.set()

    async def sent(self, count: int) -> list[OutboundMessage]:
        """Wait until `count` messages were taken; return all that were."""
        while len(self.outbox) < count:
            await self._changed.wait()
        return list(self.outbox)

    async def tried(self, count: int) -> list[OutboundMessage]:
        """Wait until `send` was called `count` times, successful or not."""
        while len(self.attempts) < count:
            await self._changed.wait()
        return list(self.attempts)

    async def until(self, seen: Callable[[], bool]) -> None:
        """Wait until `seen` holds; it is asked after every change on this channel."""
        while not seen():
            await self._changed.wait()

    async def settlement(self, count: int = 1) -> list[tuple[Address, tuple[str, ...], str]]:
        """Wait until `settled` was called `count` times."""
        while len(self.settlements) < count:
            await self._changed.wait()
        return list(self.settlements)

    def _note(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class FakeStreamingChannel(FakeChannel):
    """A `FakeChannel` that is a `StreamingChannel`, too.

    `drafts` holds every call of `draft`, also those that failed as `fail_next_draft` told them to. `screen` is what people see
    in the end, by message id: previews that were not replaced would stand there still.
    """

    def __init__(self, name: str = "fake", *, capabilities: Capabilities | None = None) -> None:
        super().__init__(name, capabilities=capabilities)
        self.drafts: list[Draft] = []
        self.screen: dict[str, str] = {}
        self.draft_takes: anyio.Event | None = None  # when set, a call of `draft` takes until then
        self._draft_failures: deque[BaseException] = deque()

    async def draft(self, to: Address, text: str, key: str, message_id: str | None = None) -> str | None:
        self.drafts.append(Draft(to=to, text=text, key=key, message_id=message_id))
        self._note()
        if self.draft_takes is not None:
            await self.draft_takes.wait()
        if self._draft_failures:
            raise self._draft_failures.popleft()
        if not text:
            self.screen.pop(message_id or "", None)
            return None
        shown = message_id or f"preview-{len(self.drafts)}"
        self.screen[shown] = text
        return shown

    async def send(self, message: OutboundMessage) -> Receipt:
        receipt = await super().send(message)
        if message.replaces in self.screen:
            receipt = Receipt(message_id=message.replaces)
        self.screen[receipt.message_id] = message.text
        return receipt

    def fail_next_draft(self, *errors: BaseException) -> None:
        """Let the next calls of `draft` raise these, one each."""
        self._draft_failures.extend(errors)

    async def drafted(self, count: int) -> list[str]:
        """Wait until `draft` was called `count` times; return the texts of all calls."""
        while len(self.drafts) < count:
            await self._changed.wait()
        return [draft.text for draft in self.drafts]
