"""What is said of each message's outcome, and when one counts as stuck."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from anyio import to_thread

from nanoclaw_core.errors import UnknownName
from nanoclaw_core.history.outcomes import DEADLINES, State, Stuck, newest, stuck
from nanoclaw_core.mailbox import NewOutbound, row_id
from nanoclaw_core.models import EngageMode, Failure, FailureKind, InboundKind, OutboundKind
from nanoclaw_core.store import agents, chats, sessions
from nanoclaw_core.store.database import Connection
from tests.history.conftest import WORKER, Past
from tests.house import CHAT
from tests.routing.desk import ELSEWHERE, wire_elsewhere

LONG = max(DEADLINES.values()) + 1


# --- each state -------------------------------------------------------------------------------------------------------------


async def test_a_message_that_nobody_looked_at_is_unrouted_and_stuck_after_a_minute(past: Past) -> None:
    await past.accept()
    assert (await past.outcome()).state is State.UNROUTED
    assert await past.stuck(after=30) == []
    assert await past.stuck(after=61) == [1]


async def test_a_message_that_no_agent_hears_is_ignored_and_never_stuck(past: Past) -> None:
    await past.route(await past.accept(), "ignored")
    assert (await past.outcome()).state is State.IGNORED
    assert await past.stuck(after=LONG) == []


async def test_a_message_that_no_mailbox_could_take_has_failed(past: Past) -> None:
    await past.route(await past.accept(), "failed")
    outcome = await past.outcome()
    assert (outcome.state, outcome.waits_for) == (State.FAILED, "")


async def test_a_message_without_a_worker_waits_and_is_stuck_after_ten_minutes(past: Past) -> None:
    await past.route(await past.accept())
    outcome = await past.outcome()
    assert (outcome.state, outcome.agent, outcome.waits_for) == (State.WAITING, "Andy", "a worker")
    assert await past.stuck(after=500) == []
    assert await past.stuck(after=601) == [1]


async def test_an_answer_in_another_chat_is_found_where_the_question_was_asked(past: Past) -> None:
    await past.house.database.write(partial(wire_elsewhere, now=1.0))
    await past.route(await past.accept("2", address=ELSEWHERE, kind=InboundKind.ANSWER, about=f"{past.house.session.id}:1"))
    assert (await past.outcome()).state is State.WAITING
    assert [each.text for each in await past.moments() if each.agent == "Andy"] != []


async def test_a_reaction_is_found_in_whatever_thread(past: Past) -> None:
    ensure = partial(sessions.ensure_session, agent_group_id=past.house.agent.id, messaging_group_id=past.house.chat.id)
    thread = await past.house.database.write(partial(ensure, thread="7", now=1.0))
    await past.route(await past.accept("👍", kind=InboundKind.REACTION, about="90"), session=thread)
    assert (await past.outcome()).state is State.WAITING


async def test_a_waiting_message_says_what_its_chat_was_told_and_is_stuck_all_the_same(past: Past) -> None:
    await past.route(await past.accept())
    key = f"waiting-{row_id(past.house.session.id, 1)}-RuntimeUnavailable"
    await past.house.mailbox.add_outbound(key, NewOutbound(to=CHAT, text="Docker is away.", kind=OutboundKind.NOTICE))
    assert (await past.outcome()).reason == "Docker is away."
    assert await past.stuck(after=601) == [1]


async def test_a_message_that_a_worker_has_is_worked_on_for_an_hour_at_most(past: Past) -> None:
    await past.worked_on()
    outcome = await past.outcome()
    assert (outcome.state, outcome.at) == (State.WORKING, past.house.clock.time() - 1)
    assert await past.stuck(after=3000) == []
    assert await past.stuck(after=3601) == [1]


async def test_a_message_whose_worker_ended_waits_for_another(past: Past) -> None:
    await past.worked_on()
    await past.end_worker("its container ended with code 137")
    outcome = await past.outcome()
    assert (outcome.state, outcome.reason) == (State.WAITING, f"worker {WORKER} ended: its container ended with code 137")
    assert await past.stuck(after=601) == [1]


async def test_an_answer_on_its_way_is_stuck_after_ten_minutes_with_the_reason(past: Past) -> None:
    await past.end_turn(await past.worked_on())
    await past.house.mailbox.sending(1, 0)
    await past.house.mailbox.not_sent(1, 0, "the platform is away")
    outcome = await past.outcome()
    assert (outcome.state, outcome.waits_for) == (State.ANSWERED, "delivery to fake: the platform is away")
    assert await past.stuck(after=500) == []
    assert await past.stuck(after=601) == [1]


async def test_an_answer_that_waits_for_somebody_at_a_terminal_is_not_stuck(past: Past) -> None:
    await past.end_turn(await past.worked_on())
    assert await past.stuck(after=LONG, patient=frozenset({"fake"})) == []


async def test_an_answer_that_arrived_is_delivered_and_says_when(past: Past) -> None:
    await past.end_turn(await past.worked_on())
    await past.deliver()
    outcome = await past.outcome()
    assert (outcome.state, outcome.at, outcome.waits_for) == (State.DELIVERED, past.house.clock.time() - 1, "")
    assert await past.stuck(after=LONG) == []


async def test_a_turn_that_had_nothing_to_say_is_answered_and_done(past: Past) -> None:
    await past.end_turn(await past.worked_on(), text="")
    assert (await past.outcome()).state is State.ANSWERED
    assert await past.stuck(after=LONG) == []


async def test_an_answer_that_was_given_up_says_why(past: Past) -> None:
    await past.end_turn(await past.worked_on())
    await past.house.mailbox.undeliverable(1, "the bot was removed")
    outcome = await past.outcome()
    assert (outcome.state, outcome.reason) == (State.UNDELIVERED, "the bot was removed")
    assert await past.stuck(after=LONG) == []


@pytest.mark.parametrize(
    ("kind", "state", "reason"),
    [(FailureKind.MODEL, State.FAILED, "401 invalid key"), (FailureKind.INTERRUPTED, State.INTERRUPTED, "")],
)
async def test_a_turn_without_an_answer_says_how_it_ended(past: Past, kind: FailureKind, state: State, reason: str) -> None:
    await past.end_turn(await past.worked_on(), "⚠️", Failure(kind=kind, detail="401 invalid key"))
    await past.deliver()
    outcome = await past.outcome()
    assert (outcome.state, outcome.reason) == (state, reason)
    assert await past.stuck(after=LONG) == []


async def test_a_notice_of_a_failure_that_does_not_arrive_is_stuck_too(past: Past) -> None:
    await past.end_turn(await past.worked_on(), "⚠️", Failure(kind=FailureKind.MODEL, detail="401"))
    assert await past.stuck(after=601) == [1]


async def test_a_message_that_was_given_up_without_an_engine_says_what_the_chat_was_told(past: Past) -> None:
    number = await past.worked_on()
    await past.house.mailbox.fail_rows(
        [row_id(past.house.session.id, number)], [NewOutbound(to=CHAT, text="Three workers died.")], "failed"
    )
    outcome = await past.outcome()
    assert (outcome.state, outcome.reason) == (State.FAILED, "Three workers died.")


# --- what cannot be known -----------------------------------------------------------------------------------------------------


async def test_a_message_that_its_mailbox_has_forgotten_is_unknown(past: Past) -> None:
    await past.accept()
    await past.journal.routed({1: "heard"})
    outcome = await past.outcome()
    assert (outcome.state, outcome.reason) == (State.UNKNOWN, "no mailbox has it any more")


async def test_a_message_whose_turn_was_forgotten_is_unknown_and_not_stuck(past: Past) -> None:
    await past.end_turn(await past.worked_on())
    await past.deliver()
    forget = "DELETE FROM turn_rows", "DELETE FROM turns", "DELETE FROM messages"
    await past.house.mailbox._run("outbound", lambda db: [db.execute(each) for each in forget])
    outcome = await past.outcome()
    assert (outcome.state, outcome.reason) == (State.UNKNOWN, "its end is not kept any more")
    assert await past.stuck(after=LONG) == []
    assert "its outcome is not known any more" in (await past.moments())[-1].text


async def test_a_missing_file_is_named_and_a_session_with_work_cannot_be_called_well(past: Past) -> None:
    await past.end_turn(await past.worked_on())
    await past.house.mailboxes.close()
    (past.home / past.house.session.folder / "outbound.db").unlink()
    missing = f"outbound.db of session {past.house.session.id} is not there"
    assert (await past.outcome()).reason == missing
    found = await to_thread.run_sync(stuck, past.home, past.house.clock.time())
    assert found == Stuck(faults=(missing,))


async def test_a_session_whose_mailbox_was_not_made_yet_is_no_fault(past: Past) -> None:
    await past.house.mailboxes.close()
    for path in (past.home / past.house.session.folder).iterdir():
        path.unlink()
    assert await to_thread.run_sync(stuck, past.home, past.house.clock.time()) == Stuck()


def test_a_home_without_a_database_has_no_messages(tmp_path: Path) -> None:
    assert newest(tmp_path, 20) == []
    assert stuck(tmp_path, 0.0) == Stuck()
    assert list(tmp_path.iterdir()) == []


# --- which messages -----------------------------------------------------------------------------------------------------------


async def test_the_newest_come_last_and_no_more_than_asked_for(past: Past) -> None:
    for _ in range(4):
        await past.route(await past.accept(), "ignored")
    assert [each.message.number for each in await past.newest(limit=3)] == [2, 3, 4]


async def test_a_message_has_an_outcome_for_each_agent_that_heard_it(past: Past) -> None:
    await past.route(await past.accept())
    bea = await past.house.database.write(partial(_second_agent, chat=past.house.chat.id))
    await past.house.mailboxes.close()
    assert [each.agent for each in (await past.newest())[0].outcomes] == ["Andy"]  # Bea came later, and has heard nothing
    assert [each.message.number for each in await past.newest(agent="ANDY")] == [1]
    assert await past.newest(agent=bea) == []


async def test_an_agent_that_is_not_there_is_an_error_that_lists_those_that_are(past: Past) -> None:
    with pytest.raises(UnknownName, match="Known: Andy"):
        await past.newest(agent="Zoe")


@pytest.mark.parametrize(("words", "count"), [("FAM", 1), ("chat-1", 1), ("fake", 1), ("work", 0)])
async def test_a_chat_is_found_by_its_name_its_id_or_its_channel(past: Past, words: str, count: int) -> None:
    await past.route(await past.accept())
    assert len(await past.newest(chat=words)) == count


async def test_what_is_stuck_is_found_among_what_is_not_done_alone(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the history is: a settled session's mailbox is not opened."""
    await past.end_turn(await past.worked_on())
    await past.deliver()
    await past.house.mailbox.delivered(2)
    settle = partial(sessions.settle, session_id=past.house.session.id, seen=10)
    await past.house.database.write(settle)
    monkeypatch.setattr("nanoclaw_core.history.outcomes.mailbox_history", None)
    assert await past.stuck(after=LONG) == []


async def test_looking_changes_no_byte(past: Past) -> None:
    await past.end_turn(await past.worked_on())
    await past.house.mailboxes.close()
    mailbox = past.home / past.house.session.folder
    before = {path.name: path.read_bytes() for path in mailbox.iterdir()}
    await past.newest()
    await past.stuck(after=LONG)
    await past.timeline()
    assert {path.name: path.read_bytes() for path in mailbox.iterdir()} == before


async def test_a_home_that_cannot_be_written_is_read_from_a_copy_with_what_its_logs_hold(
    past: Past, monkeypatch: pytest.MonkeyPatch
) -> None:
    await past.end_turn(await past.worked_on())
    await past.deliver()  # all of it is in the files' logs still, since they are open
    monkeypatch.setattr("os.access", lambda *_: False)
    assert (await past.outcome()).state is State.DELIVERED
    assert [each.kind for each in await past.moments()][-1] == "delivered"


def _second_agent(connection: Connection, chat: str) -> str:
    group = agents.create_agent_group(connection, name="Bea", folder="bea", now=1.0)
    chats.wire(
        connection,
        messaging_group_id=chat,
        agent_group_id=group.id,
        engage_mode=EngageMode.PATTERN,
        pattern=".",
        now=1.0,
    )
    sessions.ensure_session(connection, agent_group_id=group.id, messaging_group_id=chat, thread=None, now=1.0)
    return group.name
