"""What a turn begins with, and what people are told at its end."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Final

from nanoclaw_core.mailbox import OutstandingPush
from nanoclaw_core.models import Address, AgentGroup, Push, Row, TurnEnd, Usage, Words
from nanoclaw_core.ports import Dialogue
from nanoclaw_core.workers import notices

_PROMPT_LIMIT: Final = 120_000  # characters of rows in one prompt; what is beyond waits for the next


class OpenPushes(dict[str, OutstandingPush]):
    """The pushes that no end has covered, by their uuids, in the order in which they were recorded."""

    @property
    def rows(self) -> list[Row]:
        return [row for each in self.values() for row in each.rows]

    @property
    def address(self) -> Address | None:
        """Where the answer to them goes."""
        return next((each.address for each in self.values()), None)

    @property
    def is_new(self) -> bool:
        """Whether no worker had any of them before."""
        return all(each.attempts == 1 for each in self.values())

    def add(self, push: Push, rows: Sequence[Row], worker_id: str) -> None:
        """Note a push that was recorded just now."""
        self[push.uuid] = OutstandingPush(push=push, rows=tuple(rows), address=rows[0].address, attempts=1, worker_id=worker_id)

    def covered_by(self, end: TurnEnd) -> list[OutstandingPush]:
        """Those of them that `end` names."""
        return [self[uuid] for uuid in end.covered if uuid in self]

    def rows_tried(self, times: int, extra: int = 0) -> list[Row]:
        """The rows that `times` workers have taken, or more; `extra` are counted on top for each."""
        return [row for each in self.values() if each.attempts + extra >= times for row in each.rows]


def rows_of_one_prompt(waiting: Sequence[Row], reply_to: Address | None) -> list[Row]:
    """What goes into the next prompt: rows of one address, that of the running turn if there is one, until it is full."""
    rows: list[Row] = []
    size = 0
    for row in waiting:
        if row.address != (reply_to or waiting[0].address) or (rows and size + len(row.text) > _PROMPT_LIMIT):
            break
        rows.append(row)
        size += len(row.text)
    return rows


def push_of(rows: Sequence[Row], text: str) -> Push:
    """The push that holds `rows`: its uuid is the same whenever it is made of the same rows."""
    ids = ",".join(row.id for row in rows)
    return Push(uuid=str(uuid.uuid5(uuid.NAMESPACE_URL, f"nanoclaw:push:{ids}")), text=text)


async def last_words(
    dialogue: Dialogue, agent_group: AgentGroup, end: TurnEnd, covered: Sequence[OutstandingPush], *, spoke: bool
) -> list[Words]:
    """What people are told at the end of a turn: the answer, or why there is none; never nothing.

    `spoke` is whether the agent has already said something there in this turn.
    """
    if not covered:
        return []
    reply_to = covered[-1].address
    if end.failure:
        return [Words(to=reply_to, text=notices.of_failure(end.failure))]
    words = await dialogue.answers(agent_group, reply_to, end.text)
    if not spoke and all(each.to != reply_to for each in words):
        words.append(Words(to=reply_to, text=notices.NO_ANSWER))
    return words


def tokens(usage: Usage) -> dict[str, int]:
    """What a turn used, as its event tells it."""
    return {name: getattr(usage, name) for name in ("input_tokens", "output_tokens", "model_calls")}
