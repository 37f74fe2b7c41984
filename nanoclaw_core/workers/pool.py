"""All shifts of this host: who works, who waits, which containers are alive."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from nanoclaw_core.errors import RuntimeUnavailable
from nanoclaw_core.mailbox import MailboxUnusable
from nanoclaw_core.models import Address, ContainerState, Progress, Session, TurnEnd
from nanoclaw_core.ports import WorkerLink
from nanoclaw_core.sandbox.orphans import discard, sweep
from nanoclaw_core.sandbox.spec import INSTALLATION_LABEL, WORKER_LABEL
from nanoclaw_core.store import agents, chats, sessions, workers
from nanoclaw_core.store.workers import WorkerRecord
from nanoclaw_core.supervise import Callers, Pauses, first_of, survive
from nanoclaw_core.workers import notices
from nanoclaw_core.workers.actions import RecordedCalls
from nanoclaw_core.workers.desk import Desk, Outage
from nanoclaw_core.workers.life import Life, can_be_adopted
from nanoclaw_core.workers.shift import Shift
from nanoclaw_core.workers.slots import Slots

log = structlog.get_logger()

#: Bytes that a worker is taken to hold until it was measured at rest: Claude Code takes 110 to 150 MiB, its commands the rest.
TYPICAL_MEMORY = 256 * 1024 * 1024

#: How a runner ends that finds something else mounted than was looked at.
_EXCHANGED = 77


class Pool:
    """Starts a shift for every session that has work. It is the `WorkerEvents` of the gateway."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._shifts: dict[str, Shift] = {}
        self._crew: dict[str, Shift] = {}
        self._slots = Slots(
            turns=desk.terms.max_turns,
            starting=desk.terms.starts_at_once,
            memory=desk.terms.max_memory,
            typical=TYPICAL_MEMORY,
            make_room=self._make_room,
            has_room=desk.has_room,
        )
        self._outage = Outage(runtime=desk.terms.runtime)
        self._callers = Callers()
        self.actions = RecordedCalls(desk, self._shifts)

    # --- what the neighbours call -----------------------------------------------------------------------------------------

    def wake(self, session_id: str) -> None:
        """A row waits in this session."""
        if shift := self._shifts.get(session_id):
            shift.ring()
        else:
            self._callers.ask(session_id)

    def stop(self, session_id: str) -> None:
        """A row with `/stop` waits in this session: it does not wait for its turn."""
        if shift := self._shifts.get(session_id):
            shift.stop()
        else:
            self._callers.ask(session_id)

    def renew(self, agent_group_id: str) -> None:
        """What this agent's containers are made of has changed: its workers end as soon as they have nothing to do."""
        for shift in self._crew.values():
            if shift.agent_group.id == agent_group_id:
                shift.give_way()

    @property
    def shifts(self) -> list[Shift]:
        """Those of all sessions that have work, or an idle worker."""
        return list(self._shifts.values())

    def status(self) -> dict[str, object]:
        """For `nanoclaw status`: what the runtime is like, who works and who waits."""
        return {
            "runtime": self._outage.reason or "running",
            "waiting": self._slots.waiting,
            "sessions": [
                {
                    "session": shift.session.id,
                    "agent": shift.agent_group.name,
                    "worker": shift.life.worker_id if shift.life else None,
                    "container": shift.life.name if shift.life else None,
                    "state": shift.doing,
                }
                for shift in self._shifts.values()
            ],
        }

    # --- WorkerEvents -----------------------------------------------------------------------------------------------------

    async def connected(self, worker_id: str, link: WorkerLink) -> None:
        if shift := self._crew.get(worker_id):
            shift.linked(link)

    async def disconnected(self, worker_id: str) -> None:
        if shift := self._crew.get(worker_id):
            shift.linked(None)

    async def turn_ended(self, worker_id: str, end: TurnEnd) -> None:
        if shift := self._crew.get(worker_id):
            try:
                await shift.turn_ended(end)
            except MailboxUnusable as error:
                shift.lost(f"the end of its turn cannot be stored: {error}")
                raise

    async def progressed(self, worker_id: str, progress: Progress) -> None:
        if shift := self._crew.get(worker_id):
            await shift.progressed(progress)

    async def previewed(self, worker_id: str, text: str) -> None:
        if shift := self._crew.get(worker_id):
            shift.previewed(text)

    async def failed(self, worker_id: str, detail: str) -> None:
        if shift := self._crew.get(worker_id):
            shift.lost(detail)

    # --- the tasks --------------------------------------------------------------------------------------------------------

    async def run(self, task_status: TaskStatus[None]) -> None:
        """Work until cancelled: idle workers are then ended, those at work are left to the next host."""
        self._crew.clear()  # of a run that failed: they are adopted like those of another host
        async with anyio.create_task_group() as tasks:
            asked = anyio.Event()
            tasks.start_soon(self._watch, asked, tasks)
            await asked.wait()
            task_status.started()
            for session, _ in await self._desk.database.read(sessions.attention):
                self.wake(session.id)
            while True:
                session_id = await self._callers.next()
                if session_id not in self._shifts and await survive("shift", self._begin(session_id, tasks)):
                    tasks.start_soon(self._begin_later, session_id)

    async def _begin_later(self, session_id: str) -> None:
        await self._desk.clock.sleep(5)
        self.wake(session_id)

    async def _begin(self, session_id: str, tasks: TaskGroup) -> None:
        self._go(await self._shift_of(session_id), tasks)

    async def _shift_of(self, session_id: str) -> Shift:
        """A shift for the session, which does nothing yet."""
        session = await self._desk.database.read(partial(sessions.session, session_id=session_id))
        agent = await self._desk.database.read(partial(agents.agent_group, agent_group_id=session.agent_group_id))
        return Shift(self._desk, self._slots, self._outage, self._crew, session, agent)

    def _go(self, shift: Shift, tasks: TaskGroup) -> None:
        if shift.session.id in self._shifts:
            return  # begun while this one was being made
        self._shifts[shift.session.id] = shift
        tasks.start_soon(self._work, shift, name=f"shift {shift.agent_group.name}")

    async def _work(self, shift: Shift) -> None:
        """One shift, and beside it what is shown of its answers."""
        try:
            await first_of(shift.exchange.preview.run, partial(self._persist, shift))
        finally:
            del self._shifts[shift.session.id]
        if shift.was_rung:
            self.wake(shift.session.id)  # a row came between the shift's last look and its end

    async def _persist(self, shift: Shift) -> None:
        """Whatever breaks a shift, it is tried again, and its chat is told once."""
        pauses = Pauses(first=1.0, most=300.0)
        while failure := await survive("shift", shift.run()):
            shift.doing = f"waiting: {failure}"
            if pauses.count == 0:
                await survive("notice", self._excuse(shift, failure))
            await self._desk.clock.sleep(pauses.next())

    async def _excuse(self, shift: Shift, reason: str) -> None:
        """Tell the chat why its message waits, past the mailbox, which may be the very thing that is broken."""
        await self._desk.say(await self._home_of(shift.session), notices.of_waiting(reason))

    async def _home_of(self, session: Session) -> Address:
        """The chat that a session belongs to."""
        read_chat = partial(chats.messaging_group, messaging_group_id=session.messaging_group_id)
        chat = await self._desk.database.read(read_chat)
        return Address(channel=chat.channel, account=chat.account, chat=chat.chat, thread=session.thread)

    def _make_room(self, count: int) -> None:
        """Have so many of those that rest end: first who has rested longest, last who left something running."""
        leaving = sum(shift.is_leaving for shift in self._crew.values())
        free = sorted((shift for shift in self._crew.values() if shift.is_free), key=lambda shift: shift.rank_of_rest)
        for shift in free[: max(0, count - leaving)]:
            shift.give_way()

    # --- containers that end ----------------------------------------------------------------------------------------------

    async def _watch(self, asked: anyio.Event, tasks: TaskGroup) -> None:
        """Notice dead containers, and the runtime's coming and going, at once; `asked` is set when the first news is in."""
        pauses = Pauses(first=0.5, most=15.0)
        labels = {INSTALLATION_LABEL: self._desk.terms.installation}
        while True:
            try:
                async for ended in self._desk.runtime.watch(labels):
                    await (self._compare(labels, tasks) if ended is None else self._bury(ended))
                    pauses.reset()
                    self._outage.end()
                    asked.set()
            except RuntimeUnavailable as error:
                if not self._outage.reason:
                    log.error("runtime.unavailable", reason=str(error))
                self._outage.begin(error.reason)
            asked.set()
            await self._desk.clock.sleep(pauses.next())

    async def _compare(self, labels: Mapping[str, str], tasks: TaskGroup) -> None:
        """Find what ended unnoticed, adopt what a host that is no more has left at work, and remove what else nobody owns."""
        desk = self._desk
        ours = [(shift, shift.life) for shift in self._crew.values() if shift.life and shift.life.container_id]
        records = await desk.database.read(workers.live_workers)
        present = {state.labels.get(WORKER_LABEL, ""): state for state in await desk.runtime.containers(labels)}
        for shift, life in ours:
            state = present.get(life.worker_id)
            if shift.life is life and (state is None or not state.running):
                shift.lost(_cause(state))
        lost = [record for record in records if record.id not in self._crew]
        adopted = [await self._adopt(record, present.get(record.id), tasks) for record in lost]
        # The crew itself, not a copy of it: who comes meanwhile belongs to it, too.
        orphans = await sweep(desk.runtime, desk.terms.installation, self._crew, self._logs)
        log.info("runtime.available", adopted=sum(adopted), swept=len(orphans))

    async def _adopt(self, record: WorkerRecord, container: ContainerState | None, tasks: TaskGroup) -> bool:
        """Go on with a worker that another host began. Where that cannot be, its claim ends, and its rows are done again."""
        desk = self._desk
        if container is not None and can_be_adopted(container):
            adopt = partial(workers.adopt_worker, worker_id=record.id, container_id=container.id, now=desk.clock.time())
            adoptions = await desk.database.write(adopt)
            fresh = await self._shift_of(record.session_id)
            home = await self._home_of(fresh.session)
            shift = self._shifts.get(record.session_id, fresh)
            shift.exchange.reply_to = shift.exchange.reply_to or home
            if adoptions is not None and shift.life is None:
                shift.take(Life.adopted(desk, shift.session, shift.agent_group, record, container, adoptions))
                if shift is fresh:
                    self._go(shift, tasks)
                return True
        await survive("worker door", desk.doors().close(record.id))
        ended = partial(workers.end_worker, worker_id=record.id, reason="its host ended", now=desk.clock.time())
        await desk.database.write(ended)
        return False

    async def _bury(self, ended: ContainerState) -> None:
        if shift := self._crew.get(ended.labels.get(WORKER_LABEL, "")):
            shift.lost(_cause(ended))
        elif ended.id in {state.id for state in await self._desk.runtime.containers(ended.labels)}:
            # A start that a dead host had begun, and that has come to nothing only now.
            await discard(self._desk.runtime, ended, self._logs)

    @property
    def _logs(self) -> Path:
        return self._desk.terms.home / "logs" / "workers"


def _cause(state: ContainerState | None) -> str:
    if state is None:
        return "its container was removed"
    if state.out_of_memory:
        return "it used more memory than it may (NANOCLAW_WORKER_MEMORY)"
    if state.exit_code == _EXCHANGED:
        return "a folder was exchanged while it was being mounted (`nanoclaw mount list`)"
    return f"its container ended with code {state.exit_code}"
