"""Pairing: who sends the code in a private chat becomes an owner, and nobody who guesses, listens in or comes late."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio import to_thread
from sqlalchemy import select

from nanoclaw_core.models import Address, EngageMode, Event, InboundKind, InboundMessage, Sender
from nanoclaw_core.pairing import GOOD_FOR, MOST_GUESSES, Pairings, begin_pairing, code_in, new_code
from nanoclaw_core.store import chats, people
from nanoclaw_core.store.tables import cursors, roles, strangers
from tests.house import House, open_house

WRONG = "AAAAA-AAAA2"


@pytest.fixture
async def house(nanoclaw_home: Path) -> AsyncIterator[House]:
    async with open_house(nanoclaw_home) as house:
        yield house


@dataclass(kw_only=True)
class Desk:
    """Pairings, with everything that they say; `events` are what plugins hear."""

    house: House
    said: list[tuple[str, str]] = field(default_factory=list)
    news: list[str] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    is_open: bool = False  # whether anything is said at all

    def __post_init__(self) -> None:
        self.pairings = Pairings(self.house.database, self.house.clock, self._say, self._tell_owner, self.events.append)

    async def _say(self, to: Address, text: str) -> None:
        self.said.append((to.chat, text))

    async def _tell_owner(self, text: str, about: Address) -> None:
        self.news.append(text)

    async def hears(self, message: InboundMessage, cursor: str | None = None) -> bool:
        """Whether the message was the code; everything that follows has been said when this returns."""
        taken = await self.pairings.take(message, cursor)
        while self.pairings._unsaid and self.is_open:
            await anyio.lowlevel.checkpoint()
        return taken

    async def owners(self) -> list[str]:
        query = select(roles.c.user_id).where(roles.c.role == people.OWNER)
        return list(await self.house.database.read(lambda conn: conn.execute(query).scalars().all()))

    async def stored_cursor(self) -> str | None:
        return await self.house.database.read(lambda conn: conn.execute(select(cursors.c.cursor)).scalar())


@pytest.fixture
async def desk(house: House) -> AsyncIterator[Desk]:
    desk = Desk(house=house)
    async with anyio.create_task_group() as tasks:
        await tasks.start(lambda task_status: desk.pairings.run(task_status))
        desk.is_open = True
        yield desk
        tasks.cancel_scope.cancel()


def message(
    text: str, *, chat: str = "private", sender: str = "ada", channel: str = "telegram", id_: str = "1"
) -> InboundMessage:
    where = Address(channel=channel, chat=chat)
    return InboundMessage(address=where, message_id=id_, sender=Sender(handle=sender, name="Ada"), text=text, sent_at=1.0)


def in_group(text: str, **more: str) -> InboundMessage:
    return replace(message(text, chat="group", **more), is_group=True)


# --- codes ------------------------------------------------------------------------------------------------------------------


def test_a_code_is_fifty_random_bits_in_two_groups_of_signs_that_look_like_no_other() -> None:
    codes = {new_code() for _ in range(2000)}
    assert len(codes) == 2000
    assert {len(code) for code in codes} == {11}
    assert set("".join(codes)) == set("23456789ABCDEFGHJKLMNPQRSTUVWXYZ-")


@pytest.mark.parametrize(
    "text",
    [
        *("K7MPQ-3TXYZ", "k7mpq3txyz", " K7MPQ 3TXYZ\n", "/start K7MPQ-3TXYZ", "/start@nano_bot k7mpq-3txyz", "k7mpq–3txyz"),
        *("`K7MPQ-3TXYZ`", "K 7 M P Q - 3 T X Y Z", "Ｋ７ＭＰＱ３ＴＸＹＺ"),
    ],
)
def test_a_code_is_known_however_people_write_it(text: str) -> None:
    assert code_in(text) == "K7MPQ3TXYZ"


@pytest.mark.parametrize(
    "text", ["", "hello", "absolutely", "/start", "2222233333", "K7MPQ-3TXYZ please", "K7MPQ-3TXYZ" + "!" * 100, "🤖" * 10]
)
def test_no_ordinary_message_is_taken_for_a_code(text: str) -> None:
    assert code_in(text) is None


# --- becoming an owner --------------------------------------------------------------------------------------------------------


async def test_the_code_in_a_private_chat_makes_an_owner_and_the_chat_the_main_agents(desk: Desk) -> None:
    code = await desk.pairings.begin("telegram")
    assert await desk.hears(message(code.lower().replace("-", " ")), "cursor-7")
    assert await desk.owners() == ["telegram:ada"]
    chat = await desk.house.database.read(partial(chats.find_messaging_group, channel="telegram", account="", chat="private"))
    assert chat is not None
    assert (chat.name, chat.is_group) == ("Ada", False)
    (wiring,) = await desk.house.database.read(partial(chats.wirings_of, messaging_group_id=chat.id))
    assert (wiring.agent_group_id, wiring.engage_mode, wiring.pattern) == (desk.house.agent.id, EngageMode.PATTERN, ".")
    assert await desk.stored_cursor() == "cursor-7"
    assert desk.said == [("private", "You are paired: this chat is Andy's now, and Andy hears everything that you write here.")]
    assert [(event.name, event.data) for event in desk.events] == [("channel.paired", {"channel": "telegram"})]


async def test_a_code_works_once_and_says_so_to_the_next(desk: Desk) -> None:
    code = await desk.pairings.begin("telegram")
    await desk.hears(message(code))
    assert await desk.hears(message(code, chat="other", sender="mallory"))
    assert await desk.owners() == ["telegram:ada"]
    assert desk.said[-1][0] == "other"
    assert desk.said[-1][1].startswith("This code was used already.")


async def test_two_who_send_the_same_code_at_once_are_one_owner(desk: Desk) -> None:
    code = await desk.pairings.begin("telegram")
    async with anyio.create_task_group() as tasks:
        for name in ("ada", "mallory", "eve"):
            tasks.start_soon(desk.hears, message(code, chat=name, sender=name))
    assert len(await desk.owners()) == 1


async def test_the_same_message_again_is_the_same_pairing(desk: Desk) -> None:
    """A host died before it confirmed the message to the platform, which repeats it to the next; or it was edited."""
    code = await desk.pairings.begin("telegram")
    await desk.hears(message(code))
    later = Desk(house=desk.house)
    await later.pairings.load()
    assert await later.pairings.take(message(code), "cursor-8")
    assert await desk.owners() == ["telegram:ada"]
    assert await desk.stored_cursor() == "cursor-8"


async def test_a_code_that_was_made_before_the_host_began_is_known_to_it(desk: Desk) -> None:
    code, _ = await desk.house.database.write(partial(begin_pairing, channel="telegram", now=desk.house.clock.time()))
    assert not await desk.hears(message(code))
    await desk.pairings.load()
    assert await desk.hears(message(code))
    assert await desk.owners() == ["telegram:ada"]


async def test_the_code_is_not_in_the_database(desk: Desk, nanoclaw_home: Path) -> None:
    code = await desk.pairings.begin("telegram")
    await desk.hears(message(code))
    written = await to_thread.run_sync(lambda: b"".join(file.read_bytes() for file in nanoclaw_home.glob("nanoclaw.db*")))
    assert b"telegram:ada" in written
    assert code.encode() not in written
    assert code.replace("-", "").encode() not in written


@pytest.mark.parametrize("sender", [Sender(handle="", name="Ada"), Sender(handle="nano", name="Nano", is_own=True)])
async def test_nobody_and_the_bot_itself_become_no_owner(desk: Desk, sender: Sender) -> None:
    code = await desk.pairings.begin("telegram")
    assert not await desk.hears(replace(message(code), sender=sender))
    assert await desk.owners() == []


async def test_a_new_code_ends_the_one_before_it(desk: Desk) -> None:
    first = await desk.pairings.begin("telegram")
    second = await desk.pairings.begin("telegram")
    assert not await desk.hears(message(first))
    assert await desk.hears(message(second))


async def test_a_message_that_is_edited_into_the_code_is_the_code_and_a_reaction_is_not(desk: Desk) -> None:
    code = await desk.pairings.begin("telegram")
    reaction = replace(message(code, id_="2"), kind=InboundKind.REACTION, about="1")
    assert not await desk.hears(reaction)
    assert await desk.hears(replace(reaction, kind=InboundKind.EDIT))
    assert await desk.owners() == ["telegram:ada"]


# --- what is refused ----------------------------------------------------------------------------------------------------------


async def test_a_code_in_a_group_is_void_and_everybody_is_told(desk: Desk) -> None:
    code = await desk.pairings.begin("telegram")
    assert await desk.hears(in_group(code))
    assert await desk.hears(message(code))
    assert await desk.owners() == []
    (_, in_the_group), (_, in_private) = desk.said
    assert "send it to me in a private chat. This one is void now" in in_the_group
    assert in_private.startswith("This code is void")
    assert len(desk.news) == 1
    assert "`nanoclaw channel pair telegram`" in desk.news[0]


async def test_a_wrong_code_in_a_group_is_refused_and_the_right_one_goes_on(desk: Desk) -> None:
    code = await desk.pairings.begin("telegram")
    assert not await desk.hears(in_group(WRONG))
    assert desk.said == [("group", "A pairing code is not for a group: send it to me in a private chat.")]
    assert await desk.hears(message(code))


async def test_an_expired_code_says_how_to_make_another(desk: Desk) -> None:
    code = await desk.pairings.begin("telegram")
    await desk.house.clock.advance(GOOD_FOR)
    assert await desk.hears(message(code))
    assert await desk.owners() == []
    assert desk.said == [("private", "This code has expired. `nanoclaw channel pair telegram` makes another code.")]


async def test_a_wrong_code_is_answered_and_is_a_message_like_any_other(desk: Desk) -> None:
    await desk.pairings.begin("telegram")
    assert not await desk.hears(message(WRONG), "cursor-7")
    assert desk.said == [("private", "This is not the pairing code, or not any more.")]
    assert await desk.stored_cursor() is None  # who stores the message stores it


@pytest.mark.parametrize("typed", ["{}2", "2{}", "{}22"])
async def test_a_mistyped_code_is_answered_too(desk: Desk, typed: str) -> None:
    code = await desk.pairings.begin("telegram")
    assert not await desk.hears(message(typed.format(code)))
    assert len(desk.said) == 1


async def test_ten_wrong_guesses_over_all_chats_end_the_code_and_the_owner_is_told(desk: Desk) -> None:
    code = await desk.pairings.begin("telegram")
    for number in range(MOST_GUESSES):
        assert not await desk.hears(message(WRONG, chat=f"chat-{number}", sender=f"s{number}"))
    assert await desk.hears(message(code))
    assert await desk.owners() == []
    assert desk.said[-1][1].startswith("This code is void: there were too many wrong ones.")
    (news,) = desk.news
    assert news == (
        "The pairing code that telegram got at 08:00 UTC is void: 10 wrong ones were tried. "
        "`nanoclaw channel pair telegram` makes another code."
    )


async def test_a_restart_does_not_forget_guesses(desk: Desk) -> None:
    code = await desk.pairings.begin("telegram")
    for _ in range(MOST_GUESSES - 1):
        await desk.hears(message(WRONG))
    later = Desk(house=desk.house)
    await later.pairings.load()
    await later.pairings.take(message(WRONG), None)
    await later.pairings.take(message(code), None)
    assert await desk.owners() == []


async def test_guesses_on_one_channel_cost_another_nothing(desk: Desk) -> None:
    codes = {channel: await desk.pairings.begin(channel) for channel in ("telegram", "signal")}
    for _ in range(MOST_GUESSES):
        await desk.hears(message(WRONG, channel="telegram"))
    assert not await desk.hears(message(codes["signal"], channel="telegram"))  # one channel's code is not another's
    assert await desk.hears(message(codes["signal"], channel="signal"))
    assert await desk.owners() == ["signal:ada"]


async def test_a_flood_of_guesses_gets_three_answers_in_a_chat_and_then_costs_nothing(desk: Desk) -> None:
    await desk.pairings.begin("telegram")
    for number in range(MOST_GUESSES):
        await desk.hears(message(WRONG, id_=str(number)))
    assert len(desk.said) == 3
    writes = 0

    async def count(*_: object) -> None:
        nonlocal writes
        writes += 1

    desk.house.database.write = count  # type: ignore[method-assign,assignment]  # for the rest of the test
    for number in range(1000):
        assert not await desk.pairings.take(message(WRONG, id_=f"more-{number}"), None)
    assert (writes, len(desk.said)) == (0, 3)


async def test_who_sends_an_old_code_again_and_again_gets_three_answers(desk: Desk) -> None:
    code = await desk.pairings.begin("telegram")
    await desk.house.clock.advance(GOOD_FOR)
    for number in range(20):
        assert await desk.hears(message(code, id_=str(number)))
    assert len(desk.said) == 3


async def test_a_wrong_code_in_a_chat_that_an_agent_hears_is_the_agents_but_counts(desk: Desk) -> None:
    code = await desk.pairings.begin("fake")
    for _ in range(MOST_GUESSES):
        assert not await desk.hears(message(WRONG, channel="fake", chat="chat-1"))
    assert desk.said == []
    assert await desk.hears(message(code, channel="fake"))
    assert await desk.owners() == []


async def test_while_no_code_is_open_nothing_is_looked_at(desk: Desk) -> None:
    assert not await desk.hears(message(WRONG))
    assert not await desk.hears(message(new_code()))
    assert desk.said == []
    assert not await desk.house.database.read(lambda conn: conn.execute(select(strangers)).all())
