"""A shift: everything that workers do for one session, from its first waiting row until nothing waits and the last one is idle.

A shift is one task. Others only leave it signs (a row came, a turn ended, the container died) and ring its bell; the task
looks at what has become of the session and does what is next. What must survive a crash is in the mailbox: pushes are recorded
before they are sent, and acknowledged by the turn end that covers them.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import anyio
import structlog

from nanoclaw_core.errors import ContainerFailed, ImageBuildFailed, RuntimeUnavailable
from nanoclaw_core.mailbox import Mailbox, NewOutbound, OutstandingPush
from nanoclaw_core.models import Address, AgentGroup, Event, Progress, Push, Row, Session, TurnEnd, Words
from nanoclaw_core.ports import WorkerLink
from nanoclaw_core.supervise import Pauses, clean_up, sleep_or
from nanoclaw_core.workers import notices
from nanoclaw_core.workers.desk import Desk, Outage, Slots, Terms
from nanoclaw_core.workers.life import Life

log = structlog.get_logger()

MAX_ATTEMPTS = 3
MAX_OUTSTANDING = 64
_PROMPT_LIMIT = 120_000  # characters of rows in one prompt; what is beyond waits for the next
_Failures = (ContainerFailed, ImageBuildFailed, RuntimeUnavailable)


class Shift:
    """The task `run` and the signs that others leave for it."""

    def __init__(self, desk: Desk, slots: Slots, outage: Outage, session: Session, agent_group: AgentGroup) -> None:
        self.session = session
        self.agent_group = agent_group
        self.life: Life | None = None
        self.doing = "waiting for a place"
        self.reply_to: Address | None = None
        self._desk = desk
        self._slots = slots
        self._outage = outage
        self._outstanding: dict[str, OutstandingPush] = {}
        self._bell = anyio.Event()
        self._link: WorkerLink | None = None
        self._must_repeat = False
        self._gives_way = False
        self._was_told = ""
        self._spoke = False
        self._failures = 0
        self.idle_since: float | None = None

    # --- signs ------------------------------------------------------------------------------------------------------------

    def ring(self) -> None:
        """Something has changed: look."""
        self._bell.set()

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
        covered = [self._outstanding[each] for each in end.covered if each in self._outstanding]
        words = await self._words(end, covered)
        outcome = end.failure.kind.value if end.failure else "answered"
        answers = [NewOutbound(to=each.to, text=each.text) for each in words]
        if not await mailbox.end_turn(end, answers, outcome):
            log.warning("turn.unknown", session=self.session.id, frame=end.id)
            return
        for each in covered:
            del self._outstanding[each.push.uuid]
        self._failures, self._spoke = 0, False
        if not self._outstanding:
            self.idle_since = self._desk.clock.monotonic()
        self._desk.deliver(self.session.id)
        self._report_turn(end, outcome)
        self.ring()

    # --- the task ---------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run workers for the session until it has nothing to do."""
        mailbox = await self._desk.mailboxes.open(self.session)
        pauses = Pauses(first=1.0, most=300.0)
        while True:
            self._outstanding = {each.push.uuid: each for each in await mailbox.outstanding()}
            if not self._outstanding and not await mailbox.waiting(1):
                return
            try:
                async with self._slots.worker():
                    await self._live(mailbox)
                pauses.reset()
            except _Failures as error:
                await self._bear(error, mailbox)
                await self._recover(error, pauses)

    async def _live(self, mailbox: Mailbox) -> None:
        """One worker: start it, serve it, end it whatever happens."""
        self._outage.check()
        self.idle_since, self._gives_way, self._link = None, False, None
        self.doing = "starting"
        life = self.life = Life.of(self._desk, self.session, self.agent_group)
        reason = "the host stopped"
        try:
            async with self._slots.start():
                await mailbox.begin_attempt(list(self._outstanding), life.worker_id)
                self._outstanding = {each.push.uuid: each for each in await mailbox.outstanding()}
                await life.begin(mailbox)
                while not self._is_linked:
                    await self._next_sign(life)
            await self._serve(life, mailbox)
            reason = "idle"
        except _Failures as error:
            reason = str(error)
            raise
        finally:
            async with clean_up(self._desk.terms.stop_grace + 10):
                await self._end(life, reason)

    async def _serve(self, life: Life, mailbox: Mailbox) -> None:
        """Push what waits; return when the worker has been idle for long enough, or others need its place."""
        while True:
            await self._push_waiting(mailbox, life)
            if self._outstanding or not self._is_linked:
                self.doing, self.idle_since = "working", None
            else:
                self.doing = "idle"
                self.idle_since = self.idle_since or self._desk.clock.monotonic()
                idle_for = self._desk.clock.monotonic() - self.idle_since
                if idle_for >= self._desk.terms.idle_timeout or self._gives_way or self._slots.waiting:
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
        if now >= silent_at and not self.idle_since:
            self._outage.check()
            raise ContainerFailed(life.name, f"it gave no sign of life for {silent_at - life.last_sign:.0f} s")
        until = self.idle_since + self._desk.terms.idle_timeout if self.idle_since else silent_at
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
        while len(self._outstanding) < MAX_OUTSTANDING and (rows := self._next(await mailbox.waiting())):
            await self._push(mailbox, life, rows)

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
        text = await self._desk.dialogue.prompt(self.agent_group, rows)
        push = Push(uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, "nanoclaw:push:" + ",".join(ids))), text=text)
        await mailbox.record_push(push, ids, life.worker_id)
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
        self.life = self._link = None

    # --- when it fails ----------------------------------------------------------------------------------------------------

    async def _bear(self, error: Exception, mailbox: Mailbox) -> None:
        """Say what is waited for; give up what has failed too often."""
        log.warning("worker.failed", session=self.session.id, agent=self.agent_group.name, reason=str(error))
        if not isinstance(error, ContainerFailed):
            await self._say_once(mailbox, notices.of_waiting(str(error)))
            return
        self._failures += 1
        poisoned = [row for each in self._outstanding.values() if each.attempts >= MAX_ATTEMPTS for row in each.rows]
        if self._failures >= MAX_ATTEMPTS:
            poisoned = [row for each in self._outstanding.values() for row in each.rows] + await mailbox.waiting()
        if poisoned:
            notice = NewOutbound(to=poisoned[0].address, text=notices.of_lost_worker(MAX_ATTEMPTS, str(error)))
            await mailbox.fail_rows([row.id for row in poisoned], [notice], "failed")
            self._failures = 0
            self._desk.deliver(self.session.id)

    async def _say_once(self, mailbox: Mailbox, text: str) -> None:
        """Tell the chat why its message waits, once for each reason and message."""
        rows = [row for each in self._outstanding.values() for row in each.rows] or await mailbox.waiting(1)
        if rows and text != self._was_told:
            self._was_told = text
            await mailbox.add_outbound(f"waiting-{rows[-1].id}-{uuid.uuid5(uuid.NAMESPACE_URL, text)}", _said(rows, text))
            self._desk.deliver(self.session.id)

    async def _recover(self, error: Exception, pauses: Pauses) -> None:
        """Wait for the runtime if it is away; otherwise a growing pause, which new messages do not cut short."""
        self.doing = f"waiting: {error}"
        if isinstance(error, RuntimeUnavailable):
            self._outage.begin(str(error))
            await sleep_or(self._desk.clock, pauses.next(), self._outage.over)
        else:
            await self._desk.clock.sleep(pauses.next())

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
        data = {
            "agent": self.agent_group.name,
            "session": self.session.id,
            "outcome": outcome,
            "input_tokens": end.usage.input_tokens,
            "output_tokens": end.usage.output_tokens,
            "model_calls": end.usage.model_calls,
        }
        self._desk.tell(Event(name="turn.ended", at=self._desk.clock.time(), data=data))


def _said(rows: Sequence[Row], text: str) -> NewOutbound:
    return NewOutbound(to=rows[-1].address, text=text)
