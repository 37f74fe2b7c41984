"""One message's way: everything that is stored of it, in order, and what is missing, named."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from nanoclaw_core.history.timeline import MessageUnknown, timeline
from nanoclaw_core.mailbox import NewCall, NewOutbound, row_id
from nanoclaw_core.models import Failure, FailureKind, OutboundKind
from nanoclaw_core.store import workers
from tests.history.conftest import WORKER, Past
from tests.house import CHAT

VERSION_1 = Path(__file__).parents[1] / "mailbox" / "version1"


async def test_the_whole_way_of_a_message_in_order_with_its_times(past: Past) -> None:
    number = await past.worked_on()
    await past.house.mailbox.note("tool", WORKER, "Bash: ls")
    await past.tick()
    call = NewCall(key="k1", worker_id=WORKER, action="send_message", arguments="{}", digest="d")
    await past.house.mailbox.begin_call(call)
    await past.tick()
    await past.house.mailbox.add_outbound("call-k1", NewOutbound(to=CHAT, text="half way"))
    await past.house.mailbox.end_call("k1", "sent", is_error=False)
    await past.end_turn(number)
    await past.deliver(1)
    await past.deliver(2)
    found = await past.timeline()
    came = found.standing.message.received_at
    assert [(each.kind, each.at and each.at - came, each.text) for each in found.moments] == [
        ("sent", -1.0, "Ada (fake:ada) wrote it, says fake"),
        ("accepted", 0.0, "came from fake, Family, and was stored"),
        ("queued", 1.0, "put into the agent's mailbox as row 1"),
        ("routed", 1.0, "heard by Andy"),
        ("worker", 2.0, f"worker {WORKER} was claimed for this conversation"),
        ("worker", 3.0, f"worker {WORKER} started: container c0ffee of image:1"),
        ("pushed", 4.0, f"given to worker {WORKER}"),
        ("tool", 5.0, "Bash: ls"),
        ("action", 6.0, "calls the action send_message"),
        ("action", 7.0, "send_message done: sent"),
        ("turn", 7.0, "the turn ended after 3.00 s: answered (1 model call, 10 tokens in, 2 out)"),
        ("said", 7.0, "a message goes to fake chat-1: half way"),
        ("said", 7.0, "an answer goes to fake chat-1: hi there"),
        ("part", 8.0, "part 1 was sent as p1"),
        ("delivered", 8.0, "delivered"),
        ("part", 9.0, "part 1 was sent as p2"),
        ("delivered", 9.0, "delivered"),
    ]
    assert [each.agent for each in found.moments if each.kind in ("sent", "accepted", "routed")] == [""] * 3
    assert [(agent, turn.usage.input_tokens) for agent, turn in found.turns] == [("Andy", 10)]
    assert found.faults == ()


async def test_workers_that_died_on_it_are_told_with_their_reasons(past: Past) -> None:
    await past.worked_on()
    await past.end_worker("it used more memory than it may")
    await past.claim("w2")
    await past.house.mailbox.begin_attempt(["u1"], "w2")
    await past.house.database.write(
        partial(workers.adopt_worker, worker_id="w2", container_id="c0ffee", now=past.house.clock.time())
    )
    texts = [each.text for each in await past.moments()]
    assert f"worker {WORKER} ended: it used more memory than it may" in texts
    assert "given to worker w2, the 2. that gets it" in texts
    assert any(text.endswith("taken over 1 times since its last turn, from hosts that had ended") for text in texts)


async def test_a_delivery_tells_its_tries_the_last_reason_and_what_the_chat_was_told(past: Past) -> None:
    await past.end_turn(await past.worked_on())
    for _ in range(2):
        await past.house.mailbox.sending(1, 0)
        await past.house.mailbox.not_sent(1, 0, "too many requests")
        await past.tick()
    await past.house.mailbox.add_outbound("loss-1", NewOutbound(to=CHAT, text="(It was lost.)", kind=OutboundKind.NOTICE))
    await past.house.mailbox.undeliverable(1, "gave up")
    told = [(each.kind, each.text) for each in await past.moments()][-4:]
    assert told == [
        ("said", "an answer goes to fake chat-1: hi there"),
        ("part", "part 1 was not sent, 2 tries: too many requests"),
        ("said", "a notice goes to fake chat-1: (It was lost.)"),
        ("undelivered", "given up: gave up"),
    ]


async def test_a_failed_turn_tells_its_detail(past: Past) -> None:
    await past.end_turn(await past.worked_on(), "⚠️", Failure(kind=FailureKind.MODEL, detail="401 invalid key"))
    (turn,) = [each.text for each in await past.moments() if each.kind == "turn"]
    assert "model, 401 invalid key" in turn


async def test_a_message_that_nobody_heard_tells_who_listens_for_what(past: Past) -> None:
    await past.route(await past.accept(), "ignored")
    assert (await past.moments())[-1].text == "no agent heard it: Andy now listens for the pattern ."


async def test_what_belongs_to_another_message_is_not_told(past: Past) -> None:
    await past.end_turn(await past.worked_on())
    await past.route(await past.accept("another"))
    await past.push(2)
    await past.house.mailbox.note("tool", WORKER, "Bash: the second")
    await past.end_turn(2, "to the second")
    assert not any("second" in each.text for each in await past.moments(1))
    assert any("the second" in each.text for each in await past.moments(2))


# --- what is missing ----------------------------------------------------------------------------------------------------------


async def test_a_number_that_never_was_is_an_error_with_the_range(past: Past) -> None:
    await past.accept()
    with pytest.raises(MessageUnknown, match=r"There is no message 7\. There are 1 to 1\."):
        await past.timeline(7)


async def test_a_message_beyond_the_retention_is_said_to_be_so(past: Past) -> None:
    for _ in range(3):
        await past.route(await past.accept(), "ignored")
    await past.house.database.write(lambda connection: connection.exec_driver_sql("DELETE FROM events WHERE seq < 3"))
    with pytest.raises(MessageUnknown, match=r"Message 1 is older than what is kept .* There are 3 to 3\."):
        await past.timeline(1)
    await past.house.database.write(lambda connection: connection.exec_driver_sql("DELETE FROM events"))
    with pytest.raises(MessageUnknown, match="None is kept"):
        await past.timeline(3)


def test_a_home_where_none_ever_came_says_so(tmp_path: Path) -> None:
    with pytest.raises(MessageUnknown, match="none has come yet"):
        timeline(tmp_path, 1)


@pytest.mark.parametrize("name", ["inbound.db", "outbound.db"])
@pytest.mark.parametrize("damage", ["gone", "broken", "truncated", "newer"])
async def test_a_damaged_mailbox_is_named_and_the_rest_is_told(past: Past, name: str, damage: str) -> None:
    await past.end_turn(await past.worked_on())
    await past.house.mailboxes.close()
    path = past.home / past.house.session.folder / name
    match damage:
        case "gone":
            path.unlink()
        case "broken":
            path.write_bytes(b"no database at all" * 1000)
        case "truncated":
            path.write_bytes(path.read_bytes()[:6000])
        case "newer":
            with closing(sqlite3.connect(path)) as connection:
                connection.execute("PRAGMA user_version=99")
    found = await past.timeline()
    assert any(name in fault for fault in found.faults)
    assert {"accepted", "routed", "gap"} <= {each.kind for each in found.moments}


async def test_the_files_of_version_1_tell_what_they_know(past: Past) -> None:
    number = await past.accept()
    await past.journal.routed({number: "heard"})
    folder = past.home / past.house.session.folder
    await past.house.mailboxes.close()
    for side in ("inbound", "outbound"):
        (folder / f"{side}.db").unlink()
        with closing(sqlite3.connect(folder / f"{side}.db")) as connection:
            connection.executescript((VERSION_1 / f"{side}.sql").read_text())
            if side == "inbound":
                connection.execute("UPDATE rows SET id = ? WHERE seq = 1", [row_id(past.house.session.id, number)])
                connection.commit()
    found = await past.timeline()
    assert [(each.kind, each.at) for each in found.moments if each.agent] == [("queued", None), ("turn", None)]
    assert found.standing.outcomes[0].state == "answered"
    assert any("version 1" in fault for fault in found.faults)
