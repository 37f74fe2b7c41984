"""The journal: accepted once, durable with its cursor, handed out in order until routed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import anyio
import pytest
from sqlalchemy import Connection, func, select

from nanoclaw_core.errors import MessageTooLong
from nanoclaw_core.journal import MAX_MESSAGE_BYTES, Journal, JournalEntry
from nanoclaw_core.models import Address, EngageMode, InboundKind, InboundMessage, Quote, Sender
from nanoclaw_core.store import agents, chats
from nanoclaw_core.store.database import Database, open_database
from nanoclaw_core.store.tables import events, strangers
from nanoclaw_core.testing import FakeClock

HERE = Address(channel="telegram", chat="42")


def message(message_id: str = "1", text: str = "hello", address: Address = HERE) -> InboundMessage:
    return InboundMessage(address=address, message_id=message_id, sender=Sender(handle="7", name="Ada"), text=text, sent_at=1.5)


def wire_chat(conn: Connection, chat: str = "42") -> None:
    agent = agents.agent_group_named(conn, "Andy") or agents.create_agent_group(conn, name="Andy", folder="andy", now=1.0)
    group = chats.ensure_messaging_group(conn, channel="telegram", account="", chat=chat, name="", is_group=False, now=1.0)
    rule = partial(chats.wire, engage_mode=EngageMode.PATTERN, pattern=".", now=1.0)
    rule(conn, messaging_group_id=group.id, agent_group_id=agent.id)


@pytest.fixture
async def journal(db: Database, nanoclaw_clock: FakeClock) -> Journal:
    await db.write(wire_chat)
    return Journal(db, nanoclaw_clock)


async def ids(journal: Journal) -> list[str]:
    return [entry.message.message_id for entry in await journal.unrouted()]


async def test_an_accepted_message_is_handed_out_whole(journal: Journal, nanoclaw_clock: FakeClock) -> None:
    whole = replace(
        message(text="a 🤖\n</message> שלום"),
        is_group=True,
        is_mention=True,
        chat_name="Family",
        reply_to=Quote(message_id="0", sender_name="Bob", text="before"),
        address=Address(channel="telegram", chat="42", thread="9"),
    )
    assert await journal.accept(whole, None)
    (entry,) = await journal.unrouted()
    assert entry.message == whole
    assert entry.received_at == nanoclaw_clock.time()


async def test_a_known_message_is_accepted_once_but_moves_the_cursor(journal: Journal) -> None:
    assert await journal.accept(message(), "10")
    assert not await journal.accept(message(text="edited"), "11")
    assert [entry.message.text for entry in await journal.unrouted()] == ["hello"]
    assert await journal.cursor("telegram", "") == "11"


async def test_the_same_id_in_another_chat_is_another_message(journal: Journal, db: Database) -> None:
    await db.write(partial(wire_chat, chat="43"))
    assert await journal.accept(message(), None)
    assert await journal.accept(message(address=replace(HERE, chat="43")), None)
    assert len(await journal.unrouted()) == 2


async def test_messages_are_handed_out_in_order_until_they_are_routed(journal: Journal) -> None:
    for number in ("3", "1", "2"):  # the order of arrival counts, nothing else
        await journal.accept(message(number), None)
    entries = await journal.unrouted(limit=2)
    assert [entry.message.message_id for entry in entries] == ["3", "1"]
    await journal.routed({entries[0].seq: "engaged"})
    assert await ids(journal) == ["1", "2"]


async def test_of_a_chat_that_nobody_wired_only_a_count_is_kept(journal: Journal, db: Database) -> None:
    stranger = Address(channel="telegram", chat="99")
    assert await journal.accept(message("1", "secret", stranger), "5")
    assert await journal.accept(message("2", "secret", stranger), "6")
    assert await journal.unrouted() == []
    assert await db.read(lambda conn: conn.execute(select(func.count()).select_from(events)).scalar()) == 0
    rows = await db.read(lambda conn: [tuple(row) for row in conn.execute(select(strangers.c.chat, strangers.c.count))])
    assert rows == [("99", 2)]
    assert await journal.cursor("telegram", "") == "6"


async def test_what_the_bot_itself_wrote_is_never_stored(journal: Journal) -> None:
    own = replace(message(), sender=Sender(handle="0", name="Andy", is_own=True))
    assert not await journal.accept(own, "5")
    assert await journal.unrouted() == []
    assert await journal.cursor("telegram", "") == "5"


async def test_what_cannot_be_stored_is_repaired_in_every_text(journal: Journal) -> None:
    bad = "a\x00b\ud83dc"
    broken = replace(
        message(bad, bad),
        chat_name=bad,
        sender=Sender(handle=bad, name=bad),
        reply_to=Quote(message_id=bad, sender_name=bad, text=bad),
    )
    assert await journal.accept(broken, None)
    assert not await journal.accept(broken, None)
    ((stored,),) = [[entry.message] for entry in await journal.unrouted()]
    assert stored.reply_to is not None
    texts = {stored.message_id, stored.text, stored.chat_name, stored.sender.handle, stored.sender.name}
    assert texts | {stored.reply_to.message_id, stored.reply_to.sender_name, stored.reply_to.text} == {"a\ufffdb\ufffdc"}


async def test_a_message_of_ten_megabytes_is_accepted(journal: Journal) -> None:
    text = "x" * 10_000_000
    assert await journal.accept(message(text=text), None)
    (entry,) = await journal.unrouted()
    assert entry.message.text == text


@pytest.mark.parametrize("text", ["x" * (MAX_MESSAGE_BYTES + 1), "ä" * (MAX_MESSAGE_BYTES // 2 + 1)], ids=["ascii", "umlauts"])
async def test_a_longer_one_is_refused_before_anything_is_stored(journal: Journal, text: str) -> None:
    with pytest.raises(MessageTooLong):
        await journal.accept(message(text=text), "5")
    assert await journal.unrouted() == []
    assert await journal.cursor("telegram", "") is None


async def test_what_could_not_be_read_again_is_refused(journal: Journal) -> None:
    with pytest.raises(ValueError, match="sent_at"):
        await journal.accept(replace(message(), sent_at=float("nan")), None)
    assert await journal.unrouted() == []


async def test_a_start_hands_out_what_an_earlier_life_left(database_url: str, nanoclaw_clock: FakeClock) -> None:
    async with open_database(database_url, backups=None) as db:
        await db.write(wire_chat)
        await Journal(db, nanoclaw_clock).accept(message(), "10")
    async with open_database(database_url, backups=None) as db:
        journal = Journal(db, nanoclaw_clock)
        with anyio.fail_after(30):
            await journal.wait()
        assert await ids(journal) == ["1"]
        assert not await journal.accept(message(), "10")


async def test_the_router_sleeps_until_something_was_accepted(journal: Journal) -> None:
    await journal.wait()
    assert await journal.unrouted() == []
    woken = anyio.Event()

    async def router() -> None:
        await journal.wait()
        woken.set()

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(router)
            await anyio.wait_all_tasks_blocked()
            assert not woken.is_set()
            await journal.accept(message(), None)
            await woken.wait()


async def test_a_message_that_comes_while_the_router_looks_is_not_slept_through(
    journal: Journal, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = db.read

    async def read_and_be_overtaken(fn: Callable[[Connection], list[JournalEntry]]) -> list[JournalEntry]:
        entries = await read(fn)
        await journal.accept(message(), None)
        return entries

    monkeypatch.setattr(db, "read", read_and_be_overtaken)
    assert await journal.unrouted() == []
    with anyio.fail_after(30):
        await journal.wait()


async def test_a_router_that_dies_finds_its_messages_again(journal: Journal) -> None:
    await journal.accept(message(), None)
    with anyio.fail_after(30):
        await journal.wait()
        await journal.unrouted()  # ... and then it dies, before anything is routed
        await journal.wait()
    assert await ids(journal) == ["1"]


async def test_fifty_channels_at_once_lose_and_double_nothing(journal: Journal) -> None:
    news: list[bool] = []

    async def accept(number: int) -> None:
        news.append(await journal.accept(message(str(number % 25)), str(number)))

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(accept, number)
    assert sorted(news) == [False] * 25 + [True] * 25
    assert sorted(map(int, await ids(journal))) == list(range(25))


async def test_the_first_answer_to_a_question_counts_whoever_presses_the_button(db: Database, journal: Journal) -> None:
    await db.write(wire_chat)
    press = partial(replace, kind=InboundKind.ANSWER, about="session:3")
    assert await journal.accept(press(message("p1", "1")))
    assert not await journal.accept(press(message("p2", "2")))
    assert not await journal.accept(press(message("p1", "1")))
    assert await journal.accept(replace(press(message("p3", "1")), about="session:4"))
    assert [entry.message.text for entry in await journal.unrouted()] == ["1", "1"]


async def test_what_is_held_back_is_left_out_until_it_is_looked_for_again(db: Database, journal: Journal) -> None:
    await db.write(wire_chat)
    await journal.accept(message("1"))
    assert await journal.unrouted(without={1}) == []
    with anyio.move_on_after(0) as scope:
        await journal.wait()
    assert scope.cancelled_caught
    journal.look_again()
    await journal.wait()
    assert [entry.seq for entry in await journal.unrouted()] == [1]
