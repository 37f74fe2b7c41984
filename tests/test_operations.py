"""Wirings as people make them: by id or name, with words for every mistake, and nothing known of chats that nobody wired."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core.errors import InvalidPattern, UnknownName
from nanoclaw_core.journal import Journal
from nanoclaw_core.models import Address, InboundMessage, Sender
from nanoclaw_core.operations import ChatAmbiguous, Operation, ParametersInvalid, TriggerInvalid, operations, wirings
from nanoclaw_core.sandbox.mounts import MountRules
from nanoclaw_core.store import agents, chats
from nanoclaw_core.workers.folders import Folders
from tests.house import House, open_house

Create = Callable[..., Awaitable[dict[str, Any]]]


@pytest.fixture
async def house(nanoclaw_home: Path) -> AsyncIterator[House]:
    async with open_house(nanoclaw_home) as house:
        await house.database.write(partial(agents.create_agent_group, name="Bea", folder="bea", now=1.0))
        yield house


@pytest.fixture
def known(house: House) -> Mapping[str, Operation]:
    async def begin(channel: str) -> str:
        return channel

    rules = MountRules(home=house.home, judge=lambda _: {})
    folders = Folders(database=house.database, rules=rules, clock=house.clock)
    return operations(house.database, house.clock, begin, folders, "UTC")


@pytest.fixture
def create(known: Mapping[str, Operation]) -> Create:
    return lambda **wish: known["wiring.create"]({"channel": "fake", **wish})


async def knock(house: House, chat: str, account: str = "") -> None:
    where = Address(channel="fake", chat=chat, account=account)
    text = InboundMessage(address=where, message_id="1", sender=Sender(handle="7", name="Ada"), text="psst", sent_at=1.0)
    await Journal(house.database, house.clock).accept(text)


async def test_a_chat_that_knocked_is_wired_by_its_id_and_then_is_no_stranger(house: House, create: Create) -> None:
    await knock(house, "-100")
    before = await house.database.read(wirings)
    assert [(each["chat"], each["count"]) for each in before["unwired"]] == [("-100", 1)]
    made = await create(chat="-100", agent="bea")
    assert (made["agent"], made["mode"], made["trigger"], made["is_new"], made["is_known"]) == (
        "Bea",
        "mention",
        "@Bea",
        True,
        True,
    )
    after = await house.database.read(wirings)
    assert after["unwired"] == []
    assert {(each["chat"], each["agent"]) for each in after["wirings"]} == {("chat-1", "Andy"), ("-100", "Bea")}


async def test_a_known_chat_is_found_by_its_name_whatever_the_case(create: Create) -> None:
    made = await create(chat="FAMILY", agent="Bea", mode="pattern", trigger="^bea")
    assert (made["chat"], made["trigger"]) == ("chat-1", "^bea")


async def test_the_same_again_changes_how_the_agent_engages(house: House, create: Create) -> None:
    first = await create(chat="chat-1", mode="pattern")
    second = await create(chat="chat-1", trigger="@Andrew")
    assert (first["is_new"], first["trigger"], second["trigger"]) == (False, ".", "@Andrew")
    assert len((await house.database.read(wirings))["wirings"]) == 1


async def test_a_chat_that_nobody_knows_is_wired_and_said_to_be_unknown_and_is_no_direct_chat(create: Create) -> None:
    made = await create(chat="-42")
    assert (made["is_known"], made["is_group"]) == (False, True)


async def test_the_account_through_which_a_chat_knocked_is_its_own(house: House, create: Create) -> None:
    await knock(house, "-100", "bot-2")
    assert (await create(chat="-100"))["account"] == "bot-2"


async def test_a_chat_that_knocked_through_two_accounts_must_be_named_with_one(house: House, create: Create) -> None:
    for account in ("bot-1", "bot-2"):
        await knock(house, "-100", account)
    with pytest.raises(ChatAmbiguous, match="--account bot-1"):
        await create(chat="-100")
    assert (await create(chat="-100", account="bot-1"))["account"] == "bot-1"


async def test_a_name_that_two_chats_have_is_refused_with_their_ids(house: House, create: Create) -> None:
    make = partial(
        chats.ensure_messaging_group, channel="fake", account="", chat="chat-2", name="family", is_group=True, now=1.0
    )
    await house.database.write(make)
    with pytest.raises(ChatAmbiguous, match=r"by its id: chat-[12], chat-[12]\."):
        await create(chat="Family")


@pytest.mark.parametrize(
    ("wish", "error", "says"),
    [
        ({"agent": "Bob"}, UnknownName, r"no agent named 'Bob'. Known: Andy, Bea"),
        ({"mode": "pattern", "trigger": "("}, InvalidPattern, "unterminated subpattern"),
        ({"trigger": " "}, TriggerInvalid, "visible characters"),
        ({"trigger": "a\nb"}, TriggerInvalid, "one line"),
        ({"trigger": "x" * 1001}, TriggerInvalid, "1 to 1000"),
        ({"mode": "always"}, ParametersInvalid, "always"),
        ({"chat": 7}, ParametersInvalid, "chat"),
        ({"colour": "red"}, ParametersInvalid, "colour"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) and len(str(value)) < 60 else "",
)
async def test_what_makes_no_sense_is_refused_and_wires_nothing(
    house: House, create: Create, wish: dict[str, Any], error: type[Exception], says: str
) -> None:
    before = await house.database.read(wirings)
    with pytest.raises(error, match=says):
        await create(**{"chat": "-100"} | wish)
    assert await house.database.read(wirings) == before


async def test_a_wiring_is_removed_by_the_beginning_of_its_id(house: House, known: Mapping[str, Operation]) -> None:
    ((wiring),) = (await house.database.read(wirings))["wirings"]
    gone = await known["wiring.remove"]({"id": wiring["id"][:5]})
    assert gone["chat"] == "chat-1"
    assert (await house.database.read(wirings))["wirings"] == []


@pytest.mark.parametrize("id_", ["", "zzzz"])
async def test_a_wiring_that_is_not_there_is_refused_with_those_that_are(
    house: House, known: Mapping[str, Operation], id_: str
) -> None:
    ((wiring),) = (await house.database.read(wirings))["wirings"]
    with pytest.raises(UnknownName, match=wiring["id"]):
        await known["wiring.remove"]({"id": id_})
