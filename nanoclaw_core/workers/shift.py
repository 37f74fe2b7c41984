"""A shift: everything that workers do for one session, from its first waiting row until nothing waits and the last one is idle.

A shift is one task. Others only leave it signs (a row came, a turn ended, the container died) and ring its bell; the task
looks at what has become of the session and does what is next. What must survive a crash is in the mailbox: pushes are recorded
before they are sent, and acknowledged by the turn end that covers them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import anyio
import structlog

from nanoclaw_core.errors import ContainerFailed, NanoClawError
from nanoclaw_core.mailbox import Mailbox, NewOutbound, OutstandingPush
from nanoclaw_core.models import Address, AgentGroup, Event, Progress, Row, Session, TurnEnd
from nanoclaw_core.ports import WorkerLink
from nanoclaw_core.store import sessions
from nanoclaw_core.supervise import Pauses, clean_up, sleep_or
from nanoclaw_core.workers import notices
from nanoclaw_core.workers.crew import Crew
from nanoclaw_core.workers.desk import Desk, Outage, Slots, Terms
from nanoclaw_core.workers.life import Life
from nanoclaw_core.workers.turns import last_words, push_of, rows_of_one_prompt, tokens

log = structlog.get_logger()

MAX_ATTEMPTS = 3  # workers that may die on a message
MAX_LIVES = 6  # workers that may take it at all: a message that takes the host along is not re-run for ever
MAX_OUTSTANDING = 64


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

    def take(self, life: Life) -> None:
        """Have this worker from now on."""
        self.life, self._last_worker = life, life.worker_id
        self._crew[life.worker_id] = self

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
        words = await last_words(self._desk.dialogue, self.agent_group, end, covered, spoke=self._spoke)
        outcome = end.failure.kind.value if end.failure else "answered"
        answers = [NewOutbound(to=each.to, text=each.text) for each in words]
        if not await mailbox.end_turn(end, answers, outcome):
            log.warning("turn.unknown", session=self.session.id, frame=end.id)
            return
        for each in covered:
            self._outstanding.pop(each.push.uuid, None)
        if self.life:
            await self.life.proved()
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
            if not self._outstanding and not await mailbox.waiting(1) and self.life is None:
                return
            if hopeless := self._hopeless:
                await self._fail(mailbox, hopeless, notices.of_lost_worker(MAX_LIVES, "the host ended, too."))
                if self.life:
                    await self._part(self.life, "hosts died on it too often")
                continue
            self.doing = "waiting for a place"
            try:
                async with self._slots.worker(is_there=self.life is not None):
                    await self._live(mailbox, self.life or await self._new_life())
            except NanoClawError as error:
                await self._bear(error, mailbox)
                self.doing = f"waiting: {error}"
                if self.life is None:  # else it was adopted just now
                    await self._outage.pause(self._desk.clock, self._pauses.next())  # which new messages do not cut short

    @property
    def _hopeless(self) -> list[Row]:
        """The rows that so many workers and hosts have died on that nobody shall try them again."""
        adoptions = self.life.adoptions if self.life else 0
        return [row for each in self._outstanding.values() if each.attempts + adoptions >= MAX_LIVES for row in each.rows]

    async def _new_life(self) -> Life:
        self._outage.check()
        await self._desk.require_room()
        return Life.of(self._desk, self.session, self.agent_group, self._last_worker)

    async def _live(self, mailbox: Mailbox, life: Life) -> None:
        """One worker: start it or go on with it, serve it, and part with it whatever happens."""
        self.idle_since, self._gives_way = None, False
        self.take(life)
        reason = "the host failed"
        try:
            await (self._go_on(life) if life.container_id else self._start(life, mailbox))
            await self._take_over(mailbox, life)
            await self._serve(life, mailbox)
            reason = "idle"
        except NanoClawError as error:
            reason = str(error)
            raise
        except anyio.get_cancelled_exc_class():
            reason = "" if self._outlives_us(life) else "the host stopped"
            raise
        finally:
            await self._part(life, reason)

    async def _start(self, life: Life, mailbox: Mailbox) -> None:
        self.doing = "starting"
        async with self._slots.start():
            await life.begin(mailbox, resume=bool(self._outstanding))
            await self._linked(life)

    async def _go_on(self, life: Life) -> None:
        self.doing = "returning"
        await life.go_on()
        await self._linked(life)

    async def _linked(self, life: Life) -> None:
        while self._link is None:
            await self._next_sign(life)

    def _outlives_us(self, life: Life) -> bool:
        """Whether the worker has something to do that the next host can take up, or nobody knows yet how its start ends."""
        return life.is_placed and not life.ended and (bool(self._outstanding) or life.container_id is None)

    async def _take_over(self, mailbox: Mailbox, life: Life) -> None:
        """Count this worker among those that took what its predecessors left."""
        left = [uuid for uuid, each in self._outstanding.items() if each.worker_id != life.worker_id]
        await mailbox.begin_attempt(left, life.worker_id)
        for uuid in left:
            if each := self._outstanding.get(uuid):  # its end may have come meanwhile
                self._outstanding[uuid] = replace(each, attempts=each.attempts + 1, worker_id=life.worker_id)

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
                if is_over or self._gives_way or self._slots.is_short or self._crew.dismissed:
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
        while self._takes_more and (waiting := await mailbox.waiting()):
            reply_to = next((each.address for each in self._outstanding.values()), None)
            if not (rows := rows_of_one_prompt(waiting, reply_to)):
                return
            if not self._outstanding:
                await self._desk.require_room()
            await self._push(mailbox, life, rows)

    @property
    def _takes_more(self) -> bool:
        """What a worker left is done first and alone: it may break this worker, too, and should break nothing else."""
        is_new = all(each.attempts == 1 for each in self._outstanding.values())
        return is_new and len(self._outstanding) < MAX_OUTSTANDING and not self._crew.dismissed

    async def _push(self, mailbox: Mailbox, life: Life, rows: Sequence[Row]) -> None:
        undelivered = await mailbox.untold()
        push = push_of(rows, await self._desk.dialogue.prompt(self.agent_group, rows, undelivered))
        await mailbox.record_push(push, [row.id for row in rows], life.worker_id, [each.seq for each in undelivered])
        reply_to = self.reply_to = rows[0].address
        self._outstanding[push.uuid] = OutstandingPush(
            push=push, rows=tuple(rows), address=reply_to, attempts=1, worker_id=life.worker_id
        )
        life.alive(self._desk.clock.monotonic())
        if self._link:
            await self._link.push(push)

    async def _part(self, life: Life, reason: str) -> None:
        """End the worker for `reason`. Without any it goes on, and what it says is stored for as long as its door is open."""
        self.doing = "ending"
        if not reason or self._desk.database.is_lost:
            await life.leave()
            return
        async with clean_up():
            if self._link:
                await self._link.shutdown()
        await life.end(reason)
        self._crew.leave(life.worker_id)
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

    def _report_turn(self, end: TurnEnd, outcome: str) -> None:
        if end.failure:  # its detail is for the chat: a provider may repeat there what people wrote
            kind, status = end.failure.kind.value, end.failure.status
            log.warning("turn.failed", session=self.session.id, agent=self.agent_group.name, kind=kind, status=status)
        data = {"agent": self.agent_group.name, "session": self.session.id, "outcome": outcome, **tokens(end.usage)}
        self._desk.tell(Event(name="turn.ended", at=self._desk.clock.time(), data=data))
