"""What agents call: written down before it is carried out, so that each call has its effect once, whatever dies in between."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import replace
from typing import Any, Final

import anyio
import structlog

from nanoclaw_core.errors import ActionRefused
from nanoclaw_core.mailbox import Call, Mailbox, NewCall, NewOutbound
from nanoclaw_core.models import WorkerIdentity
from nanoclaw_core.ports import Action, ActionCall, Outcome
from nanoclaw_core.workers.desk import Desk
from nanoclaw_core.workers.shift import Shift

log = structlog.get_logger()

#: What one session may have on its way to people: an agent that talks to an empty room must not fill the disk.
MAX_UNDELIVERED = 100
_KEPT_ARGUMENTS: Final = 1000  # characters; the digest is of all of them

_AGAIN: Final = "(You made this call before your turn was cut. It was not done again; to do it once more, call again.)\n"

CarryOut = Callable[[ActionCall], Awaitable[Outcome]]


class RecordedCalls:
    """The `ActionCalls` of all workers; `shifts` are the pool's, by session."""

    def __init__(self, desk: Desk, shifts: Mapping[str, Shift]) -> None:
        self._desk = desk
        self._shifts = shifts
        self._running: dict[tuple[str, str], anyio.Event] = {}  # by session and key; set when they are over

    async def once(
        self,
        identity: WorkerIdentity,
        action: Action[Any],  # Any: each action has parameters of its own
        key: str,
        arguments: str,
        carry_out: CarryOut,
    ) -> Outcome:
        shift = self._shifts.get(identity.session_id)
        if shift is None:
            raise ActionRefused("Nothing was done: this worker is at its end.")
        mailbox = await self._desk.mailboxes.open(shift.session)
        new = _new_call(identity, action, key, arguments)
        # Between the end of `begin_call` and the entry in `_running` nothing else runs: who finds a call begun finds it there.
        while known := await mailbox.begin_call(new):
            if known.digest and (known.action, known.digest) != (new.action, new.digest):
                raise ActionRefused("Nothing was done: another call had the same id. Make this one again with a new id.")
            if running := self._running.get((identity.session_id, known.key)):
                await running.wait()
            elif known.ended or not action.idempotent:
                return _outcome(known, new, shift)
            else:
                break  # a host died in it: it runs again, under its first key
        return await self._carry_out(identity, mailbox, known.key if known else key, new, carry_out)

    async def _carry_out(
        self, identity: WorkerIdentity, mailbox: Mailbox, key: str, new: NewCall, carry_out: CarryOut
    ) -> Outcome:
        over = self._running[identity.session_id, key] = anyio.Event()
        call = ActionCall(
            agent_group=identity.agent_group, session_id=identity.session_id, key=key, host=self.host(identity, key)
        )
        try:
            outcome = await carry_out(call)
            await mailbox.end_call(new.key, outcome.text, outcome.is_error)
        finally:
            del self._running[identity.session_id, key]
            over.set()
        return outcome

    async def unheard(self, identity: WorkerIdentity) -> set[str]:
        if shift := self._shifts.get(identity.session_id):
            return await (await self._desk.mailboxes.open(shift.session)).unheard_calls(identity.worker_id)
        return set()

    async def heard(self, identity: WorkerIdentity, keys: Collection[str]) -> None:
        if shift := self._shifts.get(identity.session_id):
            await (await self._desk.mailboxes.open(shift.session)).heard_calls(keys)

    def host(self, identity: WorkerIdentity, key: str) -> AgentActions:
        """What the worker `identity` may do with the call `key`."""
        return AgentActions(self._desk, self._shifts.get(identity.session_id), identity, key)


class AgentActions:
    """The `ActionHost` of one call by one worker."""

    def __init__(self, desk: Desk, shift: Shift | None, identity: WorkerIdentity, key: str) -> None:
        self._desk = desk
        self._shift = shift
        self._identity = identity
        self._key = key

    async def send(self, text: str, to: str | None = None) -> str:
        visible = self._desk.dialogue.visible(text)
        if not visible:
            raise ActionRefused("There is nothing to send: the text is empty, or all of it is internal.")
        if self._shift is None or (to is None and self._shift.exchange.reply_to is None):
            raise ActionRefused("No chat is being answered: name a destination with `to`.")
        here = self._shift.exchange.reply_to
        address = here if to is None else await self._desk.dialogue.find(self._identity.agent_group, to)
        assert address is not None  # noqa: S101  # one of the two is there, see above
        if here is not None and replace(address, thread=here.thread) == here:
            address = here  # the chat that is being answered keeps its thread
        mailbox = await self._desk.mailboxes.open(self._shift.session)
        if len(await mailbox.due()) >= MAX_UNDELIVERED:
            raise ActionRefused(
                f"{MAX_UNDELIVERED} messages of yours have not been delivered yet. Wait until people read them."
            )
        await self._shift.exchange.queue(f"call-{self._key}", NewOutbound(to=address, text=visible))
        self._shift.exchange.spoke(address)  # also when an earlier worker was cut after the same call
        return to or "this chat"


def _new_call(identity: WorkerIdentity, action: Action[Any], key: str, arguments: str) -> NewCall:
    return NewCall(
        key=key,
        worker_id=identity.worker_id,
        action=action.name,
        arguments=arguments if len(arguments) <= _KEPT_ARGUMENTS else f"{arguments[:_KEPT_ARGUMENTS]}…",
        digest=hashlib.sha256(arguments.encode()).hexdigest(),
    )


def _outcome(known: Call, new: NewCall, shift: Shift) -> Outcome:
    """What is answered to a call that was made before."""
    log.info("action.known", action=new.action, session=shift.session.id, worker=new.worker_id, ended=known.ended)
    if known.said_to:
        shift.exchange.spoke(known.said_to)  # an earlier worker did, in this turn
    if known.ended:
        again = "" if known.key == new.key else _AGAIN
        return Outcome(text=f"{again}{known.result}", is_error=known.is_error)
    said = " The message that it was to send is sent." if known.said_to else ""
    text = f"The host ended while it carried out {new.action}: whether it had an effect is not known.{said}"
    return Outcome(text=text, is_error=True)
