"""A host that dies without a word, at the worst moments, and what its successor finds."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest

from nanoclaw_core.mailbox import Mailboxes, NewOutbound
from nanoclaw_core.models import Address, Push, Session, TurnEnd

HERE = Address(channel="telegram", chat="42")
PUSH = Push(uuid="u1", text="push")
END = TurnEnd(id="w1-1", covered=("u1",), text="ok", conversation="c1")

#: Does the steps of a turn and dies, without any clean-up, where the second argument says.
HOST = """
import os, sys
from collections.abc import Sequence
from pathlib import Path
import anyio
from nanoclaw_core.mailbox import Mailboxes, NewOutbound, NewRow
from nanoclaw_core.models import Address, Push, Session, TurnEnd

HOME, MOMENT = Path(sys.argv[1]), sys.argv[2]
HERE = Address(channel="telegram", chat="42")

def die(moment):
    if moment == MOMENT:
        os._exit(9)

class Answers(tuple):
    def __iter__(self):
        for answer in tuple.__iter__(self):
            yield answer
            die("in the end of the turn")

class Rows(tuple):
    def __iter__(self):
        for row in tuple.__iter__(self):
            yield row
            die("while rows are added")

async def main():
    session = Session(id="s1", agent_group_id="a1", messaging_group_id="m1", thread=None, folder="sessions/andy/s1")
    mailbox = await Mailboxes(HOME).open(session)
    row = NewRow(id="row-1", address=HERE, message_id="1", sender_id="", sender_name="", text="x", sent_at=1.0)
    await mailbox.add_rows(Rows([row]))
    die("after the row was added")
    await mailbox.record_push(Push(uuid="u1", text="push"), ["row-1"], "w1")
    die("after the push was recorded")
    end = TurnEnd(id="w1-1", covered=("u1",), text="ok", conversation="c1")
    await mailbox.end_turn(end, Answers([NewOutbound(to=HERE, text="ok")]), "answered")
    die("after the end of the turn")
    (answer, settled) = await mailbox.due()
    await mailbox.sending(answer.seq, 0)
    die("while the answer is sent")
    await mailbox.sent(answer.seq, 0, "m1")
    await mailbox.delivered(answer.seq)
    die("after the answer was delivered")

anyio.run(main)
"""


@pytest.mark.parametrize(
    ("moment", "waiting", "outstanding", "due", "in_flight"),
    [
        ("while rows are added", 0, 0, [], 0),
        ("after the row was added", 1, 0, [], 0),
        ("after the push was recorded", 0, 1, [], 0),
        ("in the end of the turn", 0, 1, [], 0),
        ("after the end of the turn", 0, 0, ["ok", "settled"], 0),
        ("while the answer is sent", 0, 0, ["ok", "settled"], 1),
        ("after the answer was delivered", 0, 0, ["settled"], 0),
    ],
)
async def test_a_successor_finds_exactly_what_was_finished(
    tmp_path: Path, session: Session, moment: str, waiting: int, outstanding: int, due: list[str], in_flight: int
) -> None:
    with anyio.fail_after(60):
        ended = await anyio.run_process([sys.executable, "-c", HOST, str(tmp_path), moment], check=False)
    assert ended.returncode == 9
    mailboxes = Mailboxes(tmp_path)
    mailbox = await mailboxes.open(session)
    assert len(await mailbox.waiting()) == waiting
    assert [pushed.push for pushed in await mailbox.outstanding()] == [PUSH] * outstanding
    rows = await mailbox.due()
    assert [row.text or row.kind.value for row in rows] == due
    assert sum([len((await mailbox.receipt(row.seq)).in_flight) for row in rows]) == in_flight
    # What the runner has spooled comes again, and takes effect exactly when it had none.
    assert await mailbox.end_turn(END, [NewOutbound(to=HERE, text="ok")], "answered") == bool(outstanding)
    await mailboxes.close()
