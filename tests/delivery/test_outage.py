"""Platforms that are away for hours, refuse, or never come back: order is kept, nothing doubled, nobody left in silence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import anyio
import pytest
from structlog.testing import capture_logs

from nanoclaw_core.delivery.losses import DOUBT, owners_chat
from nanoclaw_core.errors import OutcomeUnknown, Refused, TryLater
from nanoclaw_core.mailbox import NewRow
from nanoclaw_core.models import Address, Capabilities, EngageMode, OutboundMessage, Push, Receipt
from nanoclaw_core.store import chats
from nanoclaw_core.store.agents import main_agent_group
from nanoclaw_core.store.database import Connection
from nanoclaw_core.testing import FakeChannel, FakeClock
from tests.delivery.office import Post, post
from tests.house import CHAT, House

HOUR = 3600.0
TEN = [str(number) for number in range(10)]


class Outage(FakeChannel):
    """A platform that is away for some hours: what `send` does meanwhile is `how`."""

    def __init__(self, clock: FakeClock, hours: float, how: str, capabilities: Capabilities | None = None) -> None:
        super().__init__(capabilities=capabilities)
        self.clock, self.how, self.over = clock, how, clock.time() + hours * HOUR

    async def send(self, message: OutboundMessage) -> Receipt:
        if self.clock.time() >= self.over:
            return await super().send(message)
        self.attempts.append(message)
        match self.how:
            case "says later":
                raise TryLater("too many requests", after=HOUR / 4)
            case "breaks":
                raise OutcomeUnknown("connection lost")
            case "crashes":
                raise ZeroDivisionError
        await anyio.sleep_forever()
        raise AssertionError


async def pass_hours(office: Post, hours: float) -> None:
    """Let time go by while something waits, in steps that are shorter than any pause of delivery."""
    for _ in range(int(hours * 12)):
        await office.house.clock.asleep()
        await office.house.clock.advance(300)


async def until_nothing_is_due(office: Post) -> None:
    """Let as much time go by as delivery needs."""

    async def drive() -> None:
        while True:
            await pass_hours(office, 1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(drive)
        await office.until_nothing_is_due()
        tasks.cancel_scope.cancel()


@pytest.fixture
def terminal() -> FakeChannel:
    """Where the owner sits."""
    return FakeChannel("terminal", capabilities=Capabilities(patient=True))


@pytest.fixture(autouse=True)
def short_timeout_and_no_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A hundred tracebacks in colour take longer than all the rest."""
    monkeypatch.setattr("nanoclaw_core.delivery.queue.SEND_TIMEOUT", 0.01)
    with capture_logs():
        yield


@pytest.mark.parametrize("how", ["says later", "breaks", "crashes", "hangs"])
async def test_ten_hours_without_a_platform_that_knows_repeats_lose_and_double_nothing(house: House, how: str) -> None:
    channel = Outage(house.clock, 10, how, Capabilities(idempotent_send=True))
    async with post(house, channel) as office:
        await office.put(*TEN)
        await until_nothing_is_due(office)
    assert [message.text for message in channel.outbox] == TEN
    assert len({message.text for message in channel.attempts[: -len(TEN)]}) == 1  # who waits at the head is tried alone


@pytest.mark.parametrize("how", ["says later", "breaks", "crashes", "hangs"])
async def test_ten_hours_without_any_other_platform_leave_one_message_in_doubt_at_most(house: House, how: str) -> None:
    channel = Outage(house.clock, 10, how)
    async with post(house, channel) as office:
        await office.put(*TEN)
        await until_nothing_is_due(office)
    assert [message.text for message in channel.outbox] == (TEN if how == "says later" else [DOUBT, *TEN[1:]])
    assert [message.text for message in channel.attempts].count("0") == 1 or how == "says later"


async def test_a_platform_that_never_confirms_sees_a_notice_ever_more_seldom(house: House) -> None:
    channel = Outage(house.clock, 10, "breaks")
    async with post(house, channel) as office:
        await office.put("hello")
        await pass_hours(office, 9)
    assert len(channel.attempts) < 35


async def test_what_waited_over_a_restart_has_not_all_its_time_again(house: House, terminal: FakeChannel) -> None:
    channel = Outage(house.clock, 1000, "says later")
    async with post(house, channel, terminal) as office:
        await office.put("late")
        await pass_hours(office, 40)
    async with post(house, channel, terminal) as office:
        await pass_hours(office, 31)
        assert office.told == []
        await pass_hours(office, 2)
        assert [event.name for event in office.told] == ["delivery.failed"]


async def test_what_grew_old_while_no_host_ran_is_tried_for_an_hour(house: House) -> None:
    async with post(house) as office:
        await office.put("late")
    await house.clock.advance(1000 * HOUR)
    channel = Outage(house.clock, 0.5, "says later")
    async with post(house, channel) as office:
        await until_nothing_is_due(office)
    assert [message.text for message in channel.outbox] == ["late"]


# --- who hears of a loss ---


async def test_what_is_given_up_is_told_to_owner_and_agent_and_once_in_the_chat(house: House, terminal: FakeChannel) -> None:
    channel = Outage(house.clock, 100, "says later")
    async with post(house, channel, terminal) as office:
        await office.put(*TEN)
        await until_nothing_is_due(office)
    reason = "gave up after 72 hours: too many requests"
    assert [message.text for message in channel.outbox] == [f"(A message for this chat could not be delivered: {reason})"]
    assert [(each.text, each.reason) for each in await house.mailbox.untold()] == [(text, reason) for text in TEN]
    (told,) = terminal.outbox
    assert told.text.startswith(f"⚠️ A message of Andy to “Family” (fake) could not be delivered: {reason}.")


async def test_a_part_that_is_refused_is_told_with_what_came_before(house: House, terminal: FakeChannel) -> None:
    class Prudish(FakeChannel):
        async def send(self, message: OutboundMessage) -> Receipt:
            if "third" in message.text:
                raise Refused("it is indecent.")
            return await super().send(message)

    channel = Prudish(capabilities=Capabilities(max_length=80))
    async with post(house, channel, terminal) as office:
        await office.put("first " * 10 + "\n\n" + "third " * 10 + "\n\n" + "fourth " * 10)
        await channel.sent(2)
        await terminal.sent(1)
    assert [message.text.split()[0] for message in channel.outbox] == ["first", "(The"]
    assert channel.outbox[-1].text == "(The rest of this message could not be delivered: it is indecent)"
    assert [each.reason for each in await house.mailbox.untold()] == ["it is indecent."]
    assert "it is indecent." in terminal.outbox[0].text


async def test_a_notice_that_is_refused_too_ends_there(house: House, terminal: FakeChannel) -> None:
    channel = FakeChannel()
    channel.fail_next(Refused("blocked"), Refused("blocked"))
    async with post(house, channel, terminal) as office:
        await office.put("one", "two")
        assert [message.text for message in await channel.sent(1)] == ["two"]
        await terminal.sent(1)
    assert [each.text for each in await house.mailbox.untold()] == ["one"]
    assert len(terminal.outbox) == 1


async def test_the_owner_hears_once_a_day_of_a_chat_that_refuses(house: House, terminal: FakeChannel) -> None:
    channel = FakeChannel()
    async with post(house, channel, terminal) as office:
        for day, texts in enumerate((["one", "two"], ["three"])):
            channel.fail_next(*[Refused("blocked")] * 2 * len(texts))
            await office.put(*texts)
            await office.until_nothing_is_due()
            assert len(await terminal.sent(day + 1)) == day + 1
            await house.clock.advance(24 * HOUR)


async def test_the_agent_is_told_once_and_only_of_its_own_words(house: House, nanoclaw_channel: FakeChannel) -> None:
    nanoclaw_channel.fail_next(Refused("blocked"), Refused("blocked"))
    async with post(house, nanoclaw_channel) as office:
        await office.put("one")
        await office.until_nothing_is_due()
    (lost,) = await house.mailbox.untold()
    assert (lost.text, lost.to, lost.reason) == ("one", CHAT, "blocked")
    row = NewRow(id="r", address=CHAT, message_id="1", sender_id="", sender_name="", text="", sent_at=0.0)
    await house.mailbox.add_rows([row])
    await house.mailbox.record_push(Push(uuid="u", text=""), ["r"], "w", [lost.seq])
    assert await house.mailbox.untold() == []


async def test_a_loss_that_cannot_be_told_to_the_owner_still_ends(
    house: House, nanoclaw_channel: FakeChannel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nanoclaw_core.delivery.queue.tell_owner", lambda *_: 1 / 0)
    nanoclaw_channel.fail_next(Refused("blocked"))
    async with post(house, nanoclaw_channel) as office:
        await office.put("one", "two")
        assert [message.text for message in await nanoclaw_channel.sent(2)][1] == "two"


# --- where the owner looks ---


def wired(connection: Connection, channel: str, *, is_group: bool = False) -> None:
    """Let the main agent hear a chat of `channel`."""
    main = main_agent_group(connection)
    assert main is not None
    chat = chats.ensure_messaging_group(
        connection, channel=channel, account="", chat=f"on {channel}", name="", is_group=is_group, now=2.0
    )
    chats.wire(
        connection,
        messaging_group_id=chat.id,
        agent_group_id=main.id,
        engage_mode=EngageMode.PATTERN,
        pattern=".",
        now=2.0,
    )


CHANNELS = {
    "fake": FakeChannel(),
    "other": FakeChannel(),
    "terminal": FakeChannel(capabilities=Capabilities(patient=True)),
}


@pytest.mark.parametrize(
    ("wirings", "failing", "found"),
    [
        ([], CHAT, "terminal"),  # never through what fails
        (["terminal", "other"], CHAT, "other"),  # where news is seen at once
        (["terminal", "other"], replace(CHAT, channel="other"), "fake"),
        (["gone"], CHAT, "terminal"),  # a plugin that is not enabled
        (["group other"], CHAT, "terminal"),  # nobody else should read it
        (["terminal"], replace(CHAT, channel="terminal"), "fake"),
    ],
)
async def test_the_owner_is_told_in_a_direct_chat_of_the_main_agent_on_another_channel(
    house: House, wirings: list[str], failing: Address, found: str
) -> None:
    for each in wirings:
        name = each.removeprefix("group ")
        await house.database.write(partial(wired, channel=name, is_group=each != name))
    session, chat = await house.database.write(partial(owners_chat, channels=CHANNELS, failing=failing, now=3.0))
    assert (chat.channel, session.agent_group_id) == (found, house.agent.id)
