"""One life of a worker: the relay, the link and the engine, joined in one task group."""

from __future__ import annotations

import logging
import signal
from collections.abc import Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import anyio

from nanoclaw_runner.engines import Engine, EngineFailed, Place, find_engine
from nanoclaw_runner.frames import (
    MAX_DETAIL,
    MAX_NOTE,
    MAX_PREVIEW,
    MAX_TEXT,
    PROTOCOLS,
    Failed,
    Failure,
    Heartbeat,
    Hello,
    Preview,
    Progress,
    TurnEnd,
    Usage,
    joined,
    one_line,
)
from nanoclaw_runner.launch import LaunchDocument
from nanoclaw_runner.link import Link, LinkEnded
from nanoclaw_runner.processes import strangers
from nanoclaw_runner.relay import as_it_is, ask_persistently, run_relay
from nanoclaw_runner.requests import Rewrite
from nanoclaw_runner.spool import Spool
from nanoclaw_runner.uploads import Uploads

HEARTBEAT: Final = 15.0  # seconds
NOTE_PAUSE: Final = 0.5  # seconds between two notes of progress
PREVIEW_PAUSE: Final = 0.25  # seconds between two previews of an answer
LAST_WORDS: Final = 5.0  # seconds for the host to acknowledge why this worker ends
CUT: Final = "\n\n[This answer was too long and was cut here.]"

log = logging.getLogger(__name__)


class Desk:
    """Between link and engine: hands each push on once, and turns the engine's reports into frames."""

    def __init__(self, worker: str, engine: Engine, link: Link, spool: Spool) -> None:
        self._worker = worker
        self._engine = engine
        self._link = link
        self._spool = spool
        self._known: set[str] = set()
        self._open: set[str] = set()
        self._note = ""
        self._noted = anyio.Event()
        self._streams = False
        self._draft = ""
        self._is_new = False
        self._drafted = anyio.Event()
        self._busy = anyio.Event()
        self._numbers = count(1)

    async def connected(self) -> None:
        """Tell a host, which may know nothing of this worker, what goes on."""
        await self._link.mention(Heartbeat(background=self._background))
        self._want_preview()

    async def push(self, uuid: str, text: str, *, stream: bool) -> None:
        """Hand a push to the engine, unless it came before or a frame that waits in the spool answers it."""
        self._streams = stream  # all that is open is of one chat
        if uuid not in self._known and not self._spool.covers(uuid):
            self._known.add(uuid)
            self._open.add(uuid)
            self._busy.set()
            await self._engine.push(uuid, text)

    async def interrupt(self) -> None:
        """Stop the running turn."""
        await self._engine.interrupt()

    async def answered(self, covered: Sequence[str], text: str, *, conversation: str, usage: Mapping[str, int]) -> None:
        """See `Reports`."""
        if len(text) > MAX_TEXT:
            text = text[: MAX_TEXT - len(CUT)] + CUT
        await self._end(covered, text, None, conversation, usage)

    async def turn_failed(
        self,
        covered: Sequence[str],
        kind: str,
        detail: str,
        *,
        status: int | None = None,
        conversation: str,
        usage: Mapping[str, int],
    ) -> None:
        """See `Reports`."""
        failure = Failure(kind=kind, detail=one_line(detail, MAX_DETAIL), status=status)
        await self._end(covered, "", failure, conversation, usage)

    async def stirred(self) -> None:
        """See `Reports`. The host could take a worker that is silent for one at rest."""
        self._busy.set()
        await self._link.mention(Heartbeat(background=self._background))

    async def progressed(self, note: str) -> None:
        """See `Reports`."""
        self._note = one_line(note, MAX_NOTE)
        self._noted.set()

    async def tell(self) -> None:
        """Send the latest note, at most one in half a second: an agent can write any number into its engine's output."""
        while True:
            await self._noted.wait()
            self._noted = anyio.Event()
            note, self._note = self._note, ""
            if note:
                await self._link.mention(Progress(note=note))
                await anyio.sleep(NOTE_PAUSE)

    async def wrote(self, piece: str, *, anew: bool = False) -> None:
        """See `Reports`."""
        self._is_new = self._is_new or anew
        if not piece:
            return  # what was written before stands until then
        before, self._is_new = "" if self._is_new else self._draft, False
        self._draft = (before + piece)[:MAX_PREVIEW]
        if self._draft != before:
            self._want_preview()

    async def show(self) -> None:
        """Send the text as far as it is written, at most four times in a second: it may come letter by letter.

        The pause comes first: an answer that is written within it needs no preview.
        """
        while True:
            await self._drafted.wait()
            await anyio.sleep(PREVIEW_PAUSE)
            self._drafted = anyio.Event()
            if self._draft:
                await self._link.mention(Preview(text=self._draft))

    def _want_preview(self) -> None:
        if self._streams and self._open and self._draft:
            self._drafted.set()

    async def died(self, detail: str) -> None:
        """Tell the host that the engine is dead."""
        await self._link.deliver(Failed(id=self._next_id(), detail=one_line(detail, MAX_DETAIL)))

    async def beat(self) -> None:
        """Send a heartbeat every 15 s while something is unanswered or goes on in the background; sleep otherwise."""
        while True:
            await self._busy.wait()
            await anyio.sleep(HEARTBEAT)
            background = self._background
            await self._link.mention(Heartbeat(background=background))
            if not self._open and not background:
                self._busy = anyio.Event()

    async def _end(
        self, covered: Sequence[str], text: str, failure: Failure | None, conversation: str, usage: Mapping[str, int]
    ) -> None:
        self._open.difference_update(covered)
        background = self._background
        if background:
            self._busy.set()
        elif not self._open:
            self._busy = anyio.Event()
        self._draft = ""  # it would come after the answer
        if not self._open:
            self._note = ""
        end = TurnEnd(
            id=self._next_id(),
            covered=joined(covered),
            text=text,
            conversation=conversation,
            failure=failure,
            usage=Usage(**usage),
            background=background,
        )
        await self._link.deliver(end)

    @property
    def _background(self) -> bool:
        return self._engine.background or strangers()

    def _next_id(self) -> str:
        return f"{self._worker}-{next(self._numbers)}"


async def work(launch: LaunchDocument) -> int:
    """Run the worker to its end; return the exit code: 0 when the host asked for the end, 1 when something broke."""
    spool = Spool(Path(launch.state, ".nanoclaw", "spool.jsonl"))
    spool.load()
    async with anyio.create_task_group() as group:
        port = await group.start(run_relay, launch.socket, _rewrite(launch), name="relay")
        place = Place(
            workspace=Path(launch.workspace),
            state=Path(launch.state),
            gateway=f"http://127.0.0.1:{port}",
            options=launch.options,
        )
        life = _Life(launch, spool)
        group.start_soon(life.end_on_signal, group.cancel_scope, name="signals")
        await life.live(place)
        group.cancel_scope.cancel()
    return life.exit_code


def _rewrite(launch: LaunchDocument) -> Rewrite:
    """How calls of actions go out: with the files that they name handed over before."""
    if launch.files is None:
        return as_it_is
    return Uploads(launch.files, Path(launch.workspace), partial(ask_persistently, launch.socket)).rewrite


class _Life:
    def __init__(self, launch: LaunchDocument, spool: Spool) -> None:
        self._launch = launch
        self._spool = spool
        self.exit_code = 0

    async def live(self, place: Place) -> None:
        """Run link and engine side by side until one of them ends."""
        engine: Engine
        try:
            engine = find_engine(self._launch.engine)(place)
        except (EngineFailed, ValueError) as error:
            engine = _Stillborn(self._launch.engine, error)
        hello = Hello(protocols=PROTOCOLS, worker=self._launch.worker, engine=engine.label)
        link = Link(self._launch.socket, self._launch.secret, hello, self._spool)
        desk = Desk(self._launch.worker, engine, link, self._spool)
        async with anyio.create_task_group() as group:
            group.start_soon(desk.beat, name="heartbeat")
            group.start_soon(desk.tell, name="progress")
            group.start_soon(desk.show, name="preview")
            group.start_soon(self._keep_link, link, desk, group.cancel_scope, name="link")
            await self._run_engine(engine, desk)
            group.cancel_scope.cancel()

    async def end_on_signal(self, scope: anyio.CancelScope) -> None:
        """Close everything in order when the container is stopped."""
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            async for _ in signals:
                scope.cancel()

    async def _keep_link(self, link: Link, desk: Desk, scope: anyio.CancelScope) -> None:
        try:
            await link.run(desk)
        except LinkEnded as end:
            log.error("the link ended: %s", end)
            self.exit_code = 1
        scope.cancel()

    async def _run_engine(self, engine: Engine, desk: Desk) -> None:
        try:
            await engine.run(desk)
            detail = "the engine ended"
        except Exception as error:  # the boundary: whatever breaks an engine becomes one `failed` frame, and the end
            log.exception("the engine failed")
            detail = _reason(error)
        self.exit_code = 1
        with anyio.move_on_after(LAST_WORDS):
            await desk.died(detail)
            await self._spool.drained()


class _Stillborn:
    """Stands in for an engine that could not be made, so that the host is told why."""

    def __init__(self, name: str, error: Exception) -> None:
        self.label = name
        self.background = False
        self._error = error

    async def run(self, reports: object) -> None:  # noqa: ARG002  # the port's signature
        raise self._error

    async def push(self, uuid: str, text: str) -> None:
        """Nobody is there; the host pushes it to the next worker."""

    async def interrupt(self) -> None:
        """Nothing runs."""


def _reason(error: BaseException) -> str:
    """One line out of an exception; of a group, what the engine itself says, else the first member."""
    if isinstance(error, BaseExceptionGroup):
        return _reason(next((one for one in error.exceptions if isinstance(one, EngineFailed)), error.exceptions[0]))
    return str(error) if isinstance(error, EngineFailed) else f"{type(error).__name__}: {error}"
