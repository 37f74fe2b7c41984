"""A pool whose containers and links are records: what workers do is decided by the test."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio

from nanoclaw_core.errors import ContainerFailed, NanoClawError, RuntimeUnavailable
from nanoclaw_core.mailbox import Mailbox, NewRow
from nanoclaw_core.models import (
    Address,
    ContainerSpec,
    ContainerState,
    Event,
    Failure,
    FailureKind,
    Limits,
    OutboundKind,
    Progress,
    Push,
    TurnEnd,
    WorkerIdentity,
)
from nanoclaw_core.ports import Channel
from nanoclaw_core.routing.dialogue import AgentDialogue
from nanoclaw_core.sandbox.spec import WORKER_LABEL
from nanoclaw_core.workers.desk import Desk, Terms
from nanoclaw_core.workers.pool import Pool
from tests.house import CHAT, House


class PaperRuntime:
    """Containers that are only written down. `answers` is whether it can be reached, `cannot_pause` why it does not pause."""

    def __init__(self) -> None:
        self.answers = True
        self.cannot_pause = ""
        self.cannot_wake = ""
        self.used = 100 * 1024 * 1024
        self.measures: anyio.Event | None = None  # set: measuring takes until then
        self.specs: list[ContainerSpec] = []
        self.documents: list[dict[str, Any]] = []  # Any: the engine's options
        self.living: dict[str, ContainerState] = {}
        self.done: list[str] = []
        self._news: deque[ContainerState | None] = deque([None])
        self._came = anyio.Event()

    async def start(self, spec: ContainerSpec, first_line: bytes) -> str:
        self._check()
        self.specs.append(spec)
        self.documents.append(json.loads(first_line))
        container_id = f"c{len(self.specs)}"
        self.living[container_id] = ContainerState(id=container_id, name=spec.name, labels=dict(spec.labels), running=True)
        self.done.append(f"start {container_id}")
        return container_id

    async def stop(self, container_id: str, grace: float) -> None:
        self.done.append(f"stop {container_id}")
        self._check()
        if container_id in self.living:
            self.living[container_id] = replace(self.living[container_id], running=False, exit_code=0)

    async def remove(self, container_id: str) -> None:
        self.done.append(f"remove {container_id}")
        self._check()
        self.living.pop(container_id, None)

    async def pause(self, container_id: str) -> None:
        self.done.append(f"pause {container_id}")
        self._check()
        if self.cannot_pause:
            raise ContainerFailed(container_id, self.cannot_pause)

    async def resume(self, container_id: str) -> None:
        self.done.append(f"resume {container_id}")
        self._check()
        if self.cannot_wake:
            raise ContainerFailed(container_id, self.cannot_wake)

    async def memory(self, container_id: str) -> int:
        self._check()
        if self.measures:
            await self.measures.wait()
        return self.used

    async def containers(self, labels: Mapping[str, str]) -> list[ContainerState]:
        self._check()
        return [state for state in self.living.values() if labels.items() <= state.labels.items()]

    async def output(self, container_id: str, limit: int) -> bytes:
        self._check()
        return b"its last words"

    async def watch(self, labels: Mapping[str, str]) -> AsyncIterator[ContainerState | None]:
        self._check()
        while True:
            while self._news:
                yield self._news.popleft()
                self._check()
            self._came = anyio.Event()
            await self._came.wait()
            self._check()

    def end(self, container_id: str, code: int = 1, *, out_of_memory: bool = False) -> None:
        """Let a container die."""
        state = replace(self.living[container_id], running=False, exit_code=code, out_of_memory=out_of_memory)
        self.living[container_id] = state
        self._tell(state)

    def look_again(self) -> None:
        """Say that events may have been missed, or notice that it does not answer."""
        self._tell(None)

    def _tell(self, news: ContainerState | None) -> None:
        self._news.append(news)
        self._came.set()

    def _check(self) -> None:
        if not self.answers:
            raise RuntimeUnavailable("paper", "it burnt")


@dataclass
class PaperLink:
    """The host's end of a link, which writes down what it is told."""

    pushes: list[Push] = field(default_factory=list)
    orders: list[str] = field(default_factory=list)

    async def push(self, push: Push) -> None:
        self.pushes.append(push)

    async def interrupt(self) -> None:
        self.orders.append("interrupt")

    async def shutdown(self) -> None:
        self.orders.append("shutdown")


@dataclass
class PaperDoors:
    """Doors without sockets."""

    home: Path
    opened: list[WorkerIdentity] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    async def open(self, identity: WorkerIdentity) -> Path:
        self.opened.append(identity)
        return self.home / "workers" / identity.worker_id

    async def close(self, worker_id: str) -> None:
        self.closed.append(worker_id)


@dataclass(kw_only=True)
class Crew:
    """A running pool on a small house."""

    house: House
    runtime: PaperRuntime = field(default_factory=PaperRuntime)
    doors: PaperDoors
    desk: Desk
    pool: Pool
    delivered: list[str]
    said: list[tuple[Address, str]]
    typed: list[str]
    told: list[Event]
    noted: list[tuple[str, str, str]]
    channels: dict[str, Channel]
    previews: list[tuple[Address, str, str]]
    drawing: anyio.Event | None = None  # set: showing a preview takes until then
    cannot_draw: Exception | None = None  # raised when a preview is to be shown
    rows: int = 0
    full_disk: NanoClawError | None = None  # raised when a turn is to begin
    free_memory: int = 2**40  # bytes that the machine has left

    async def row(self, text: str, to: Address = CHAT) -> None:
        """Let a message wait."""
        self.rows += 1
        new = NewRow(
            id=f"r{self.rows}",
            address=to,
            message_id=f"m{self.rows}",
            sender_id="fake:ada",
            sender_name="Ada",
            text=text,
            sent_at=1.0,
        )
        await self.house.mailbox.add_rows([new])
        self.pool.wake(self.house.session.id)

    async def worker(self, count: int = 1) -> str:
        """The id of the worker that was started as number `count`."""
        await until(lambda: len(self.runtime.specs) >= count)
        return self.runtime.specs[count - 1].labels[WORKER_LABEL]

    async def linked(self, count: int = 1) -> tuple[str, PaperLink]:
        """Let that worker report."""
        worker, link = await self.worker(count), PaperLink()
        await self.pool.connected(worker, link)
        return worker, link

    async def answer(self, worker: str, *pushes: Push, text: str = "ok", number: int = 1, background: bool = False) -> None:
        covered = tuple(push.uuid for push in pushes)
        end = TurnEnd(id=f"{worker}-{number}", covered=covered, text=text, conversation="k", background=background)
        await self.pool.turn_ended(worker, end)

    async def interrupted(self, worker: str, *pushes: Push, number: int = 1) -> None:
        """Let a worker say that its turn was stopped."""
        failure = Failure(kind=FailureKind.INTERRUPTED, detail="interrupted")
        covered = tuple(push.uuid for push in pushes)
        end = TurnEnd(id=f"{worker}-{number}", covered=covered, text="", conversation="k", failure=failure)
        await self.pool.turn_ended(worker, end)

    async def outbound(self) -> list[str]:
        """What waits for delivery; the signs that a turn is over are written as 'settled'."""
        due = await self.house.mailbox.due()
        return ["settled" if row.kind is OutboundKind.SETTLED else row.text for row in due]

    def doing(self) -> list[str]:
        return [shift.doing for shift in self.pool.shifts]


@asynccontextmanager
async def open_crew(house: House, **terms: Any) -> AsyncIterator[Crew]:  # Any: as diverse as the terms
    delivered: list[str] = []
    said: list[tuple[Address, str]] = []
    typed: list[str] = []
    told: list[Event] = []
    noted: list[tuple[str, str, str]] = []
    channels: dict[str, Channel] = {}
    previews: list[tuple[Address, str, str]] = []
    runtime, doors = PaperRuntime(), PaperDoors(house.home)

    async def image() -> str:
        return "worker:1"

    async def say(to: Address, text: str) -> None:
        said.append((to, text))

    async def typing(to: Address, progress: Progress) -> None:
        typed.append(progress.note)

    async def preview(mailbox: Mailbox, to: Address, text: str, key: str, shown: str) -> str:
        previews.append((to, text, key))
        if crew.drawing:
            await crew.drawing.wait()
        if crew.cannot_draw:
            raise crew.cannot_draw
        return text

    async def require_room() -> None:
        if crew.full_disk:
            raise crew.full_disk

    desk = Desk(
        terms=replace(terms_of(house.home), **terms),
        database=house.database,
        mailboxes=house.mailboxes,
        runtime=runtime,  # type: ignore[arg-type]  # it builds no images
        doors=lambda: doors,
        dialogue=AgentDialogue(house.database, "UTC"),
        clock=house.clock,
        image=image,
        require_room=require_room,
        has_room=lambda more: crew.free_memory >= more,
        deliver=delivered.append,
        say=say,
        typing=typing,
        streams=lambda to: to.channel == "fake",
        preview=preview,
        tell=told.append,
        note_tool=lambda session, worker, note: noted.append((session.id, worker, note)),
        hide=lambda _: None,
        channels=channels,
    )
    crew = Crew(
        house=house,
        runtime=runtime,
        doors=doors,
        desk=desk,
        pool=Pool(desk),
        delivered=delivered,
        said=said,
        typed=typed,
        told=told,
        noted=noted,
        channels=channels,
        previews=previews,
    )
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            await tasks.start(lambda task_status: crew.pool.run(task_status))
            yield crew
            tasks.cancel_scope.cancel()


def terms_of(home: Path) -> Terms:
    from nanoclaw_core.sandbox.spec import worker_user

    return Terms(
        home=home,
        installation="i1",
        user=worker_user("i1"),
        runtime="paper",
        timezone="UTC",
        engine="claude",
        model=None,
        limits=Limits(memory=1, cpus=1.0, pids=1, tmp=1),
        max_turns=2,
        start_timeout=60.0,
        idle_timeout=900.0,
    )


async def until(is_so: Callable[[], object]) -> None:
    """Look every millisecond whether something is so that nobody announces."""
    while not is_so():  # noqa: ASYNC110  # it sets no event
        await anyio.sleep(0.001)
