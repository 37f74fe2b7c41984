"""Delivers outbound rows: in order within a chat, without one chat waiting for another, again after failures, never silently.

Each (session, chat) has a *lane*, a task that lives while something waits there. What happens to a row is recorded in the
session's inbound.db before and after each part is sent, so that a crash in between is known for what it is. A part whose
fate is unknown is sent again only where the platform recognises it (`Capabilities.idempotent_send`); elsewhere a notice says
that it may be missing, and what comes after waits until that notice has arrived. What is given up is said to everyone whom it
concerns: see `losses`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import TypeVar
from uuid import uuid4

import anyio
import structlog
from anyio import CancelScope
from anyio.abc import TaskGroup, TaskStatus

from nanoclaw_core.delivery.changes import change
from nanoclaw_core.delivery.lanes import DEADLINE, Key, Lane
from nanoclaw_core.delivery.losses import DOUBT, Loss, tell_owner
from nanoclaw_core.delivery.parts import parts_of
from nanoclaw_core.delivery.previews import take_away
from nanoclaw_core.errors import ChatMoved, DeliveryError, OutcomeUnknown, Refused, TryLater
from nanoclaw_core.mailbox import Mailbox, Mailboxes, NewOutbound
from nanoclaw_core.models import Address, Event, OutboundKind, OutboundMessage, OutboundRow, Progress, Question, Receipt
from nanoclaw_core.ports import AskingChannel, Channel, Clock, SettlingChannel, TypingChannel
from nanoclaw_core.store import sessions
from nanoclaw_core.store.database import Database
from nanoclaw_core.supervise import Callers, Pauses, sleep_or, survive

log = structlog.get_logger()

T = TypeVar("T")

SEND_TIMEOUT = 60.0
_LONGEST_PAUSE = 300.0
_LONGEST_DOUBT = 1800.0  # a notice that perhaps arrives each time should not come every few minutes


class Delivery:
    """The way out. `channels` are those of this host, by name; `tell` hears what was sent and what could not be.

    `moved` gets a chat and the id that it has now.
    """

    def __init__(
        self,
        database: Database,
        mailboxes: Mailboxes,
        channels: Mapping[str, Channel],
        clock: Clock,
        tell: Callable[[Event], None],
        moved: Callable[[Address, str], Awaitable[None]],
    ) -> None:
        self._database = database
        self._mailboxes = mailboxes
        self._channels = channels
        self._clock = clock
        self._tell = tell
        self._moved = moved
        self._lanes: dict[Key, Lane] = {}
        self._callers = Callers()
        self._retried: set[str] = set()
        self._tasks: TaskGroup | None = None

    def wake(self, session_id: str) -> None:
        """There may be new outbound rows in this session."""
        self._callers.ask(session_id)

    def wake_chat(self, channel: str, chat: str) -> None:
        """This chat can be reached again: what waits for it is tried at once."""
        for key, lane in self._lanes.items():
            if (key.channel, key.chat) == (channel, chat):
                lane.nudge.set()

    async def typing(self, to: Address, progress: Progress) -> None:
        """Show in the chat that its agent is at work, where the channel can."""
        channel = self._channels.get(to.channel)
        if channel is not None and isinstance(channel, TypingChannel):
            with anyio.move_on_after(SEND_TIMEOUT / 10):
                await survive("typing", channel.typing(to, progress))

    async def say(self, to: Address, text: str) -> None:
        """Say `text` at once and try no second time, for what no mailbox can hold."""
        channel = self._channels.get(to.channel)
        if channel is not None:
            message = OutboundMessage(to=to, text=text, key=uuid4().hex)
            with anyio.move_on_after(SEND_TIMEOUT / 10):
                await survive("notice", channel.send(message))

    async def refuse(self, to: Address, message_id: str, text: str, outcome: str = "failed") -> None:
        """Say why the message `message_id` is not answered by an agent, as `say` does, and that nothing more will come."""
        await self.say(to, text)
        channel = self._channels.get(to.channel)
        if channel is not None and isinstance(channel, SettlingChannel):
            with anyio.move_on_after(SEND_TIMEOUT / 10):
                await survive("notice", channel.settled(to, (message_id,), outcome))

    async def tell_owner(self, news: Loss | str, *, away_from: Address) -> None:
        """Have the owner told, where possible on another channel than that of `away_from`."""
        now = self._clock.time()
        self.wake(await tell_owner(self._database, self._mailboxes, self._channels, news, away_from, now))

    async def run(self, task_status: TaskStatus[None]) -> None:
        """Deliver until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            lanes = self._tasks
            task_status.started()
            for session, _ in await self._database.read(sessions.attention):
                self.wake(session.id)
            while True:
                session_id = await self._callers.next()
                if session_id not in self._retried and await survive("delivery", self._collect(session_id, lanes)):
                    self._retried.add(session_id)
                    lanes.start_soon(self._collect_later, session_id, lanes)

    async def _collect_later(self, session_id: str, lanes: TaskGroup) -> None:
        """Try until the session's mailbox can be read again; whoever asks meanwhile is served by that."""
        pauses = Pauses(first=1.0, most=_LONGEST_PAUSE)
        try:
            while True:
                await self._clock.sleep(pauses.next())
                if await survive("delivery", self._collect(session_id, lanes)) is None:
                    return
        finally:
            self._retried.discard(session_id)

    async def _collect(self, session_id: str, lanes: TaskGroup) -> None:
        session = await self._database.read(partial(sessions.session, session_id=session_id))
        mailbox = await self._mailboxes.open(session)
        due = await mailbox.due()
        if not due:  # a host may have died between the last receipt and this
            await self._settle(session_id, mailbox)
        for row in due:
            key = Key(session_id=session_id, channel=row.to.channel, account=row.to.account, chat=row.to.chat)
            if key not in self._lanes:
                self._lanes[key] = Lane(mailbox=mailbox, clock=self._clock, began=self._clock.monotonic())
                lanes.start_soon(self._drain, key, name=f"lane {row.to.channel}")
            self._lanes[key].offer(row)

    async def _drain(self, key: Key) -> None:
        lane = self._lanes[key]
        try:
            while row := lane.next():
                await self._deliver(lane, row)
        finally:
            del self._lanes[key]
        await survive("settling", self._settle(key.session_id, lane.mailbox))

    async def _settle(self, session_id: str, mailbox: Mailbox) -> None:
        """Take the session off the list of those to be looked at, unless something came meanwhile."""
        seen = await self._database.read(partial(sessions.marks, session_id=session_id))
        if seen is not None and await mailbox.is_idle():
            await self._database.write(partial(sessions.settle, session_id=session_id, seen=seen))

    async def _deliver(self, lane: Lane, row: OutboundRow) -> None:
        """Try until the row has a final receipt."""
        pauses = Pauses(first=1.0, most=_LONGEST_PAUSE if row.kind is OutboundKind.MESSAGE else _LONGEST_DOUBT)
        while (later := await self._attempt(lane, row)) is not None:
            channel = self._channels.get(row.to.channel)
            is_patient = channel is not None and channel.capabilities.patient
            if lane.is_over and not is_patient:
                reason = f"gave up after {DEADLINE / 3600:.0f} hours: {later}"
                if not await survive("giving up", self._give_up(lane, row, reason)):
                    return
            log.info("delivery.later", channel=row.to.channel, row=row.seq, reason=str(later))
            lane.nudge = anyio.Event()
            await sleep_or(self._clock, pauses.next() if later.after is None else later.after, lane.nudge)

    async def _attempt(self, lane: Lane, row: OutboundRow) -> TryLater | None:
        """Send what is left of the row; None when its receipt is final."""
        channel = self._channels.get(row.to.channel)
        if channel is None:
            return TryLater(f"the channel {row.to.channel} is not running")
        try:
            failure = await survive("send", self._send(lane, row, channel), passing=(DeliveryError,))
        except TryLater as later:
            return later
        except Refused as refused:
            failure = await survive("giving up", self._give_up(lane, row, str(refused), is_refused=True))
        except OutcomeUnknown as unknown:
            return TryLater(str(unknown))
        return TryLater(failure) if failure else None

    async def _send(self, lane: Lane, row: OutboundRow, channel: Channel) -> None:
        mailbox = lane.mailbox
        if row.kind is OutboundKind.SETTLED:
            if row.replaces is not None:
                await take_away(channel, row.to, row.replaces, f"{mailbox.session_id}:{row.seq}")
            if isinstance(channel, SettlingChannel):
                await channel.settled(row.to, row.settles, row.outcome)
        elif row.kind in (OutboundKind.EDIT, OutboundKind.REACTION):
            await self._follow(row.to, lambda to: change(channel, replace(row, to=to), mailbox))
        elif doubt := await self._send_parts(mailbox, row, channel):
            await self._doubt(lane, row, doubt)
            return
        with CancelScope(shield=True):  # what was done is noted, also when the host ends in this moment
            await mailbox.delivered(row.seq)
        if row.kind is OutboundKind.MESSAGE:
            self._report("delivery.sent", row)

    async def _send_parts(self, mailbox: Mailbox, row: OutboundRow, channel: Channel) -> str:
        """Send the parts that were not sent yet; return why one of them may not have arrived, or ''."""
        able = channel.capabilities
        may_repeat = able.idempotent_send or row.kind is OutboundKind.NOTICE
        receipts = await mailbox.receipt(row.seq)
        if receipts.is_over:  # its mailbox has begun anew: nobody knows any more what of it was sent
            return ""
        doubt = ""
        has_buttons = isinstance(channel, AskingChannel)
        parts = parts_of(row, able, mailbox.folder, mailbox.session_id, has_buttons=has_buttons)
        for number, part in enumerate(parts):
            if number in receipts.sent:
                continue
            if number in receipts.in_flight and not may_repeat:
                doubt = "the host ended, or the connection broke, while it was being sent"
                continue
            await mailbox.sending(row.seq, number)
            message = OutboundMessage(
                to=row.to,
                text=part.text,
                key=f"{mailbox.session_id}:{row.seq}:{number}",
                reply_to=row.reply_to,
                files=part.files,
                replaces=None if number else row.replaces,
            )
            try:
                receipt = await self._follow(row.to, partial(_sent_by, channel, message, part.question))
            except (TryLater, Refused) as reason:
                with CancelScope(shield=True):
                    await mailbox.not_sent(row.seq, number, str(reason))
                raise
            except OutcomeUnknown as unknown:
                if may_repeat:
                    raise
                doubt = str(unknown)
                continue
            with CancelScope(shield=True):
                await mailbox.sent(row.seq, number, receipt.message_id)
        return doubt

    async def _follow(self, to: Address, deliver: Callable[[Address], Awaitable[T]]) -> T:
        """Deliver to wherever the chat is now."""
        try:
            return await deliver(to)
        except ChatMoved as moved:
            await self._moved(to, moved.chat)
            try:
                return await deliver(replace(to, chat=moved.chat))
            except ChatMoved as again:
                raise Refused(f"the chat moved to {moved.chat}, and at once to {again.chat}") from again

    async def answered(self, session_id: str, question: OutboundRow, text: str) -> None:
        """Have it shown under a question, where the channel can, that it was answered with `text`; nobody waits for that."""
        channel = self._channels.get(question.to.channel)
        if channel is not None and isinstance(channel, AskingChannel) and self._tasks is not None:
            self._tasks.start_soon(self._show_answer, channel, session_id, question, text)

    async def _show_answer(self, channel: AskingChannel, session_id: str, question: OutboundRow, text: str) -> None:
        async def show() -> None:
            session = await self._database.read(partial(sessions.session, session_id=session_id))
            sent = (await (await self._mailboxes.open(session)).receipt(question.seq)).sent
            if sent:
                await channel.answered(question.to, sent[max(sent)], text)

        with anyio.move_on_after(SEND_TIMEOUT):
            await survive("answered", show())

    async def _give_up(self, lane: Lane, row: OutboundRow, reason: str, *, is_refused: bool = False) -> None:
        """Leave the row, and say so first: who dies in between says it again, in the same words under the same key."""
        if row.kind is OutboundKind.MESSAGE:
            is_part = bool((await lane.mailbox.receipt(row.seq)).sent)
            loss = Loss(session_id=lane.mailbox.session_id, row=row, reason=reason, is_part=is_part)
            await survive("news of a loss", self.tell_owner(loss, away_from=row.to))
            await survive("notice of a loss", self._tell_chat(lane, loss, is_refused))
        await lane.mailbox.undeliverable(row.seq, reason)
        self._report("delivery.failed", row, reason)

    async def _tell_chat(self, lane: Lane, loss: Loss, is_reachable: bool) -> None:
        """At once where the platform answers; else in its turn, and once for all that was lost in the same outage."""
        if is_reachable or all(row.kind is not OutboundKind.NOTICE for row in lane.rows):
            await lane.queue(f"loss-{loss.row.seq}", loss.for_chat(), first=is_reachable)

    async def _doubt(self, lane: Lane, row: OutboundRow, reason: str) -> None:
        """The row may or may not have arrived: never twice, but not silently either."""
        await lane.queue(f"doubt-{row.seq}", NewOutbound(to=row.to, text=DOUBT, kind=OutboundKind.NOTICE), first=True)
        await lane.mailbox.undeliverable(row.seq, f"outcome unknown: {reason}")
        self._report("delivery.failed", row, f"outcome unknown: {reason}")

    def _report(self, name: str, row: OutboundRow, reason: str | None = None) -> None:
        data = {"channel": row.to.channel, "row": row.seq, "reason": reason}
        self._tell(Event(name=name, at=self._clock.time(), data=data))


async def _sent_by(channel: Channel, message: OutboundMessage, question: Question | None, to: Address) -> Receipt:
    """Send with a time limit; an error that the channel did not foresee says nothing about what happened on the platform."""
    receipts: list[Receipt] = []
    message = replace(message, to=to)

    async def send() -> None:
        if question is not None and isinstance(channel, AskingChannel):
            receipts.append(await channel.ask(message, question))
        else:
            receipts.append(await channel.send(message))

    with anyio.move_on_after(SEND_TIMEOUT) as limit:
        failure = await survive("send", send(), passing=(DeliveryError,))
    if limit.cancelled_caught:
        raise OutcomeUnknown(f"no answer within {SEND_TIMEOUT:.0f} s")
    if failure:
        raise OutcomeUnknown(failure)
    return receipts[0]
