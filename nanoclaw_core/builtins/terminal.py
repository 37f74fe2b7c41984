"""The terminal as a chat platform: its chats are shown by whoever attaches to them, through the control socket."""

from __future__ import annotations

import getpass
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from anyio.abc import TaskStatus

from nanoclaw_core.errors import TryLater
from nanoclaw_core.hookspecs import hookimpl
from nanoclaw_core.models import Address, Capabilities, InboundMessage, OutboundMessage, Progress, Receipt, Sender, clean_text
from nanoclaw_core.ports import ChannelContext, ChannelFactory, Receive

NAME = "terminal"

_BUFFER = 256  # updates that a viewer may be behind
_PATIENCE = 30.0  # seconds that a viewer may take to show something
_ABSENCE = 3600.0  # seconds; whoever attaches wakes the chat long before


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """The agent wrote `text`. The same `id` again is the same message."""

    id: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Working:
    """What goes on at the moment; an empty note ends it."""

    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """Everything that answers these messages has been said."""

    message_ids: tuple[str, ...]
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """NanoClaw itself says `text`."""

    text: str


Update = Said | Working | Settled | Notice


class Viewer:
    """One terminal that shows a chat. Its updates come numbered; `confirm` says that all up to a number were shown."""

    def __init__(self) -> None:
        self._into, self._out = anyio.create_memory_object_stream[tuple[int, Update]](_BUFFER)
        self._offered = 0
        self._confirmed = 0
        self._gone = False
        self._changed = anyio.Event()

    def __aiter__(self) -> AsyncIterator[tuple[int, Update]]:
        return self._out

    def confirm(self, number: int) -> None:
        self._confirmed = max(self._confirmed, number)
        self._change()

    def offer(self, update: Update) -> int:
        """Queue `update` and return its number. A viewer that is too far behind is detached: nobody waits for it."""
        self._offered += 1
        try:
            self._into.send_nowait((self._offered, update))
        except anyio.WouldBlock:
            self.detach()
        except (anyio.ClosedResourceError, anyio.BrokenResourceError):
            pass  # detached already
        return self._offered

    async def shown(self, number: int) -> bool:
        """Wait until the update `number` is confirmed, or False: the viewer is gone."""
        while self._confirmed < number and not self._gone:
            await self._changed.wait()
        return self._confirmed >= number

    def detach(self) -> None:
        """End the stream of updates; its reader gets what is buffered, and then the end."""
        self._gone = True
        self._into.close()
        self._change()

    def close(self) -> None:
        self.detach()
        self._out.close()

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class TerminalChannel:
    """Chats whose people sit at this machine, as the operating system's user who owns the control socket.

    A message counts as sent once a viewer has confirmed it, so that a terminal that dies or hangs loses nothing.
    """

    capabilities = Capabilities(max_length=1_000_000, idempotent_send=True, patient=True)

    def __init__(self, wake: Callable[[str], None], user: str) -> None:
        self._wake = wake
        self._user = user
        self._viewers: dict[str, list[Viewer]] = {}
        self._receive: Receive | None = None
        self._ready = anyio.Event()

    async def run(self, receive: Receive, *, task_status: TaskStatus[None]) -> None:
        self._receive = receive
        self._ready.set()
        task_status.started()
        await anyio.sleep_forever()

    async def say(self, chat: str, text: str, message_id: str) -> bool:
        """Hand in what the person at the terminal wrote; it is durable when this returns. False: it was there already.

        Raises:
            MessageTooLong: nothing was stored.
        """
        while self._receive is None:
            await self._ready.wait()
        message = InboundMessage(
            address=Address(channel=NAME, chat=chat),
            message_id=message_id,
            sender=Sender(handle="local", name=self._user),
            text=clean_text(text),
            sent_at=time.time(),
        )
        return await self._receive(message)

    @contextmanager
    def attach(self, chat: str) -> Iterator[Viewer]:
        """Show `chat` in one more terminal; what waits for somebody to be there comes at once."""
        viewer = Viewer()
        self._viewers.setdefault(chat, []).append(viewer)
        self._wake(chat)
        try:
            yield viewer
        finally:
            viewer.close()
            self._viewers[chat].remove(viewer)
            if not self._viewers[chat]:
                del self._viewers[chat]

    async def send(self, message: OutboundMessage) -> Receipt:
        await self._show(message.to.chat, Said(id=message.key, text=message.text))
        return Receipt(message_id=message.key)

    async def typing(self, to: Address, progress: Progress) -> None:
        for viewer in tuple(self._viewers.get(to.chat, ())):
            viewer.offer(Working(note=progress.note))

    async def settled(self, to: Address, message_ids: tuple[str, ...], outcome: str) -> None:
        await self._show(to.chat, Settled(message_ids=message_ids, outcome=outcome))

    def announce(self, update: Working | Notice) -> None:
        """Tell every terminal something about the host, such as the progress of an image build. May be missed."""
        for viewers in tuple(self._viewers.values()):
            for viewer in tuple(viewers):
                viewer.offer(update)

    async def _show(self, chat: str, update: Update) -> None:
        """Return when the first viewer has shown `update`; those that hang while nobody shows it are detached."""
        offers = [(viewer, viewer.offer(update)) for viewer in tuple(self._viewers.get(chat, ()))]
        is_shown = False

        async def wait(viewer: Viewer, number: int) -> None:
            nonlocal is_shown
            if await viewer.shown(number):
                is_shown = True
                tasks.cancel_scope.cancel()

        with anyio.move_on_after(_PATIENCE):
            async with anyio.create_task_group() as tasks:
                for viewer, number in offers:
                    tasks.start_soon(wait, viewer, number)
        if not is_shown:
            for viewer, _ in offers:
                viewer.detach()
            raise TryLater("nobody is at the terminal", after=_ABSENCE)


def _create(context: ChannelContext) -> TerminalChannel:
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a numeric user without a name, as in containers
        user = "user"
    return TerminalChannel(context.wake, user)


@hookimpl
def nanoclaw_channels() -> Iterable[ChannelFactory]:
    return [ChannelFactory(name=NAME, summary="This machine's terminal: `nanoclaw chat`", create=_create)]
