"""A shift: everything that workers do for one session, from its first waiting row until nothing waits and the last one is idle.

A shift is one task. Others only leave it signs (a row came, a turn ended, the container died) and ring its bell; the task
looks at what has become of the session and does what is next. What must survive a crash is in the mailbox: pushes are recorded
before they are sent, and acknowledged by the turn end that covers them.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import anyio
import structlog

from nanoclaw_core.errors import ContainerFailed, NanoClawError
from nanoclaw_core.mailbox import Mailbox, NewOutbound, OutstandingPush
from nanoclaw_core.models import Address, AgentGroup, Event, Progress, Push, Row, Session, TurnEnd, Words
from nanoclaw_core.ports import WorkerLink
from nanoclaw_core.store import sessions
from nanoclaw_core.supervise import Pauses, clean_up, sleep_or
from nanoclaw_core.workers import notices
from nanoclaw_core.workers.desk import Desk, Outage, Slots, Terms
from nanoclaw_core.workers.life import Life

log = structlog.get_logger()

MAX_ATTEMPTS = 3  # workers that may die on a message
MAX_LIVES = 6  # workers that may take it at all: a message that takes the host along is not re-run for ever
MAX_OUTSTANDING = 64
_PROMPT_LIMIT = 120_000  # characters of rows in one prompt; what is beyond waits for the next


class Shift:
    """The task `run` and the signs that others leave for it. While it has a worker, it stands in `crew` under its id."""

    def __init__(self, desk: Desk, slots: Slots, outage: Outage, crew: Crew, session: Session, agent_group: AgentGroup) -> None:
        self.session = session
        self.agent_group = agent_group
        self.life: Life | None = None
        self.doing = "waiting for a place"
        self.reply_to: Address | None = None
        self._desk = desk
        self._slots = slots
        self._outage = outage
        self._crew = crew
        self._outstanding: dict[str, OutstandingPush] = {}
        self._bell = anyio.Event()
        self._link: WorkerLink | None = None
        self._last_worker: str | None = None
        self._must_repeat = False
        self._gives_way = False
        self._spoke = False
        self._failures = 0
        self._pauses = Pauses(first=1.0, most=300.0)
        self.idle_since: float | None = None

    # --- signs ------------------------------------------------------------------------------------------------------------

    def ring(self) -> None:
        """Something has changed: look."""
        self._bell.set()

    @property
    def was_rung(self) -> bool:
        """Whether something has changed since the task last looked."""
        return self._bell.is_set()

    @property
    def is_free(self) -> bool:
        """Whether its worker is idle and was not asked yet to give way."""
        return self.doing == "idle" and not self._gives_way

    def give_way(self) -> None:
        """Others wait for a place: end at the next idle moment."""
        self._gives_way = True
        self.ring()

    def linked(self, link: WorkerLink | None) -> None:
        """The runner is connected, again perhaps, or no longer."""
        self._link = link
        self._must_repeat = link is not None
        if self.life:
            self.life.alive(self._desk.clock.monotonic())
        self.ring()

    def lost(self, reason: str) -> None:
        """The worker is dead, or must be."""
        if self.life and not self.life.ended:
            self.life.ended = reason
        self.ring()

    async def progressed(self, progress: Progress) -> None:
        if self.life:
            self.life.alive(self._desk.clock.monotonic())
        if progress.note and self.reply_to and self._outstanding:
            await self._desk.typing(self.reply_to, progress)

    def spoke(self, to: Address) -> None:
        """The agent sent something before the end of its turn."""
        self._spoke = self._spoke or to == self.reply_to

    async def turn_ended(self, end: TurnEnd) -> None:
        """Store the end of a turn: answers, acknowledgements and outcome in one transaction."""
        mailbox = await self._desk.mailboxes.open(self.session)
        if not end.covered:
            await self._say_unasked(end, mailbox)
            return
        covered = [self._outstanding[each] for each in end.covered if each in self._outstanding]
        words = await self._words(end, covered)
        outcome = end.failure.kind.value if end.failure else "answered"
        answers = [NewOutbound(to=each.to, text=each.text) for each in words]
        if not await mailbox.end_turn(end, answers, outcome):
            log.warning("turn.unknown", session=self.session.id, frame=end.id)
            return
        for each in covered:
            self._outstanding.pop(each.push.uuid, None)
        self._failures, self._spoke = 0, False
        self._pauses.reset()
        if not self._outstanding:
            self.idle_since = self._desk.clock.monotonic()
        self._desk.deliver(self.session.id)
        self._report_turn(end, outcome)
        self.ring()

    async def _say_unasked(self, end: TurnEnd, mailbox: Mailbox) -> None:
        """The agent speaks on its own, as when a command in the background has ended: to the chat that it last answered."""
        if end.failure or self.reply_to is None:
            log.warning("turn.unasked", session=self.session.id, frame=end.id, failure=end.failure and end.failure.kind)
            return
        for number, each in enumerate(await self._desk.dialogue.answers(self.agent_group, self.reply_to, end.text)):
            await self.queue(mailbox, f"unasked-{end.id}-{number}", NewOutbound(to=each.to, text=each.text))

    async def queue(self, mailbox: Mailbox, key: str, row: NewOutbound) -> None:
        """Have `row` delivered, once for each `key`. The session is marked first, so that the next host looks for it, too."""
        await self._desk.database.write(partial(sessions.mark_attention, session_id=self.session.id))
        await mailbox.add_outbound(key, row)
        self._desk.deliver(self.session.id)

    # --- the task ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run workers for the session until it has nothing to do."""
        mailbox = await self._desk.mailboxes.open(self.session)
        while True:
            self._outstanding = {each.push.uuid: each for each in await mailbox.outstanding()}
            for each in self._outstanding.values():
                self.reply_to = each.address  # an engine may take up its turn before it is pushed again
            if not self._outstanding and not await mailbox.waiting(1):
                return
            if given_up := [row for each in self._outstanding.values() if each.attempts >= MAX_LIVES for row in each.rows]:
                await self._fail(mailbox, given_up, notices.of_lost_worker(MAX_LIVES, "the host ended, too."))
                continue
            self.doing = "waiting for a place"
            try:
                async with self._slots.worker():
                    await self._live(mailbox)
            except NanoClawError as error:
                await self._bear(error, mailbox)
                self.doing = f"waiting: {error}"
                await self._outage.pause(self._desk.clock, self._pauses.next())  # which new messages do not cut short

    async def _live(self, mailbox: Mailbox) -> None:
        """One worker: start it, serve it, end it whatever happens."""
        self._outage.check()
        await self._desk.require_room()
        self.idle_since, self._gives_way, self._link = None, False, None
        self.doing = "starting"
        life = self.life = Life.of(self._desk, self.session, self.agent_group, self._last_worker)
        self._last_worker = life.worker_id
        self._crew[life.worker_id] = self
        reason = "the host stopped"
        try:
            async with self._slots.start():
                await life.begin(mailbox, resume=bool(self._outstanding))
                while not self._is_linked:
                    await self._next_sign(life)
            await self._take_over(mailbox, life)
            await self._serve(life, mailbox)
            reason = "idle"
        except NanoClawError as error:
            reason = str(error)
            raise
        finally:
            async with clean_up(self._desk.terms.stop_grace + 10):
                await self._end(life, reason)

    async def _take_over(self, mailbox: Mailbox, life: Life) -> None:
        """Count this worker among those that took what its predecessors left."""
        await mailbox.begin_attempt(list(self._outstanding), life.worker_id)
        taken = {uuid: replace(each, attempts=each.attempts + 1) for uuid, each in self._outstanding.items()}
        self._outstanding = taken

    async def _serve(self, life: Life, mailbox: Mailbox) -> None:
        """Push what waits; return when the worker has been idle for long enough, or others need its place."""
        while True:
            await self._push_waiting(mailbox, life)
            if self._outstanding or not self._is_linked:
                self.doing, self.idle_since = "working", None
            else:
                self.doing = "idle"
                now = self._desk.clock.monotonic()
                self.idle_since = now if self.idle_since is None else self.idle_since
                is_over = now - self.idle_since >= self._desk.terms.idle_timeout
                if is_over or self._gives_way or self._slots.waiting:
                    return
            await self._next_sign(life)

    async def _next_sign(self, life: Life) -> None:
        """Wait for the bell, or until the worker's patience ends.

        Raises:
            ContainerFailed: it is dead, or silent for too long. RuntimeUnavailable: silent, and its runtime is away.
        """
        bell, now = self._bell, self._desk.clock.monotonic()
        life.check()
        silent_at = life.last_sign + self._silence(self._desk.terms)
        if now >= silent_at and self.idle_since is None:
            self._outage.check()
            raise ContainerFailed(life.name, f"it gave no sign of life for {silent_at - life.last_sign:.0f} s")
        until = silent_at if self.idle_since is None else self.idle_since + self._desk.terms.idle_timeout
        await sleep_or(self._desk.clock, until - now, bell)
        if bell is self._bell:
            self._bell = anyio.Event()

    @property
    def _is_linked(self) -> bool:
        return self._link is not None

    def _silence(self, terms: Terms) -> float:
        """For how many seconds a worker may be silent: less before it has reported, or after its link broke."""
        return terms.hung_timeout if self._link else terms.start_timeout

    async def _push_waiting(self, mailbox: Mailbox, life: Life) -> None:
        if self._link is None:
            return
        if self._must_repeat:
            self._must_repeat = False
            for each in list(self._outstanding.values()):
                self.reply_to = each.address
                await self._link.push(each.push)
        while self._takes_more and (rows := self._next(await mailbox.waiting())):
            if not self._outstanding:
                await self._desk.require_room()
            await self._push(mailbox, life, rows)

    @property
    def _takes_more(self) -> bool:
        """What a worker left is done first and alone: it may break this worker, too, and should break nothing else."""
        is_new = all(each.attempts == 1 for each in self._outstanding.values())
        return is_new and len(self._outstanding) < MAX_OUTSTANDING

    def _next(self, waiting: Sequence[Row]) -> list[Row]:
        """What goes into the next prompt: rows of one address, that of the running turn if there is one, until it is full."""
        if not waiting:
            return []
        reply_to = next((each.address for each in self._outstanding.values()), waiting[0].address)
        rows: list[Row] = []
        size = 0
        for row in waiting:
            if row.address != reply_to or (rows and size + len(row.text) > _PROMPT_LIMIT):
                break
            rows.append(row)
            size += len(row.text)
        return rows

    async def _push(self, mailbox: Mailbox, life: Life, rows: Sequence[Row]) -> None:
        ids = [row.id for row in rows]
        undelivered = await mailbox.untold()
        text = await self._desk.dialogue.prompt(self.agent_group, rows, undelivered)
        push = Push(uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, "nanoclaw:push:" + ",".join(ids))), text=text)
        await mailbox.record_push(push, ids, life.worker_id, [each.seq for each in undelivered])
        reply_to = self.reply_to = rows[0].address
        self._outstanding[push.uuid] = OutstandingPush(
            push=push, rows=tuple(rows), address=reply_to, attempts=1, worker_id=life.worker_id
        )
        life.alive(self._desk.clock.monotonic())
        if self._link:
            await self._link.push(push)

    async def _end(self, life: Life, reason: str) -> None:
        self.doing = "ending"
        if self._link:
            await self._link.shutdown()
        await life.end(reason)
        del self._crew[life.worker_id]
        self.life = self._link = None

    # --- when it fails ----------------------------------------------------------------------------------------------------

    async def _bear(self, error: NanoClawError, mailbox: Mailbox) -> None:
        """Say what is waited for; give up what has failed too often."""
        log.warning("worker.failed", session=self.session.id, agent=self.agent_group.name, reason=str(error))
        if not isinstance(error, ContainerFailed):
            await self._say_once(error, mailbox)
            return
        self._failures += 1
        poisoned = [row for each in self._outstanding.values() if each.attempts >= MAX_ATTEMPTS for row in each.rows]
        if not poisoned and self._failures >= MAX_ATTEMPTS:  # workers do not even begin
            poisoned = [row for each in self._outstanding.values() for row in each.rows] + await mailbox.waiting()
        if poisoned:
            await self._fail(mailbox, poisoned, notices.of_lost_worker(MAX_ATTEMPTS, str(error)))
            self._failures = 0

    async def _fail(self, mailbox: Mailbox, rows: Sequence[Row], text: str) -> None:
        """End rows without an answer, and say so."""
        await mailbox.fail_rows([row.id for row in rows], [NewOutbound(to=rows[0].address, text=text)], "failed")
        self._desk.deliver(self.session.id)

    async def _say_once(self, error: NanoClawError, mailbox: Mailbox) -> None:
        """Tell the chat why its message waits, once for each message and kind of trouble."""
        rows = [row for each in self._outstanding.values() for row in each.rows] or await mailbox.waiting(1)
        if rows:
            notice = NewOutbound(to=rows[-1].address, text=notices.of_waiting(str(error)))
            await self.queue(mailbox, f"waiting-{rows[-1].id}-{type(error).__name__}", notice)

    async def _words(self, end: TurnEnd, covered: Sequence[OutstandingPush]) -> list[Words]:
        """What people are told at the end of a turn: the answer, or why there is none; never nothing."""
        if not covered:
            return []
        reply_to = covered[-1].address
        if end.failure:
            return [Words(to=reply_to, text=notices.of_failure(end.failure))]
        words = await self._desk.dialogue.answers(self.agent_group, reply_to, end.text)
        if not self._spoke and all(each.to != reply_to for each in words):
            words.append(Words(to=reply_to, text=notices.NO_ANSWER))
        return words

    def _report_turn(self, end: TurnEnd, outcome: str) -> None:
        if end.failure:  # its detail is for the chat: a provider may repeat there what people wrote
            kind, status = end.failure.kind.value, end.failure.status
            log.warning("turn.failed", session=self.session.id, agent=self.agent_group.name, kind=kind, status=status)
        data = {
            "agent": self.agent_group.name,
            "session": self.session.id,
            "outcome": outcome,
            "input_tokens": end.usage.input_tokens,
            "output_tokens": end.usage.output_tokens,
            "model_calls": end.usage.model_calls,
        }
        self._desk.tell(Event(name="turn.ended", at=self._desk.clock.time(), data=data))


Crew = dict[str, Shift]
"""The shifts that have a worker, by its id."""
