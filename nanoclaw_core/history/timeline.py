"""One message's way, step by step: from the platform through routing, queue, worker and turn to its delivery."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from nanoclaw_core.errors import NanoClawError
from nanoclaw_core.history.outcomes import Standing, standing
from nanoclaw_core.mailbox import row_id
from nanoclaw_core.mailbox.history import ActionCall, Outgoing, Trace, Turn, mailbox_history
from nanoclaw_core.models import EngageMode, OutboundKind, Wiring
from nanoclaw_core.store import history
from nanoclaw_core.store.history import Accepted, Connection, WorkerLife
from nanoclaw_core.store.inspection import looking


class MessageUnknown(NanoClawError):
    """No message has this number, or what was kept of it is gone."""

    exit_code = 3

    def __init__(self, number: int, oldest: int, newest: int) -> None:
        if not newest:
            super().__init__(f"There is no message {number}: none has come yet.")
        elif number > newest or number < 1:
            super().__init__(f"There is no message {number}. {_range(oldest, newest)} `nanoclaw messages` lists the newest.")
        else:
            super().__init__(
                f"Message {number} is older than what is kept (NANOCLAW_HISTORY_DAYS): nothing is known of it any more. "
                f"{_range(oldest, newest)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something that happened at `at`, which is None where an earlier version has not noted it. `agent` is '' for no one's."""

    at: float | None
    kind: str
    text: str
    agent: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """Everything that is known of a message, in order. `faults` says, a line each, what cannot be known and why."""

    standing: Standing
    moments: tuple[Moment, ...]
    turns: tuple[tuple[str, Turn], ...]
    faults: tuple[str, ...]


def timeline(home: Path, number: int) -> Timeline:
    """The way of the message with this number. Blocks.

    Raises:
        MessageUnknown: there is none. DatabaseBroken, HomeUnusable: the database cannot be read.
    """
    if not (home / "nanoclaw.db").exists():
        raise MessageUnknown(number, 0, 0)
    with looking(home / "nanoclaw.db") as connection:
        message = history.accepted(connection, number)
        if message is None:
            raise MessageUnknown(number, *history.numbers(connection))
        return _timeline(connection, home, message)


def _timeline(connection: Connection, home: Path, message: Accepted) -> Timeline:
    found = standing(connection, home, message)
    moments = list(_accepted(message))
    faults: list[str] = []
    turns: list[tuple[str, Turn]] = []
    heard: list[str] = []
    for listener in history.listeners(connection, message):
        with mailbox_history(home / listener.session.folder) as mailbox:
            trace = mailbox.trace(row_id(listener.session.id, message.number))
            faults += mailbox.faults if trace or not mailbox.is_whole else ()
            if trace is None:
                continue
            heard.append(listener.agent)
            lives = history.lives(connection, listener.session.id)
            moments += [replace(each, agent=listener.agent) for each in _heard(trace, lives)]
            turns += [(listener.agent, trace.turn)] if trace.turn else ()
    moments += _routed(connection, message, heard)
    moments += [Moment(at=None, kind="gap", text=f"not all is known: {fault}") for fault in faults]
    return Timeline(standing=found, moments=tuple(_in_order(moments)), turns=tuple(turns), faults=tuple(faults))


def _in_order(moments: Iterable[Moment]) -> list[Moment]:
    """By time; what has none stays behind what it was listed after."""
    last = 0.0
    keyed = []
    for each in moments:
        last = last if each.at is None else each.at
        keyed.append((last, each))
    return [each for _, each in sorted(keyed, key=lambda pair: pair[0])]


# --- the message ----------------------------------------------------------------------------------------------------------


def _accepted(message: Accepted) -> Iterator[Moment]:
    chat = message.chat_name or message.chat
    if message.message is None:
        yield Moment(
            at=message.received_at, kind="accepted", text=f"came from {message.channel}, {chat}; it cannot be read any more"
        )
        return
    who = f"{message.message.sender.name} ({message.message.sender.user_id(message.channel)})"
    yield Moment(at=message.message.sent_at, kind="sent", text=f"{who} wrote it, says {message.channel}")
    yield Moment(at=message.received_at, kind="accepted", text=f"came from {message.channel}, {chat}, and was stored")


def _routed(connection: Connection, message: Accepted, heard: Sequence[str]) -> Iterator[Moment]:
    if message.routed_at is None:
        return
    if message.word == "ignored":
        ears = history.ears(connection, message.address)
        why = "; ".join(_ear(agent, wiring) for agent, wiring in ears) or "no agent is wired to this chat"
        yield Moment(at=message.routed_at, kind="routed", text=f"no agent heard it: {why}")
    elif message.word == "answered":
        yield Moment(at=message.routed_at, kind="routed", text="NanoClaw itself answered it")
    elif message.word == "failed":
        yield Moment(at=message.routed_at, kind="routed", text="it could not be put into every mailbox, and the chat was told")
    else:
        yield Moment(
            at=message.routed_at,
            kind="routed",
            text=f"heard by {', '.join(heard) or 'an agent whose mailbox does not have it now'}",
        )


def _ear(agent: str, wiring: Wiring) -> str:
    how = "mentions and the word" if wiring.engage_mode is EngageMode.MENTION else "the pattern"
    return f"{agent} now listens for {how} {wiring.pattern}"


# --- an agent that heard it -------------------------------------------------------------------------------------------------


def _heard(trace: Trace, lives: Sequence[WorkerLife]) -> Iterator[Moment]:
    yield Moment(at=trace.added_at, kind="queued", text=f"put into the agent's mailbox as row {trace.seq}")
    for notice in trace.notices:
        yield from _said(notice)
    for life in lives:
        if life.id in {attempt.worker for attempt in trace.attempts}:
            yield from _life(life)
    for count, attempt in enumerate(trace.attempts, 1):
        again = f", the {count}. that gets it" if count > 1 else ""
        yield Moment(at=attempt.at, kind="pushed", text=f"given to worker {attempt.worker}{again}")
    for step in trace.steps:
        yield Moment(at=step.at, kind=step.kind, text=step.detail)
    for call in trace.calls:
        yield from _called(call)
    if trace.turn:
        yield Moment(at=trace.turn.ended_at, kind="turn", text=_turn(trace.turn))
    elif trace.is_acknowledged:
        yield Moment(at=None, kind="turn", text=f"the turn ended: {trace.word or 'its outcome is not known any more'}")
    for words in trace.words:
        yield from _said(words)


def _life(life: WorkerLife) -> Iterator[Moment]:
    yield Moment(at=life.claimed_at, kind="worker", text=f"worker {life.id} was claimed for this conversation")
    if life.started_at is not None:
        adopted = (
            f"; taken over {life.adoptions} times since its last turn, from hosts that had ended" if life.adoptions else ""
        )
        container = (life.container_id or "")[:12]
        yield Moment(
            at=life.started_at, kind="worker", text=f"worker {life.id} started: container {container} of {life.image}{adopted}"
        )
    if life.ended_at is not None:
        yield Moment(at=life.ended_at, kind="worker", text=f"worker {life.id} ended: {life.reason}")


def _called(call: ActionCall) -> Iterator[Moment]:
    yield Moment(at=call.began_at, kind="action", text=f"calls the action {call.action}")
    if call.ended_at:
        came = "refused" if call.is_error else "done"
        yield Moment(at=call.ended_at, kind="action", text=f"{call.action} {came}: {call.result or ''}")


def _turn(turn: Turn) -> str:
    used = turn.usage
    total = used.input_tokens + used.cache_read_tokens + used.cache_write_tokens
    calls = f"{used.model_calls} model call{'' if used.model_calls == 1 else 's'}"
    spent = f" ({calls}, {total} tokens in, {used.output_tokens} out)" if used.model_calls else ""
    detail = f", {turn.detail}" if turn.detail else ""
    return f"the turn ended after {turn.ended_at - turn.started_at:.2f} s: {turn.outcome}{detail}{spent}"


def _said(words: Outgoing) -> Iterator[Moment]:
    where = f"{words.to.channel} {words.to.chat}"
    what = {OutboundKind.NOTICE: "a notice"}.get(words.kind, "an answer" if words.key is None else "a message")
    yield Moment(at=words.queued_at, kind="said", text=f"{what} goes to {where}: {words.text}")
    for part in words.parts:
        tries = f", {part.tries} tries" if part.tries > 1 else ""
        earlier = f" (before: {part.reason})" if part.reason else ""
        if part.message_id is not None:
            text = f"part {part.number + 1} was sent as {part.message_id}{tries}{earlier}"
        elif part.in_flight:
            text = f"part {part.number + 1} is being sent, or was when the host ended{tries}{earlier}"
        else:
            text = f"part {part.number + 1} was not sent{tries}: {part.reason or 'nobody noted why'}"
        yield Moment(at=part.at, kind="part", text=text)
    if words.is_final:
        end = "delivered" if words.refused is None else f"given up: {words.refused}"
        kind = "delivered" if words.refused is None else "undelivered"
        yield Moment(at=words.final_at, kind=kind, text=end)


def _range(oldest: int, newest: int) -> str:
    return f"There are {oldest} to {newest}." if oldest else "None is kept."
