"""From the journal to the sessions that hear a message."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core.mailbox import MailboxUnusable
from nanoclaw_core.models import EngageMode, Quote, Sender
from nanoclaw_core.routing.rows import INLINE_LIMIT
from nanoclaw_core.store import agents, chats, sessions
from nanoclaw_core.store.database import Connection
from tests.house import CHAT
from tests.routing.desk import Desk, message


async def sql(desk: Desk, text: str) -> None:
    await desk.house.database.write(lambda connection: connection.exec_driver_sql(text))


async def test_a_message_waits_in_the_session_that_hears_it(desk: Desk) -> None:
    quote = Quote(message_id="m0", sender_name="Bob", text="what?")
    assert await desk.route(message(reply_to=quote)) == ["heard"]
    (row,) = await desk.house.mailbox.waiting()
    assert (row.text, row.message_id, row.sender_id, row.sender_name) == ("hello", "m1", "fake:ada", "Ada")
    assert (row.address, row.reply_to) == (CHAT, quote)
    assert desk.woken == [desk.house.session.id]


async def test_messages_wait_in_the_order_in_which_they_were_accepted(desk: Desk) -> None:
    await desk.route(*(replace(message(str(number), id=str(number)), sent_at=-number) for number in range(20)))
    assert [row.text for row in await desk.house.mailbox.waiting()] == [str(number) for number in range(20)]


async def test_routing_twice_is_routing_once(desk: Desk) -> None:
    """The host may die between the mailbox and the note in the journal."""
    await desk.router.journal.accept(message())
    (entry,) = await desk.router.journal.unrouted()
    await desk.router.route([entry])
    await desk.router.route([entry])
    assert len(await desk.house.mailbox.waiting()) == 1


async def test_a_burst_shares_its_transactions(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commits are what takes the time."""
    writes: list[object] = []
    write = desk.house.database.write

    async def counted(fn: Callable[[Connection], Any]) -> Any:
        writes.append(fn)
        return await write(fn)

    for number in range(100):
        await desk.router.journal.accept(message(id=str(number)))
    monkeypatch.setattr(desk.house.database, "write", counted)
    assert await desk.route() == ["heard"] * 100
    assert len(writes) == 2
    assert len(await desk.house.mailbox.waiting(200)) == 100


async def test_a_message_that_cannot_be_routed_costs_no_other(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure = sessions.ensure_session

    def ensure_unless_cursed(connection: Connection, *, thread: str | None, **more: Any) -> Any:
        if thread == "cursed":
            raise ValueError("this thread")
        return ensure(connection, thread=thread, **more)

    monkeypatch.setattr(sessions, "ensure_session", ensure_unless_cursed)
    cursed = message(to=replace(CHAT, thread="cursed"), id="m2")
    assert await desk.route(message(), cursed, message(id="m3")) == ["heard", "failed", "heard"]
    assert [row.message_id for row in await desk.house.mailbox.waiting()] == ["m1", "m3"]
    assert len(desk.said) == 1


async def test_a_session_is_marked_before_its_mailbox_is_touched(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    before = await desk.house.database.read(sessions.attention)
    seen: list[object] = []

    async def add_rows(*arguments: object) -> None:
        seen.extend(await desk.house.database.read(sessions.attention))

    monkeypatch.setattr(desk.house.mailbox, "add_rows", add_rows)
    await desk.route(message())
    assert seen == [(desk.house.session, before[0][1] + 1)]


async def test_a_thread_is_a_session_of_its_own(desk: Desk) -> None:
    await desk.route(message(to=replace(CHAT, thread="t1")), message(id="m2"))
    assert len(set(desk.woken)) == 2
    assert [row.message_id for row in await desk.house.mailbox.waiting()] == ["m2"]


async def test_a_message_that_engages_nobody_is_ignored(desk: Desk) -> None:
    await sql(desk, "UPDATE wirings SET engage_mode = 'mention', pattern = '@Andy'")
    assert await desk.route(message(), message("@andy, hi", id="m2"), message(id="m3", is_mention=True)) == [
        "ignored",
        "heard",
        "heard",
    ]


async def test_a_broken_pattern_costs_only_its_own_wiring(desk: Desk) -> None:
    await wire_another(desk)
    await sql(desk, f"UPDATE wirings SET pattern = '((' WHERE agent_group_id = '{desk.house.agent.id}'")  # noqa: S608
    assert await desk.route(message()) == ["heard"]
    assert not await desk.house.mailbox.waiting()


async def test_a_broken_mailbox_costs_only_its_own_session_and_is_said(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await wire_another(desk)

    async def fail(*arguments: object) -> None:
        raise MailboxUnusable(Path("inbound.db"), "no space left")

    monkeypatch.setattr(desk.house.mailbox, "add_rows", fail)
    assert await desk.route(message(), message(id="m2")) == ["failed", "failed"]
    assert len(set(desk.woken) - {desk.house.session.id}) == 1
    assert desk.house.session.id not in desk.woken
    assert [to for to, _ in desk.said] == [CHAT, CHAT]
    assert "no space left" in desk.said[0][1]


async def test_a_chat_is_known_by_its_latest_name_and_as_what_the_platform_says_it_is(desk: Desk) -> None:
    """A person may have wired a bare id, of which nobody knew what it is."""
    find = partial(chats.find_messaging_group, channel=CHAT.channel, account="", chat=CHAT.chat)
    for number, (name, is_group) in enumerate([("", False), ("Kin", True), ("Clan", True), ("", True)]):
        await desk.route(message(id=f"m{number}", chat_name=name, is_group=is_group))
        found = await desk.house.database.read(find)
        assert found is not None
        assert (found.name, found.is_group) == (["Family", "Kin", "Clan", "Clan"][number], is_group)


async def test_the_sender_is_known_by_the_latest_name(desk: Desk) -> None:
    await desk.route(message(), replace(message(id="m2"), sender=Sender(handle="ada", name="Countess")))

    def name(connection: Connection) -> object:
        return connection.exec_driver_sql("SELECT name FROM users WHERE id = 'fake:ada'").scalar()

    assert await desk.house.database.read(name) == "Countess"


@pytest.mark.parametrize("length", [INLINE_LIMIT, INLINE_LIMIT + 1])
async def test_only_what_is_too_long_for_a_prompt_becomes_a_file(desk: Desk, length: int) -> None:
    await desk.route(message("ä" * length))
    (row,) = await desk.house.mailbox.waiting()
    if length == INLINE_LIMIT:
        assert row.attachment is None
        assert len(row.text) == length
    else:
        assert row.attachment is not None
        kept = desk.house.home / desk.house.session.folder / "inbox" / row.attachment
        assert kept.read_text(encoding="utf-8") == "ä" * length
        assert row.text.endswith(f"[… {length - 4000:,} more characters]")


async def wire_another(desk: Desk) -> None:
    def change(connection: Connection) -> None:
        bob = agents.create_agent_group(connection, name="Bob", folder="bob", now=2.0)
        wire: Callable[..., object] = partial(chats.wire, connection, messaging_group_id=desk.house.chat.id, now=2.0)
        wire(agent_group_id=bob.id, engage_mode=EngageMode.PATTERN, pattern=".")

    await desk.house.database.write(change)


async def test_who_asks_for_usage_is_answered_once_by_the_host_and_no_agent_hears_it(desk: Desk) -> None:
    assert await desk.route(message("/usage"), message("@Andy /USAGE@andy_bot", id="m2")) == ["answered", "answered"]
    assert desk.asked_for_usage == [("m1", 1), ("m2", 1)]
    assert await desk.house.mailbox.waiting() == []


@pytest.mark.parametrize("text", ["/usage please", "what is /usage?", "/usages", "/usage " * 100])
async def test_words_about_usage_are_words(desk: Desk, text: str) -> None:
    assert await desk.route(message(text)) == ["heard"]
    assert desk.asked_for_usage == []
