"""What became of each accepted message, and which of them have waited for longer than they should."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Final

from nanoclaw_core.errors import UnknownName
from nanoclaw_core.mailbox import row_id
from nanoclaw_core.mailbox.history import MailboxHistory, Outgoing, Trace, mailbox_history
from nanoclaw_core.store import agents, history
from nanoclaw_core.store.history import Accepted, Connection, Listener
from nanoclaw_core.store.inspection import looking


class State(StrEnum):
    """How a message stands with one agent; the first two and `UNKNOWN` are of the message as a whole."""

    UNROUTED = "unrouted"  # accepted, and nobody has looked who hears it
    IGNORED = "ignored"  # no agent hears it
    WAITING = "waiting"  # for a worker
    WORKING = "working"  # a worker has it
    ANSWERED = "answered"  # what was said is on its way, or there was nothing to say
    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"  # given up, and said to owner and agent
    INTERRUPTED = "interrupted"
    FAILED = "failed"
    UNKNOWN = "unknown"  # the mailbox has lost or forgotten it


#: For how many seconds a message may be in a state that is no outcome before it counts as stuck. A turn may take its time:
#: a worker that gives no sign of life is ended by the host long before that.
DEADLINES: Final = {State.UNROUTED: 60.0, State.WAITING: 600.0, State.WORKING: 3600.0, State.ANSWERED: 600.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a message stands with `agent` since `at`. `reason` says why; `waits_for` is '' when nothing is to come any more."""

    agent: str
    session: str
    state: State
    at: float | None
    reason: str = ""
    waits_for: str = ""
    channels: frozenset[str] = frozenset()  # where words of it wait to be delivered

    def is_overdue(self, now: float, patient: Container[str]) -> bool:
        """Whether it waits beyond its deadline. On `patient` channels, words wait for people, however long."""
        if not self.waits_for or (self.channels and all(name in patient for name in self.channels)):
            return False
        return self.at is None or now - self.at > DEADLINES.get(self.state, DEADLINES[State.ANSWERED])


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A message, and what became of it with each agent that heard it."""

    message: Accepted
    outcomes: tuple[Outcome, ...]

    def outcomes_of(self, agent: str | None) -> tuple[Outcome, ...]:
        """Those of `agent`, or all of them."""
        return tuple(each for each in self.outcomes if agent is None or each.agent == agent)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """What waits beyond its deadline, and which mailboxes cannot be asked, a line each."""

    messages: tuple[Standing, ...] = ()
    faults: tuple[str, ...] = ()


def newest(home: Path, limit: int, *, agent: str | None = None, chat: str | None = None) -> list[Standing]:
    """The newest messages, the newest last: those that `agent` heard, and those of chats like `chat`. Blocks.

    Raises:
        UnknownName: there is no such agent. DatabaseBroken, HomeUnusable: the database cannot be read.
    """
    if not (home / "nanoclaw.db").exists():
        return []
    with looking(home / "nanoclaw.db") as connection:
        name = None if agent is None else _name_of(connection, agent)
        found = islice(_standings(connection, home, name, chat), limit)
        return list(found)[::-1]


def stuck(home: Path, now: float, patient: Container[str] = (), *, agent: str | None = None, chat: str | None = None) -> Stuck:
    """What has waited for too long; looks at what is not done alone, however much there is. Blocks.

    Raises:
        UnknownName: there is no such agent. DatabaseBroken, HomeUnusable: the database cannot be read.
    """
    if not (home / "nanoclaw.db").exists():
        return Stuck()
    with looking(home / "nanoclaw.db") as connection:
        name = None if agent is None else _name_of(connection, agent)
        liked = None if chat is None else history.chats_like(connection, chat)
        found = {each.number: each for each in history.unrouted(connection, now - DEADLINES[State.UNROUTED])}
        faults: list[str] = []
        for listener in history.at_work(connection):
            with mailbox_history(home / listener.session.folder) as mailbox:
                for row in mailbox.unfinished():
                    if message := history.accepted_as(connection, row.address, row.message_id):
                        found[message.number] = message
                if not mailbox.is_whole and history.has_heard(connection, listener):
                    faults += mailbox.faults
        wanted = (found[number] for number in sorted(found) if liked is None or found[number].key in liked)
        standings = (standing(connection, home, message) for message in wanted)
        late = (each for each in standings if any(one.is_overdue(now, patient) for one in each.outcomes_of(name)))
        return Stuck(messages=tuple(late), faults=tuple(faults))


def standing(connection: Connection, home: Path, message: Accepted) -> Standing:
    """What became of one message."""
    if message.routed_at is None:
        waits = Outcome(
            agent="", session="", state=State.UNROUTED, at=message.received_at, waits_for="the host to look who hears it"
        )
        return Standing(message=message, outcomes=(waits,))
    if message.word == "ignored":
        return Standing(message=message, outcomes=(Outcome(agent="", session="", state=State.IGNORED, at=message.routed_at),))
    if message.word == "answered":
        itself = Outcome(
            agent="", session="", state=State.DELIVERED, at=message.routed_at, reason="NanoClaw itself answered it"
        )
        return Standing(message=message, outcomes=(itself,))
    outcomes: list[Outcome] = []
    faults: list[str] = []
    for listener in history.listeners(connection, message):
        with mailbox_history(home / listener.session.folder) as mailbox:
            trace = mailbox.trace(row_id(listener.session.id, message.number))
            if trace:
                outcomes.append(outcome(connection, listener, mailbox, trace))
            elif not mailbox.is_whole:
                faults += mailbox.faults
    if message.word == "failed":
        reason = "it could not be put into the agent's mailbox; the chat was told"
        outcomes.append(Outcome(agent="", session="", state=State.FAILED, at=message.routed_at, reason=reason))
    if not outcomes:
        reason = "; ".join(faults) or "no mailbox has it any more"
        outcomes.append(Outcome(agent="", session="", state=State.UNKNOWN, at=message.routed_at, reason=reason))
    return Standing(message=message, outcomes=tuple(outcomes))


def outcome(connection: Connection, listener: Listener, mailbox: MailboxHistory, trace: Trace) -> Outcome:
    """How a row stands with the agent of its session."""

    waiting = [each for each in trace.words if not each.is_final]

    def made(state: State, at: float | None, reason: str = "", waits_for: str = "") -> Outcome:
        return Outcome(
            agent=listener.agent,
            session=listener.session.id,
            state=state,
            at=at,
            reason=reason,
            waits_for=waits_for or (_delivery(waiting[0]) if waiting else ""),
            channels=frozenset() if waits_for else frozenset(each.to.channel for each in waiting),
        )

    if not mailbox.is_whole:
        return made(State.UNKNOWN, trace.added_at, "; ".join(mailbox.faults))
    if trace.turn is None and not trace.is_acknowledged:
        return made(*_progress(connection, listener, trace))
    ended_at = trace.turn.ended_at if trace.turn else None
    if trace.word is None:
        return made(State.UNKNOWN, ended_at, "its end is not kept any more")
    if trace.word == State.INTERRUPTED:
        return made(State.INTERRUPTED, ended_at)
    if trace.word != State.ANSWERED:
        detail = trace.turn.detail if trace.turn else None
        return made(State.FAILED, ended_at, detail or next((each.text for each in trace.words), "") or trace.word)
    if waiting:
        return made(State.ANSWERED, ended_at)
    if refused := [each for each in trace.words if each.refused is not None]:
        return made(State.UNDELIVERED, refused[-1].final_at, refused[-1].refused or "")
    if trace.words:
        return made(State.DELIVERED, trace.words[-1].final_at)
    return made(State.ANSWERED, ended_at)


def _progress(connection: Connection, listener: Listener, trace: Trace) -> tuple[State, float | None, str, str]:
    """The state of a row that the agent has not answered, since when, why, and what is waited for."""
    told = trace.notices[-1].text if trace.notices else ""
    if not trace.is_outstanding:
        return State.WAITING, trace.added_at, told, "a worker"
    at, worker = (trace.attempts[-1].at, trace.attempts[-1].worker) if trace.attempts else (trace.added_at, "")
    life = next((each for each in history.lives(connection, listener.session.id) if each.id == worker), None)
    if life is None or life.ended_at is None:
        return State.WORKING, at, told, f"worker {worker}"
    why = f"worker {worker} ended: {life.reason}"
    return State.WAITING, life.ended_at, told or why, "another worker to go on with it"


def _delivery(words: Outgoing) -> str:
    reason = next((part.reason for part in reversed(words.parts) if part.reason), None)
    return f"delivery to {words.to.channel}" + (f": {reason}" if reason else "")


def _standings(connection: Connection, home: Path, agent: str | None, chat: str | None) -> Iterator[Standing]:
    heard = None if agent is None else history.chats_of(connection, agent)
    liked = None if chat is None else history.chats_like(connection, chat)

    def is_wanted(key: tuple[str, str, str]) -> bool:
        return (heard is None or key in heard) and (liked is None or key in liked)

    for message in history.newest_first(connection, is_wanted):
        found = standing(connection, home, message)
        if found.outcomes_of(agent):
            yield found


def _name_of(connection: Connection, agent: str) -> str:
    if found := agents.agent_group_named(connection, agent):
        return found.name
    raise UnknownName("agent", agent, [group.name for group in agents.agent_groups(connection)])
