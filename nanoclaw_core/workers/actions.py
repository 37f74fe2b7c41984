"""What agents call: written down before it is carried out, so that each call has its effect once, whatever dies in between."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Final

import anyio
import structlog

from nanoclaw_core.errors import ActionRefused
from nanoclaw_core.mailbox import Call, Mailbox, NewCall
from nanoclaw_core.models import WorkerIdentity
from nanoclaw_core.ports import Action, ActionCall, Outcome
from nanoclaw_core.workers.desk import Desk
from nanoclaw_core.workers.shift import Shift
from nanoclaw_core.workers.speech import AgentActions

log = structlog.get_logger()

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

    async def outbox(self, identity: WorkerIdentity, *, more: bool = False) -> Path:
        if more:
            await self._desk.require_room()
        return await (await self._mailbox(identity)).outbox()

    async def release(self, identity: WorkerIdentity, uploads: Collection[str]) -> None:
        await (await self._mailbox(identity)).release(uploads)

    async def _mailbox(self, identity: WorkerIdentity) -> Mailbox:
        if (shift := self._shifts.get(identity.session_id)) is None:
            raise ActionRefused("Nothing was done: this worker is at its end.")
        return await self._desk.mailboxes.open(shift.session)

    def host(self, identity: WorkerIdentity, key: str) -> AgentActions:
        """What the worker `identity` may do with the call `key`."""
        return AgentActions(self._desk, self._shifts.get(identity.session_id), identity, key)


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
