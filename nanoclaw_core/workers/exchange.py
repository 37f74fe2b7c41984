"""One session's exchange with its engine: what was pushed and is not answered yet, and what comes of it.

Everything that must survive a crash is in the mailbox: pushes are recorded before they are sent, and acknowledged by the end
that covers them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from nanoclaw_core.commands import calls_off
from nanoclaw_core.errors import ContainerFailed, NanoClawError
from nanoclaw_core.mailbox import Mailbox, NewOutbound
from nanoclaw_core.models import Address, AgentGroup, Event, FailureKind, OutboundKind, Push, Row, Session, TurnEnd
from nanoclaw_core.ports import WorkerLink
from nanoclaw_core.workers import notices
from nanoclaw_core.workers.desk import Desk
from nanoclaw_core.workers.outcomes import ALL, Outcomes
from nanoclaw_core.workers.preview import Preview
from nanoclaw_core.workers.turns import OpenPushes, last_words, push_of, rows_of_one_prompt, tokens

log = structlog.get_logger()

MAX_ATTEMPTS = 3  # workers that may die on a message
MAX_LIVES = 6  # workers that may take it at all: a message that takes the host along is not re-run for ever
MAX_OUTSTANDING = 64
FAIR_SHARE = 60.0  # seconds in which more is put into a running turn although others wait for theirs


class Exchange:
    """The pushes that are `open`, and the chat that is answered.

    `failures` counts workers in a row that did not end a turn; `began` is when the first push of this turn at work was made
    (monotonic), None before it.
    """

    def __init__(self, desk: Desk, session: Session, agent_group: AgentGroup) -> None:
        self.open = OpenPushes()
        self.reply_to: Address | None = None
        self.began: float | None = None
        self.failures = 0
        self._desk = desk
        self._session = session
        self._agent_group = agent_group
        self.preview = Preview(desk, agent_group, self.mailbox)
        self._outcomes = Outcomes(desk, session)
        self._spoke = False
        self._places = 0  # how often words took the place of a preview before the end of a turn
        self._stopped: set[Address] = set()  # chats that were told, since the last `/stop`, that their turn was stopped

    async def mailbox(self) -> Mailbox:
        return await self._desk.mailboxes.open(self._session)

    async def load(self) -> None:
        """Read from the mailbox what is open."""
        mailbox = await self.mailbox()
        self.open = OpenPushes({each.push.uuid: each for each in await mailbox.outstanding()})
        for each in self.open.values():
            self.reply_to = each.address  # an engine may take up its turn before it is pushed again

    async def something_waits(self) -> bool:
        return bool(await (await self.mailbox()).waiting(1))

    async def streams(self) -> bool:
        """Whether the chat that is answered, or will be next, can show an answer while it is being written."""
        waiting = [] if self.open else await (await self.mailbox()).waiting(1)
        address = self.open.address or next((row.address for row in waiting), None)
        return address is not None and self._desk.streams(address)

    async def take_over(self, worker_id: str) -> None:
        """Count this worker among those that took what its predecessors left."""
        left = [uuid for uuid, each in self.open.items() if each.worker_id != worker_id]
        await (await self.mailbox()).begin_attempt(left, worker_id)
        for uuid in left:
            if each := self.open.get(uuid):  # its end may have come meanwhile
                self.open[uuid] = replace(each, attempts=each.attempts + 1, worker_id=worker_id)

    # --- down -------------------------------------------------------------------------------------------------------------

    async def repeat(self, link: WorkerLink) -> None:
        """Push again what is open, as after a reconnect; the end of one may come while the one before it is sent."""
        for uuid in list(self.open):
            if each := self.open.get(uuid):
                self.reply_to = each.address
                await link.push(self._as_shown(each.push, each.address))

    async def push_waiting(self, link: WorkerLink, worker_id: str, *, others_wait: bool) -> bool:
        """Push what waits and may be pushed now; return whether a `/stop` is among it, and then push nothing."""
        mailbox = await self.mailbox()
        while self._takes_more(others_wait) and (waiting := await mailbox.waiting()):
            if any(calls_off(row) for row in waiting):
                return True
            if not (rows := rows_of_one_prompt(waiting, self.open.address)):
                break
            if not self.open:
                await self._desk.require_room()
                await self._desk.require_quota(self._agent_group)
            await self._push(mailbox, link, worker_id, rows)
        return False

    def _takes_more(self, others_wait: bool) -> bool:
        """Whether more may be pushed.

        What a worker left is done first and alone: it may break this worker, too, and should break nothing else. While others
        wait, no new turn begins after the first, and a running one is not made longer for ever.
        """
        if not self.open.is_new or len(self.open) >= MAX_OUTSTANDING:
            return False
        if self.began is None or not others_wait:
            return True
        return bool(self.open) and self._desk.clock.monotonic() - self.began < FAIR_SHARE

    async def _push(self, mailbox: Mailbox, link: WorkerLink, worker_id: str, rows: Sequence[Row]) -> None:
        undelivered = await mailbox.untold()
        push = push_of(rows, await self._desk.dialogue.prompt(self._agent_group, rows, undelivered))
        await mailbox.record_push(push, [row.id for row in rows], worker_id, [each.seq for each in undelivered])
        self.reply_to = rows[0].address
        self.open.add(push, rows, worker_id)
        self.began = self._desk.clock.monotonic() if self.began is None else self.began
        await link.push(self._as_shown(push, rows[0].address))

    def _as_shown(self, push: Push, to: Address) -> Push:
        """`push`, with the word whether its answer is wanted while it is being written."""
        return replace(push, stream=self._desk.streams(to))

    # --- up ---------------------------------------------------------------------------------------------------------------

    def spoke(self, to: Address) -> None:
        """The agent sent something before the end of its turn."""
        self._spoke = self._spoke or to == self.reply_to

    def previewed(self, text: str) -> None:
        """The engine has written `text` of what may become the answer."""
        to = self.open.address
        if to is not None and self._desk.streams(to):
            self.preview.offer(to, text, self._answer)

    @property
    def _answer(self) -> str:
        """A name for what is being written: another one for each message that will hold it."""
        return f"{self._session.id}:{next(iter(self.open))}:{self._places}"

    async def turn_ended(self, end: TurnEnd) -> bool:
        """Store the end of a turn: answers, acknowledgements and outcome in one transaction; False when it ends none."""
        if not end.covered:
            await self._say_unasked(end)
            return False
        covered = self.open.covered_by(end)
        words = await last_words(self._desk.dialogue, self._agent_group, end, covered, spoke=self._spoke)
        outcome = end.failure.kind.value if end.failure else "answered"
        await self.preview.end()
        answers = [NewOutbound(to=each.to, text=each.text) for each in words]
        is_stored = await (await self.mailbox()).end_turn(end, answers, outcome)
        for each in covered:  # also when it was unknown: a mailbox that has begun anew knows nothing of them
            self.open.pop(each.push.uuid, None)
        if not is_stored:
            log.warning("turn.unknown", session=self._session.id, frame=end.id)
            return False
        self._stopped = self._stopped | {each.to for each in words} if outcome == FailureKind.INTERRUPTED else set()
        self.failures, self._spoke = 0, False
        self._desk.deliver(self._session.id)
        self._report_turn(end, outcome)
        return True

    async def _say_unasked(self, end: TurnEnd) -> None:
        """The agent speaks on its own, as when a command in the background has ended: to the chat that it last answered."""
        if end.failure or self.reply_to is None:
            log.warning("turn.unasked", session=self._session.id, frame=end.id, failure=end.failure and end.failure.kind)
            return
        for number, each in enumerate(await self._desk.dialogue.answers(self._agent_group, self.reply_to, end.text)):
            await self.queue(f"unasked-{end.id}-{number}", NewOutbound(to=each.to, text=each.text))

    async def queue(self, key: str, row: NewOutbound) -> None:
        """Have `row` delivered, once for each `key`. In the chat that is answered, words take the place of the preview."""
        in_place = row.to == self.reply_to and row.kind is OutboundKind.MESSAGE and not (row.files or row.choices)
        if in_place:
            await self.preview.end()
            self._places += 1
        await self._outcomes.queue(await self.mailbox(), key, row, in_place=in_place)

    def _report_turn(self, end: TurnEnd, outcome: str) -> None:
        if end.failure:  # its detail is for the chat: a provider may repeat there what people wrote
            kind, status = end.failure.kind.value, end.failure.status
            log.warning("turn.failed", session=self._session.id, agent=self._agent_group.name, kind=kind, status=status)
        data = {"agent": self._agent_group.name, "session": self._session.id, "outcome": outcome, **tokens(end.usage)}
        self._desk.tell(Event(name="turn.ended", at=self._desk.clock.time(), data=data))

    # --- without an engine ------------------------------------------------------------------------------------------------

    async def is_called_off(self) -> bool:
        """Whether a `/stop` waits."""
        return any(calls_off(row) for row in await (await self.mailbox()).waiting(ALL))

    async def call_off(self) -> None:
        """End all that was said before the last `/stop`, and that itself."""
        stopped, self._stopped = self._stopped, set()
        await self.preview.end()
        await self._outcomes.call_off(await self.mailbox(), self.open.rows, stopped)
        self.open = OpenPushes()

    async def give_up_hopeless(self, adoptions: int) -> bool:
        """Give up what so many workers and hosts have died on that nobody shall try it again; whether there was any."""
        if hopeless := self.open.rows_tried(MAX_LIVES, adoptions):
            text = notices.of_lost_worker(self._agent_group.name, MAX_LIVES, "the host ended, too.")
            await self.preview.end()
            await self._outcomes.give_up(await self.mailbox(), hopeless, text)
        return bool(hopeless)

    async def bear(self, error: NanoClawError) -> None:
        """Say what is waited for; give up what has failed too often."""
        log.warning("worker.failed", session=self._session.id, agent=self._agent_group.name, reason=str(error))
        mailbox = await self.mailbox()
        if not isinstance(error, ContainerFailed):
            await self._outcomes.say_once(mailbox, self.open.rows or await mailbox.waiting(1), error)
            return
        self.failures += 1
        poisoned = self.open.rows_tried(MAX_ATTEMPTS)
        if not poisoned and self.failures >= MAX_ATTEMPTS:  # workers do not even begin
            poisoned = self.open.rows + await mailbox.waiting()
        if poisoned:
            text = notices.of_lost_worker(self._agent_group.name, MAX_ATTEMPTS, str(error))
            await self.preview.end()
            await self._outcomes.give_up(mailbox, poisoned, text)
            self.failures = 0
