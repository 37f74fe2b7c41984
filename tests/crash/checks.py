"""What must be true after every recovery, looked up in the world, the mailboxes, the database and the runtime."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import msgspec

from nanoclaw_core.delivery.losses import DOUBT
from tests.crash.house import House
from tests.crash.world import Message

#: Descriptors and threads that a host may have more than in its first quiet moment: clients keep connections, threads idle.
SLACK: Final = 60


class Kind(StrEnum):
    """In what way something is wrong."""

    LOST = "lost"
    DOUBLED = "doubled"
    STUCK = "stuck"
    LEFT = "left over"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Something that must not be."""

    kind: Kind
    detail: str


@dataclass(kw_only=True)
class Findings:
    """What came of a blow: there may be no faults; the rest is allowed, and told.

    `doubts` counts parts whose place a notice takes that they may be missing, `bash_again` commands that ran more than once.
    """

    faults: list[Fault] = field(default_factory=list)
    doubts: int = 0
    bash_again: int = 0

    def add(self, kind: Kind, details: Iterable[str]) -> None:
        self.faults += [Fault(kind=kind, detail=detail) for detail in details]


def judge_messages(house: House, messages: Collection[Message], findings: Findings) -> None:
    """Each message has one outcome, one reply, and what it asked for was done."""
    _judge_outcomes(house, messages, findings)
    _judge_replies(house, messages, findings)
    _judge_effects(house, messages, findings)


def judge_all(house: House, findings: Findings) -> None:
    """Nothing of any earlier point came again later."""
    messages = house.world.messages.values()
    _judge_outcomes(house, messages, findings)
    again = [message.text for message in messages if house.world.texts(message, "reply") > 1]
    findings.add(Kind.DOUBLED, [f"people saw the reply to {text!r} again later" for text in again])


def _judge_outcomes(house: House, messages: Iterable[Message], findings: Findings) -> None:
    found = defaultdict[str, list[str]](list)
    for settles, outcome in house.mailbox("outbound", "SELECT settles, outcome FROM messages WHERE kind = 'settled'"):
        for message_id in msgspec.json.decode(settles, type=list[str]):
            found[message_id].append(outcome)
    for message in messages:
        match found[message.id]:
            case ["answered"]:
                pass
            case []:
                findings.add(Kind.STUCK, [f"{message.text!r} has no outcome"])
            case [outcome]:
                findings.add(Kind.LOST, [f"{message.text!r} ended as {outcome!r}"])
            case several:
                findings.add(Kind.DOUBLED, [f"{message.text!r} has the outcomes {several}"])


def _judge_replies(house: House, messages: Iterable[Message], findings: Findings) -> None:
    """Where a platform cannot tell a repeated message, a notice of doubt may stand for it: it is never sent again."""
    doubts = Counter(sent.chat for sent in house.world.fresh() if sent.channel == "plain" and sent.text == DOUBT)
    for message in messages:
        for word in ("reply", "note") if "say" in message.steps else ("reply",):
            seen = house.world.texts(message, word)
            if seen > 1:
                findings.add(Kind.DOUBLED, [f"people saw the {word} to {message.text!r} {seen} times"])
            elif not seen and doubts[message.chat.name]:
                doubts[message.chat.name] -= 1
                findings.doubts += 1
            elif not seen:
                findings.add(Kind.LOST, [f"nobody saw the {word} to {message.text!r}"])


def _judge_effects(house: House, messages: Iterable[Message], findings: Findings) -> None:
    for message in messages:
        if "count" in message.steps:
            times = len(house.world.counted[message.number])
            findings.add(Kind.DOUBLED, [f"{message.text!r} was counted {times} times"] * (times > 1))
            findings.add(Kind.LOST, [f"{message.text!r} was never counted"] * (not times))
        if "bash" in message.steps:
            times = house.appended(message.number)
            findings.bash_again += max(0, times - 1)
            findings.add(Kind.LOST, [f"{message.text!r} was never appended"] * (not times))


def stuck(house: House) -> list[str]:
    """What waits: to be routed, for the end of a push, for delivery."""
    waiting = {
        "messages are not routed": house.query("SELECT message_id FROM events WHERE routed_at IS NULL"),
        "pushes have no end": house.mailbox("outbound", "SELECT uuid FROM pushes"),
        "sessions are marked as having work": house.query("SELECT id FROM sessions WHERE attention > settled"),
    }
    return [f"{len(rows)} {what}: {rows}" for what, rows in waiting.items() if rows]


async def left_over(house: House) -> list[str]:
    """Claims, containers and folders of sockets that do not belong together, and containers that have ended."""
    claims, doors, containers = house.claims(), house.doors(), await house.containers.found()
    wrong = [f"the container {found.name} has {found.state}" for found in containers if found.state in ("exited", "dead")]
    if (workers := {found.worker for found in containers}) != claims:
        wrong.append(f"containers {sorted(workers)} are there for claims of {sorted(claims)}")
    if doors != claims:
        wrong.append(f"folders of sockets {sorted(doors)} are there for claims of {sorted(claims)}")
    return wrong


def leaked(house: House, baseline: tuple[int, int]) -> list[str]:
    """What the host has more of than in the beginning."""
    counted = zip(("descriptors", "threads"), house.open_files(), baseline, strict=True)
    return [f"the host has {now} {what}, and had {then}" for what, now, then in counted if now > then + SLACK]


async def is_tidy(house: House) -> bool:
    """Whether nothing waits and nothing is left over."""
    return await house.is_quiet() and not stuck(house) and not await left_over(house)
