"""One worker's life: its claim in the database, its door, its container; made in this order, undone in the other.

A life may go on under another host than the one that began it: what that needs to know is in the claim and in the
container's labels, so that a host may be killed between any two steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, Self

import structlog
from anyio import to_thread

from nanoclaw_core.errors import ContainerFailed, RuntimeUnavailable
from nanoclaw_core.mailbox import Mailbox
from nanoclaw_core.models import AgentGroup, ContainerState, Event, Session, WorkerIdentity
from nanoclaw_core.ports import MeasuringRuntime, PausingRuntime
from nanoclaw_core.sandbox.orphans import discard
from nanoclaw_core.sandbox.spec import PROTOCOL_LABEL, SUPPORTED, WorkerPlace, container_name, prepare_folder, worker_spec
from nanoclaw_core.store import workers
from nanoclaw_core.store.workers import WorkerRecord
from nanoclaw_core.supervise import clean_up, survive
from nanoclaw_core.workers.desk import Desk
from nanoclaw_core.workers.launch import first_conversation, launch_document, new_identity

log = structlog.get_logger()

_SPOKEN: Final = frozenset(map(str, SUPPORTED))


@dataclass(slots=True, kw_only=True)
class Life:
    """A worker between its claim and its end; `after` is the session's worker before it.

    `ended` is set from outside when its container dies or it must be given up. `is_placed` is whether the runtime was asked for
    a container; `has_background` whether its agent left something running there; `adoptions` counts the hosts that died on this
    worker since it last finished a turn.
    """

    desk: Desk
    session: Session
    identity: WorkerIdentity
    name: str
    secret: str = field(default="", repr=False)
    after: str | None = None
    container_id: str | None = None
    is_placed: bool = False
    is_paused: bool = False
    has_background: bool = False
    adoptions: int = 0
    ended: str = ""
    last_sign: float = 0.0
    _pauses: bool = True

    @classmethod
    def of(cls, desk: Desk, session: Session, agent_group: AgentGroup, after: str | None = None) -> Self:
        """A life that has not begun."""
        identity, secret = new_identity(session, agent_group)
        desk.hide(secret)
        name = container_name(agent_group.name, identity.worker_id)
        now = desk.clock.monotonic()
        return cls(desk=desk, session=session, identity=identity, name=name, secret=secret, after=after, last_sign=now)

    @classmethod
    def adopted(
        cls,
        desk: Desk,
        session: Session,
        agent_group: AgentGroup,
        record: WorkerRecord,
        container: ContainerState,
        adoptions: int,
    ) -> Self:
        """A life that a host before this one began: `go_on` takes it up."""
        identity = WorkerIdentity(
            worker_id=record.id, session_id=session.id, agent_group=agent_group, secret_hash=record.secret_hash
        )
        return cls(
            desk=desk,
            session=session,
            identity=identity,
            name=container.name,
            container_id=container.id,
            is_placed=True,
            is_paused=container.paused,
            adoptions=adoptions,
            last_sign=desk.clock.monotonic(),
        )

    @property
    def worker_id(self) -> str:
        return self.identity.worker_id

    def alive(self, now: float) -> None:
        """It gave a sign of life at `now` (monotonic seconds)."""
        self.last_sign = now

    def check(self) -> None:
        """Raise what ended it, if anything did."""
        if self.ended:
            raise ContainerFailed(self.name, self.ended)

    async def begin(self, mailbox: Mailbox, *, resume: bool, stream: bool = False) -> None:
        """Claim the session, open the door, start the container; with `resume` it goes on with a turn that was cut.

        With `stream`, its engine tells what it writes while it writes.

        Its engine is told what was called in that turn: it forgets a call whose result it did not live to write down.
        """
        desk = self.desk
        image = await desk.image()
        claim = partial(
            workers.claim_worker,
            worker_id=self.worker_id,
            session_id=self.session.id,
            secret_hash=self.identity.secret_hash,
            image=image,
            now=desk.clock.time(),
            after=self.after,
        )
        if not await desk.database.write(claim):
            raise ContainerFailed(self.name, "another worker already serves this session")
        sockets = await desk.doors().open(self.identity)
        granted = await desk.folders(self.identity.agent_group)
        extras = tuple(each.mount for each in granted.seen)
        spec = worker_spec(replace(await to_thread.run_sync(self._place, sockets, image), extras=extras))
        options = {
            "conversation": await mailbox.conversation() or first_conversation(self.session),
            "instructions": await desk.dialogue.instructions(self.identity.agent_group) + granted.words,
            "model": self.identity.agent_group.model or desk.terms.model,
            "resume_interrupted": resume,
            "stream": stream,
        }
        if resume and (earlier := await mailbox.earlier_calls()):
            options["resume_prompt"] = await desk.dialogue.reminder(self.identity.agent_group, earlier)
        document = launch_document(self.identity, self.secret, desk.terms.engine, options, desk.file_rules, granted.seen)
        self.is_placed = True
        container_id = self.container_id = await desk.runtime.start(spec, document)
        started = partial(workers.started, worker_id=self.worker_id, container_id=container_id, now=desk.clock.time())
        await desk.database.write(started)
        self.alive(desk.clock.monotonic())
        self._tell("worker.started")

    async def go_on(self) -> None:
        """Open the door in the folder that the container has mounted: its runner is knocking there."""
        desk = self.desk
        await desk.doors().open(self.identity)
        await self.wake()
        self.alive(desk.clock.monotonic())
        self._tell("worker.adopted")

    # --- while it rests ---------------------------------------------------------------------------------------------------

    @property
    def can_pause(self) -> bool:
        """Whether it could be frozen now: nothing goes on in it, and the runtime knows how."""
        return self._pauses and not self.is_paused and not self.has_background and isinstance(self.desk.runtime, PausingRuntime)

    async def pause(self) -> bool:
        """Freeze it, so that it uses no core; False where that cannot be, which is not tried again before it has worked."""
        assert isinstance(self.desk.runtime, PausingRuntime)  # noqa: S101  # see `can_pause`
        self.is_paused = True  # also when this is cut off: to wake one that is awake is harmless
        try:
            await self.desk.runtime.pause(self._container)
        except (ContainerFailed, RuntimeUnavailable) as error:
            self._pauses = self.is_paused = False
            log.warning("worker.not_paused", worker=self.worker_id, reason=str(error))
        return self.is_paused

    async def wake(self) -> None:
        """Let it go on."""
        self._pauses = True
        if self.is_paused and isinstance(self.desk.runtime, PausingRuntime):
            await self.desk.runtime.resume(self._container)
            self.is_paused = False

    async def memory(self) -> int | None:
        """The bytes that it holds; None where the runtime does not tell."""
        if not isinstance(self.desk.runtime, MeasuringRuntime):
            return None
        try:
            return await self.desk.runtime.memory(self._container)
        except RuntimeUnavailable:
            return None

    @property
    def _container(self) -> str:
        assert self.container_id is not None  # noqa: S101  # only what was started rests
        return self.container_id

    async def proved(self) -> None:
        """It finished a turn: that its hosts died before is no sign against it."""
        if self.adoptions:
            self.adoptions = 0
            await self.desk.database.write(partial(workers.forget_adoptions, worker_id=self.worker_id))

    def _place(self, sockets: Path, image: str) -> WorkerPlace:
        """Make the folders that the container gets; runs in a thread."""
        terms = self.desk.terms
        workspace = terms.home / "groups" / self.identity.agent_group.folder
        state, inbox = (terms.home / self.session.folder / name for name in ("state", "inbox"))
        workspace.parent.mkdir(mode=0o700, exist_ok=True)
        inbox.mkdir(parents=True, exist_ok=True)
        inbox.chmod(0o755)  # the worker's user is another one; the folders above keep everybody else out
        uid, gid = (int(number) for number in terms.user.split(":"))
        for folder in (workspace, state):
            prepare_folder(folder, uid, gid)
        return WorkerPlace(
            identity=self.identity,
            installation_id=terms.installation,
            image=image,
            user=terms.user,
            sockets=sockets,
            inbox=inbox,
            workspace=workspace,
            state=state,
            limits=terms.limits,
            timezone=terms.timezone,
        )

    async def leave(self) -> None:
        """Hand it over to the next host: it goes on, and knocks until somebody opens."""
        async with clean_up():
            forget = partial(workers.forget_adoptions, worker_id=self.worker_id)
            await survive("worker hand-over", self.desk.database.write(forget))
        self._tell("worker.left")

    async def end(self, reason: str) -> None:
        """Undo all of it, step by step: none of them keeps the next from being tried, nor does a runtime that hangs.

        A worker of a host that has lost its database belongs to the host that took over: it is left as it is.
        """
        if self.desk.database.is_lost:
            return
        if self.container_id:
            async with clean_up(self.desk.terms.stop_grace + 5):
                await survive("worker stop", self._remove(self.container_id))
        async with clean_up():
            await survive("worker door", self.desk.doors().close(self.worker_id))
            now = self.desk.clock.time()
            ended = partial(workers.end_worker, worker_id=self.worker_id, reason=reason, now=now)
            await survive("worker end", self.desk.database.write(ended))
        self._tell("worker.ended", reason)

    async def _remove(self, container_id: str) -> None:
        terms = self.desk.terms
        container = ContainerState(id=container_id, name=self.name, labels={}, running=True)
        await discard(self.desk.runtime, container, terms.home / "logs" / "workers", grace=terms.stop_grace)

    def _tell(self, name: str, reason: str | None = None) -> None:
        data = {"worker": self.worker_id, "agent": self.identity.agent_group.name, "session": self.session.id, "reason": reason}
        self.desk.tell(Event(name=name, at=self.desk.clock.time(), data=data))


def can_be_adopted(container: ContainerState) -> bool:
    """Whether a host can go on with what runs in `container`: it lives, and speaks a protocol that we speak, too."""
    return container.running and container.labels.get(PROTOCOL_LABEL) in _SPOKEN
