"""Edits, reactions and pressed buttons: what is said of an earlier message is looked up, and believed only then."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from nanoclaw_core.mailbox import NewOutbound
from nanoclaw_core.models import InboundKind, Session
from nanoclaw_core.store import sessions
from nanoclaw_core.store.database import Connection
from tests.house import CHAT
from tests.routing.desk import ELSEWHERE, Desk, message, wire_elsewhere


async def sent(desk: Desk, text: str, message_id: str, **more: object) -> None:
    """The agent said something, and the platform calls it `message_id`."""
    await desk.house.mailbox.add_outbound(f"key-{text}", NewOutbound(to=CHAT, text=text, **more))  # type: ignore[arg-type]
    (row,) = await desk.house.mailbox.due()
    await desk.house.mailbox.sent(row.seq, 0, message_id)
    await desk.house.mailbox.delivered(row.seq)


async def test_an_edit_names_the_message_that_the_agent_knows(desk: Desk) -> None:
    await desk.route(message("teh", id="41"), message("the", id="41-edit", kind=InboundKind.EDIT, about="41"))
    first, second = await desk.house.mailbox.waiting()
    assert (second.text, second.kind, second.about) == ("the", InboundKind.EDIT, str(first.seq))


async def test_a_reaction_reaches_the_agent_whose_message_it_is_under(desk: Desk) -> None:
    await sent(desk, "Shall I go on?", "90")
    assert await desk.route(message("👍", id="r1", kind=InboundKind.REACTION, about="90")) == ["heard"]
    (row,) = await desk.house.mailbox.waiting()
    assert (row.text, row.kind, row.about) == ("👍", InboundKind.REACTION, "s1")
    assert row.reply_to is not None
    assert row.reply_to.text == "Shall I go on?"
    assert desk.woken == [desk.house.session.id]


async def test_a_reaction_to_somebody_elses_message_wakes_nobody(desk: Desk) -> None:
    assert await desk.route(message("👍", id="r1", kind=InboundKind.REACTION, about="17")) == ["ignored"]
    assert desk.woken == []


async def test_a_reaction_in_a_thread_is_found_where_the_message_was_sent(desk: Desk) -> None:
    def thread(connection: Connection) -> Session:
        ends = {"agent_group_id": desk.house.agent.id, "messaging_group_id": desk.house.chat.id}
        return sessions.ensure_session(connection, **ends, thread="7", now=1.0)

    session = await desk.house.database.write(thread)
    mailbox = await desk.house.mailboxes.open(session)
    await mailbox.add_outbound("k", NewOutbound(to=replace(CHAT, thread="7"), text="in the thread"))
    await mailbox.sent(1, 0, "90")
    await mailbox.delivered(1)
    assert await desk.route(message("👍", id="r1", kind=InboundKind.REACTION, about="90")) == ["heard"]
    (row,) = await mailbox.waiting()
    assert row.address == replace(CHAT, thread="7")


async def test_an_answer_is_the_label_of_the_button_and_is_shown_under_the_question(desk: Desk) -> None:
    await sent(desk, "Shall I?", "90", choices=("Yes", "/stop"))
    about = f"{desk.house.session.id}:1"
    press = partial(message, kind=InboundKind.ANSWER, about=about)
    assert await desk.route(press("2", id="p1"), press("1", id="p2")) == ["heard"]
    (row,) = await desk.house.mailbox.waiting()
    assert (row.text, row.kind, row.about) == ("/stop", InboundKind.ANSWER, "s1")
    assert desk.answers == [(desk.house.session.id, 1, "/stop")]
    assert desk.stopped == []  # an agent's text is no command of a person


@pytest.mark.parametrize("about", ["", ":", "x:1", "{}:2", "{}:99999999999999999999", "{}:-1", "{}:1:1", "other:1"])
async def test_an_answer_to_no_question_of_this_chat_is_heard_by_nobody(desk: Desk, about: str) -> None:
    await sent(desk, "Shall I?", "90", choices=("Yes", "No"))
    about = about.format(desk.house.session.id)
    assert await desk.route(message("1", kind=InboundKind.ANSWER, about=about)) == ["ignored"]


@pytest.mark.parametrize("choice", ["0", "3", "Yes", "", "-1", "²"])
async def test_an_answer_that_was_not_offered_is_heard_by_nobody(desk: Desk, choice: str) -> None:
    await sent(desk, "Shall I?", "90", choices=("Yes", "No"))
    about = f"{desk.house.session.id}:1"
    assert await desk.route(message(choice, kind=InboundKind.ANSWER, about=about)) == ["ignored"]


async def test_a_button_of_another_chat_answers_nothing(desk: Desk) -> None:
    await sent(desk, "Shall I?", "90", choices=("Yes", "No"))
    await desk.house.database.write(partial(wire_elsewhere, now=1.0))
    about = f"{desk.house.session.id}:1"
    assert await desk.route(message("1", to=ELSEWHERE, kind=InboundKind.ANSWER, about=about)) == ["ignored"]


async def test_a_question_that_was_asked_in_another_chat_is_answered_there(desk: Desk) -> None:
    await desk.house.database.write(partial(wire_elsewhere, now=1.0))
    asked = NewOutbound(to=replace(ELSEWHERE, thread="7"), text="Pizza?", choices=("Yes", "No"))
    await desk.house.mailbox.add_outbound("call-1", asked)
    about = f"{desk.house.session.id}:1"
    assert await desk.route(message("2", to=ELSEWHERE, kind=InboundKind.ANSWER, about=about)) == ["heard"]
    (row,) = await desk.house.mailbox.waiting()
    assert (row.text, row.about, row.address) == ("No", "s1", replace(ELSEWHERE, thread="7"))
    assert desk.woken == [desk.house.session.id]


async def test_a_question_of_an_agent_that_hears_the_chat_no_more_is_answered_by_nobody(desk: Desk) -> None:
    await desk.house.mailbox.add_outbound("call-1", NewOutbound(to=ELSEWHERE, text="Pizza?", choices=("Yes", "No")))
    await desk.house.database.write(partial(wire_elsewhere, now=1.0))
    press = message("2", to=ELSEWHERE, kind=InboundKind.ANSWER, about=f"{desk.house.session.id}:1")
    await desk.router.journal.accept(press)
    chat = "SELECT id FROM messaging_groups WHERE chat = 'chat-2'"
    unwire = f"DELETE FROM wirings WHERE messaging_group_id = ({chat})"  # noqa: S608  # our own
    await desk.house.database.write(lambda connection: connection.exec_driver_sql(unwire))
    assert await desk.route() == ["ignored"]
