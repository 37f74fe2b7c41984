"""A session's mailbox as the rest of the host sees it, and the few that are open at a time."""

from __future__ import annotations

import sqlite3
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeAlias, TypeVar
from weakref import WeakValueDictionary

import anyio
from anyio import CancelScope, to_thread

from nanoclaw_core.mailbox import inbound, outbound, outbox, pruning
from nanoclaw_core.mailbox.files import MailboxBroken, MailboxFiles, Side
from nanoclaw_core.mailbox.records import Call, NewCall, NewOutbound, NewRow, OutstandingPush, Receipts, Spoken
from nanoclaw_core.models import Address, EarlierCall, OutboundRow, Push, Row, Session, TurnEnd, Undelivered

P = ParamSpec("P")
T = TypeVar("T")
Renew: TypeAlias = Callable[[Session, MailboxBroken], Awaitable[None]]

_OPEN: Final = 64


class Mailbox:
    """One session's rows, pushes, answers and receipts.

    Every method is one transaction in a worker thread, durable when it returns, and changes one of the two files. Methods
    of one mailbox run one after another. All of them may raise `MailboxUnusable`. After `MailboxBroken`, a new pair of files
    takes the place of the old one before the next method runs: what its users remember of the old one holds no more.
    """

    def __init__(self, session: Session, mailboxes: Mailboxes) -> None:
        self.session_id = session.id
        self._session = session
        self.folder = mailboxes.home / session.folder
        self._mailboxes = mailboxes
        self._files: MailboxFiles | None = None
        self._was_open = False
        self._fault: MailboxBroken | None = None
        self._lock = anyio.Lock()

    # --- what the agent is to hear ---

    async def add_rows(self, rows: Sequence[NewRow]) -> int:
        """Add the rows whose ids are new, in this order; return how many there were."""
        return await self._run("inbound", inbound.add_rows, rows, self._now())

    async def waiting(self, limit: int = 64) -> list[Row]:
        """The oldest rows that are neither acknowledged nor part of an outstanding push."""
        return await self._run("outbound", inbound.waiting, limit)

    # --- pushes and ends of turns ---

    async def untold(self) -> list[Undelivered]:
        """What the agent said that could not be delivered, and that no push has told it of."""
        return await self._run("outbound", outbound.untold)

    async def record_push(self, push: Push, row_ids: Sequence[str], worker_id: str, told: Sequence[int] = ()) -> None:
        """Note, before it is sent, that `push` holds these rows; the same push again changes nothing.

        A row is part of one outstanding push at most. `told` are the numbers of `untold` that the push speaks of.

        Raises:
            ValueError: a row is acknowledged or unknown, or there is none.
        """
        await self._run("outbound", outbound.record_push, push, row_ids, worker_id, self._now(), told)

    async def outstanding(self) -> list[OutstandingPush]:
        """The pushes that no end has covered, in the order in which they were recorded."""
        return await self._run("outbound", outbound.outstanding)

    async def begin_attempt(self, uuids: Sequence[str], worker_id: str) -> None:
        """Note that another worker takes these pushes over."""
        await self._run("outbound", outbound.begin_attempt, uuids, worker_id, self._now())

    async def end_turn(self, end: TurnEnd, answers: Sequence[NewOutbound], outcome: str) -> bool:
        """Store everything that the end of a turn means, at once; False when it was known or covers nothing outstanding.

        That is: the answers, then a `SETTLED` row for the reply address, the acknowledgement of the covered rows, the end
        of their pushes, the conversation's id and the turn's usage. The first answer to an address replaces the preview that is
        shown there; without any answer, the `SETTLED` row does.
        """
        return await self._run("outbound", outbound.end_turn, end, answers, outcome, self._now())

    async def fail_rows(self, row_ids: Sequence[str], answers: Sequence[NewOutbound], outcome: str) -> bool:
        """End rows without an engine: answers, `SETTLED` rows, acknowledgement. False when all of them had ended."""
        return await self._run("outbound", outbound.fail_rows, row_ids, answers, outcome, self._now())

    async def conversation(self) -> str | None:
        """The engine's id of the conversation, from the last end of a turn."""
        return await self._run("outbound", outbound.conversation)

    async def preview(self, to: Address) -> str | None:
        """The message that shows the beginning of the answer that `to` waits for."""
        return await self._run("outbound", outbound.preview, to)

    async def note_preview(self, to: Address, message_id: str) -> None:
        """Note that the message `message_id` shows the beginning of the answer that `to` waits for: that will replace it."""
        await self._run("outbound", outbound.note_preview, to, message_id)

    # --- actions ---

    async def add_outbound(self, key: str, row: NewOutbound, *, in_place: bool = False) -> bool:
        """Queue something for delivery; False when `key` was used before. `in_place` of a preview, where one is shown."""
        return await self._run("outbound", outbound.add_outbound, key, row, self._now(), in_place=in_place)

    async def queued_as(self, key: str) -> OutboundRow | None:
        """What was queued under `key`."""
        return await self._run("outbound", outbound.queued_as, key)

    async def spoken(self, seq: int) -> Spoken | None:
        """What an action has queued as number `seq`: words, that is, not an edit or a reaction."""
        return await self._run("outbound", outbound.spoken, seq)

    async def heard(self, seq: int) -> Row | None:
        """The row `seq`, unless it waits to be pushed for the first time."""
        return await self._run("outbound", outbound.heard, seq)

    async def outbox(self) -> Path:
        """The folder for files to be sent; made at the first use."""
        return await to_thread.run_sync(outbox.make, self.folder)

    async def release(self, names: Collection[str]) -> None:
        """Delete those of these files in the outbox that no row sends which is due."""
        if names:
            await self._delete(await self._run("inbound", inbound.unsent, names))

    async def begin_call(self, call: NewCall) -> Call | None:
        """Note a call before it is carried out; None when it is new, else what is known of it.

        It is known by its key, or because an earlier worker made the same call in the turn that still runs, and its engine died
        before the result was `heard`: each such call stands for one repetition.
        """
        return await self._run("outbound", outbound.begin_call, call, self._now())

    async def end_call(self, key: str, result: str, is_error: bool) -> bool:
        """Store the answer to a call that was begun; False, and nothing, when it had one."""
        return await self._run("outbound", outbound.end_call, key, result, is_error, self._now())

    async def unheard_calls(self, worker_id: str) -> set[str]:
        """The keys of calls that workers before this one made in the turn that runs, not known to have been heard."""
        return await self._run("outbound", outbound.unheard_calls, worker_id)

    async def heard_calls(self, keys: Collection[str]) -> None:
        """Note that the conversation holds the results of these calls; may be lost in a power cut, which ends all workers."""
        await self._transact("outbound", partial(outbound.heard_calls, keys=keys), durable=False)

    async def earlier_calls(self, limit: int = 100) -> list[EarlierCall]:
        """The last calls that were made in the turn that runs, oldest first."""
        return await self._run("outbound", outbound.earlier_calls, limit)

    async def note(self, kind: str, about: str, detail: str) -> None:
        """Keep a step of what happened, for people who ask later; it alone may be lost in a power cut, and costs no wait."""
        step = partial(outbound.note, kind=kind, about=about, detail=detail, now=self._now())
        await self._transact("outbound", step, durable=False)

    # --- delivery ---

    async def due(self) -> list[OutboundRow]:
        """What has no final receipt, in the order of `seq`."""
        return await self._run("inbound", inbound.due)

    async def sending(self, seq: int, part: int) -> None:
        """Note, before the channel is called, that this part may arrive."""
        await self._run("inbound", inbound.sending, seq, part, self._now())

    async def not_sent(self, seq: int, part: int, reason: str) -> None:
        """Note that the part certainly did not arrive, and why."""
        await self._run("inbound", inbound.not_sent, seq, part, reason, self._now())

    async def sent(self, seq: int, part: int, message_id: str) -> None:
        """Note that the platform took the part and calls it `message_id`."""
        await self._run("inbound", inbound.sent, seq, part, message_id, self._now())

    async def delivered(self, seq: int) -> None:
        """Note that all parts were sent: a final receipt."""
        await self._delete(await self._run("inbound", inbound.finish, seq, None, self._now()))

    async def undeliverable(self, seq: int, reason: str) -> None:
        """Note that it will not be tried again: a final receipt."""
        await self._delete(await self._run("inbound", inbound.finish, seq, reason, self._now()))

    async def receipt(self, seq: int) -> Receipts:
        """How far the parts got."""
        return await self._run("inbound", inbound.receipts, seq)

    async def outbound_row(self, seq: int) -> OutboundRow | None:
        """What was to be delivered under this number, as long as it is kept."""
        return await self._run("outbound", outbound.outbound_row, seq)

    async def number_of(self, address: Address, message_id: str) -> str | None:
        """The number of the row that holds the message `message_id` of this chat, in whatever thread."""
        return await self._run("inbound", inbound.number_of, address, message_id)

    async def sent_as(self, address: Address, message_id: str) -> OutboundRow | None:
        """What was sent to this chat, in whatever thread, and is called `message_id` by the platform."""
        return await self._run("inbound", inbound.sent_as, address, message_id)

    async def is_idle(self) -> bool:
        """Whether every row is acknowledged and nothing is due."""
        unheard = await self._run("outbound", outbound.anything_unacknowledged)
        return not unheard and not await self._run("inbound", inbound.anything_due)

    # --- the files ---

    async def prune(self, before: float) -> int:
        """Forget what is finished and came before `before`, in short transactions; return how many rows that were."""
        count, now = 0, self._now()
        await self.release(await to_thread.run_sync(outbox.older_than, self.folder, now - pruning.DAY))
        for side, prunes in pruning.steps(self.folder / "inbox"):
            sweep = partial(pruning.all_of, prunes=prunes, before=before, now=now)
            while changed := await self._transact(side, sweep, durable=False):  # what a power cut brings back goes again
                count += changed
        return count

    @property
    def is_sound(self) -> bool:
        """Whether its files are open, and nothing was found to be wrong with them."""
        return self.is_open and self._fault is None

    @property
    def is_open(self) -> bool:
        """Whether its files are open."""
        return self._files is not None

    @property
    def in_use(self) -> bool:
        """Whether something runs on it at the moment."""
        return self._lock.locked()

    async def close(self) -> None:
        """Let go of the files; the next call opens them again."""
        with CancelScope(shield=True):
            async with self._lock:
                files, self._files = self._files, None
                if files is not None:
                    await to_thread.run_sync(files.close)

    async def _delete(self, names: Sequence[str]) -> None:
        """Files that are left here by who dies in between go with `prune`."""
        if names:
            await to_thread.run_sync(outbox.delete, self.folder, names)

    async def _run(
        self, side: Side, fn: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        return await self._transact(side, lambda connection: fn(connection, *args, **kwargs))

    async def _transact(self, side: Side, change: Callable[[sqlite3.Connection], T], *, durable: bool = True) -> T:
        def transact() -> T:
            if self._files is None:
                self._files = MailboxFiles(self.folder)
                self._was_open = True
            with self._files.transaction(side, durable=durable) as connection:
                return change(connection)

        async with self._lock:
            await self._mailboxes.make_room(self)
            if self._fault is not None:
                await self._renew(self._fault)
            try:
                return await to_thread.run_sync(transact)
            except MailboxBroken as broken:
                if self._was_open or self._mailboxes.renew is None:  # somebody may rely on what was in it
                    self._fault = self._mailboxes.renew and broken
                    raise
                await self._renew(broken)
                return await to_thread.run_sync(transact)

    async def _renew(self, broken: MailboxBroken) -> None:
        assert self._mailboxes.renew is not None  # noqa: S101  # see above
        files, self._files = self._files, None
        if files is not None:
            await to_thread.run_sync(files.close)
        await self._mailboxes.renew(self._session, broken)
        self._fault = None

    def _now(self) -> float:
        return self._mailboxes.now()


class Mailboxes:
    """The mailboxes of all sessions below `home`; the files of at most 64 that nobody uses stay open.

    `renew` gives a session a new pair of files in place of a broken one; without it, a broken one stays an error.
    """

    def __init__(self, home: Path, *, now: Callable[[], float] = time.time, renew: Renew | None = None) -> None:
        self.home = home
        self.now = now
        self.renew = renew
        self._known: WeakValueDictionary[str, Mailbox] = WeakValueDictionary()
        self._recent: OrderedDict[str, Mailbox] = OrderedDict()

    async def open(self, session: Session) -> Mailbox:
        """The session's mailbox, always the same object while anybody holds it.

        Raises:
            MailboxUnusable: one of its files is broken. DatabaseTooNew: a later version of NanoClaw wrote it.
        """
        mailbox = self._known.get(session.id)
        if mailbox is None:
            mailbox = self._known[session.id] = Mailbox(session, self)
        if not mailbox.is_sound:
            try:
                await mailbox.conversation()
            except MailboxBroken:
                await mailbox.conversation()  # it has begun anew
        return mailbox

    async def prune(self, session: Session, before: float) -> int:
        """`Mailbox.prune`, for a session whose files are there; they are closed again unless they were in use."""
        if not await to_thread.run_sync((self.home / session.folder / "inbound.db").exists):
            return 0
        mailbox = self._known.get(session.id)
        was_open = mailbox is not None and mailbox.is_open
        mailbox = await self.open(session)
        try:
            return await mailbox.prune(before)
        finally:
            if not was_open:
                self._recent.pop(session.id, None)
                await mailbox.close()

    async def make_room(self, user: Mailbox) -> None:
        """Note that `user` is being used, and close the one that was idle longest if too many are open."""
        self._recent[user.session_id] = user
        self._recent.move_to_end(user.session_id)
        if len(self._recent) > _OPEN:
            oldest = next((mailbox for mailbox in self._recent.values() if not mailbox.in_use), None)
            if oldest is not None:
                del self._recent[oldest.session_id]
                await oldest.close()

    async def close(self) -> None:
        """Close all files."""
        while self._recent:
            _, mailbox = self._recent.popitem()
            await mailbox.close()
