"""What every shift shares: the services of the host and the limits that hold for all workers together."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import anyio

from nanoclaw_core.errors import RuntimeUnavailable
from nanoclaw_core.mailbox import Mailbox, Mailboxes
from nanoclaw_core.models import Address, AgentGroup, Event, Limits, Progress, Session
from nanoclaw_core.ports import Channel, Clock, Dialogue, Runtime, Wake, WorkerDoors
from nanoclaw_core.store.database import Database
from nanoclaw_core.supervise import sleep_or
from nanoclaw_core.workers.folders import Granted


async def no_folders(_agent: AgentGroup) -> Granted:
    """Nothing of the owner's is mounted."""
    return Granted()


async def no_quota(_agent: AgentGroup) -> None:
    """A workspace may hold anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How workers are run: times in seconds, memory in bytes, `user` as 'uid:gid'.

    A worker that has rested for `pause_after` is paused; one that has for `idle_timeout` ends, or for `background_timeout`
    where its agent left something running.
    """

    home: Path
    installation: str
    user: str
    runtime: str
    timezone: str
    engine: str
    model: str | None
    limits: Limits
    max_turns: int
    start_timeout: float
    idle_timeout: float
    max_memory: int = sys.maxsize
    hung_timeout: float = 120.0
    stop_grace: float = 5.0
    starts_at_once: int = 3
    pause_after: float = 2.0
    background_timeout: float = 6 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The services behind every worker.

    `image` returns the tag of the worker image, building it first where it is missing. `require_room` raises while the disk
    has no room for a new turn; `has_room` is whether the machine has so many bytes of memory left. `say` is for what no mailbox
    can hold. `streams` is whether a chat can show an answer while it is being written, `preview` shows it (`Previews.show`).
    `doors` is bound late: the gateway needs the pool as much as the pool needs the gateway. `note_tool` keeps a step
    of a worker's turn, and nobody waits for it. `hide` keeps a secret out of the log. `channels` are those of this host,
    by name; `file_rules` is what runners must know of the files that agents hand to actions. `folders` looks at the mounts of
    an agent anew for each worker; `require_quota` raises while its workspace holds more than it may.
    """

    terms: Terms
    database: Database
    mailboxes: Mailboxes
    runtime: Runtime
    doors: Callable[[], WorkerDoors]
    dialogue: Dialogue
    clock: Clock
    image: Callable[[], Awaitable[str]]
    require_room: Callable[[], Awaitable[None]]
    has_room: Callable[[int], bool]
    deliver: Wake
    say: Callable[[Address, str], Awaitable[None]]
    typing: Callable[[Address, Progress], Awaitable[None]]
    streams: Callable[[Address], bool]
    preview: Callable[[Mailbox, Address, str, str, str], Awaitable[str]]
    tell: Callable[[Event], None]
    note_tool: Callable[[Session, str, str], None]
    hide: Callable[[str], None]
    channels: Mapping[str, Channel] = field(default_factory=dict)
    file_rules: Mapping[str, object] = field(default_factory=dict)
    folders: Callable[[AgentGroup], Awaitable[Granted]] = no_folders
    require_quota: Callable[[AgentGroup], Awaitable[None]] = no_quota


@dataclass(slots=True, kw_only=True)
class Outage:
    """Whether the container runtime answers, as the pool's watch sees it. `reason` is empty while it does."""

    runtime: str
    reason: str = ""
    _over: anyio.Event = field(default_factory=anyio.Event)

    def begin(self, reason: str) -> None:
        if not self.reason:
            self._over = anyio.Event()
        self.reason = reason

    def end(self) -> None:
        self.reason = ""
        self._over.set()

    def check(self) -> None:
        """Raise RuntimeUnavailable during an outage."""
        if self.reason:
            raise RuntimeUnavailable(self.runtime, self.reason)

    async def pause(self, clock: Clock, seconds: float) -> None:
        """Sleep; during an outage at most until it is over."""
        if self.reason:
            await sleep_or(clock, seconds, self._over)
        else:
            await clock.sleep(seconds)
