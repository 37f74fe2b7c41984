"""Fetches the files of messages that somebody hears, before they are handed over: a slow one holds up its own chat alone."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self

import anyio
import structlog
from anyio import to_thread
from anyio.abc import TaskGroup

from nanoclaw_core.errors import DiskLow, Refused, TryLater
from nanoclaw_core.journal import JournalEntry
from nanoclaw_core.models import Address, InboundFile
from nanoclaw_core.ports import Channel, Clock, FetchingChannel
from nanoclaw_core.routing.inbox import Arrived, names_for
from nanoclaw_core.supervise import Pauses, reason_of, survive

log = structlog.get_logger()

_FILES_AT_ONCE: Final = 4
_TIMEOUT: Final = 180.0  # seconds for one try of one file
_PATIENCE: Final = 600.0  # seconds until a file is given up
_MIB: Final = 1024 * 1024


class Arrivals:
    """Holds messages whose files are on their way, with all that comes after them in their chats.

    `channels` are the host's, by name. A file is at most `limit` bytes long; `require_room` raises `DiskLow` where the disk has
    no room for one. `released` is called when something that was held can go on.
    """

    def __init__(
        self,
        *,
        folder: Path,
        channels: Mapping[str, Channel],
        clock: Clock,
        limit: int,
        require_room: Callable[[], Awaitable[None]],
        released: Callable[[], None],
    ) -> None:
        self.held: set[int] = set()
        self.releases = 0
        self._folder = folder
        self._channels = channels
        self._clock = clock
        self._limit = limit
        self._require_room = require_room
        self._released = released
        self._arrived: dict[int, list[Arrived]] = {}
        self._lanes: dict[Address, deque[JournalEntry]] = {}
        self._tries = anyio.CapacityLimiter(_FILES_AT_ONCE)
        self._tasks: TaskGroup

    async def __aenter__(self) -> Self:
        """Fetch from here on. What an earlier host had fetched is thrown away: it is fetched again."""
        self.held.clear()
        self._arrived.clear()
        self._lanes.clear()
        await to_thread.run_sync(lambda: shutil.rmtree(self._folder, ignore_errors=True))
        self._released()  # what was held then
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        return self

    async def __aexit__(self, *exception: Any) -> bool | None:  # Any: whatever Python hands in
        self._tasks.cancel_scope.cancel()
        return await self._tasks.__aexit__(*exception)

    def hold(self, entry: JournalEntry, *, is_heard: bool) -> bool:
        """Whether the message must wait for its files, or for those of a message before it in its chat."""
        chat = entry.message.address
        lane = self._lanes.get(chat)
        if lane is None and not (is_heard and entry.message.files and entry.seq not in self._arrived):
            return False
        self.held.add(entry.seq)
        if lane is not None:
            lane.append(entry)
            return True
        self._lanes[chat] = deque([entry])
        self._tasks.start_soon(self._fetch_all, chat, name=f"files {chat.channel}")
        return True

    def of(self, entry: JournalEntry) -> list[Arrived]:
        """What has become of the message's files: one for each, in their order."""
        return self._arrived.get(entry.seq, [])

    async def forget(self, entry: JournalEntry) -> None:
        """The message was handed over."""
        if self._arrived.pop(entry.seq, None):
            await to_thread.run_sync(lambda: shutil.rmtree(self._folder / str(entry.seq), ignore_errors=True))

    async def _fetch_all(self, chat: Address) -> None:
        """Fetch the files of the message that opened the lane; those behind it go on, too, and may open it again."""
        entry = self._lanes[chat][0]
        names = names_for(entry.message.files)
        self._arrived[entry.seq] = [
            await self._fetched(entry, file, name) for file, name in zip(entry.message.files, names, strict=True)
        ]
        self.releases += 1
        self.held -= {waiting.seq for waiting in self._lanes.pop(chat)}
        self._released()

    async def _fetched(self, entry: JournalEntry, file: InboundFile, name: str) -> Arrived:
        path = self._folder / str(entry.seq) / name
        problem = await self._problem(entry.message.address.channel, file, path)
        if problem:
            log.warning("file.missed", channel=entry.message.address.channel, message=entry.seq, reason=problem)
            return Arrived(name=name, kind=file.kind, problem=problem)
        return Arrived(name=name, kind=file.kind, path=path)

    async def _problem(self, channel_name: str, file: InboundFile, path: Path) -> str:
        """Fetch one file; return why that cannot be, or ''."""
        channel = self._channels.get(channel_name)
        if channel is None or not isinstance(channel, FetchingChannel):
            return f"the channel {channel_name} cannot fetch files"
        if file.size is not None and file.size > self._limit:
            return _too_large(file.size, self._limit)
        pauses, began = Pauses(first=1.0, most=60.0), self._clock.monotonic()
        while True:
            try:
                async with self._tries:  # not while it pauses, lest others wait for a file that nobody gives out
                    await self._require_room()
                    failure = await self._try(channel.fetch(file), path)
            except (Refused, DiskLow) as error:
                return reason_of(error)
            if failure is None:
                return ""
            pause = pauses.next() if failure.after is None else failure.after
            if self._clock.monotonic() - began + pause > _PATIENCE:
                return str(failure)
            await self._clock.sleep(pause)

    async def _try(self, chunks: AsyncIterator[bytes], path: Path) -> TryLater | None:
        """Write what comes; None when the file is whole."""
        later = TryLater(f"nothing came within {_TIMEOUT:.0f} s")
        with anyio.move_on_after(_TIMEOUT):
            try:
                failure = await survive("fetching a file", self._write(chunks, path), passing=(Refused, TryLater))
            except TryLater as error:
                return error
            return TryLater(failure) if failure else None
        return later

    async def _write(self, chunks: AsyncIterator[bytes], path: Path) -> None:
        length = 0
        await to_thread.run_sync(lambda: path.parent.mkdir(parents=True, exist_ok=True))
        async with await anyio.open_file(path, "wb") as file, AsyncExitStack() as stack:
            if isinstance(chunks, AsyncGenerator):
                stack.push_async_callback(chunks.aclose)
            os.fchmod(file.wrapped.fileno(), 0o644)
            async for chunk in chunks:
                length += len(chunk)
                if length > self._limit:
                    raise Refused(_too_large(length, self._limit))
                await file.write(chunk)
            await file.flush()
            await to_thread.run_sync(os.fsync, file.wrapped.fileno())


def _too_large(size: int, limit: int) -> str:
    return f"it has {size / _MIB:.1f} MiB or more, and {limit // _MIB} MiB are taken at most"
