"""Updates are stored before they are confirmed, and nothing that Telegram sends stops the loop for good."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import anyio
import pytest

from nanoclaw_core import ChannelRevoked, InboundKind, NanoClawError
from nanoclaw_core.testing import FakeClock
from nanoclaw_telegram.channel import TelegramChannel
from nanoclaw_telegram.polling import ALBUM_PAUSE
from tests.peers.host import Host
from tests.peers.telegram import Drop, Garbage, Refusal, TelegramPeer
from tests.peers.telegram_chats import ADA, BOT, CLUB, FAMILY, HOME, Json

# --- stored, then confirmed -----------------------------------------------------------------------------------------------


async def test_a_message_is_confirmed_after_it_was_stored(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel
) -> None:
    platform.say("hello")
    async with host.running(telegram):
        (message,) = await host.received()
        await platform.confirmed()
    assert (message.text, host.cursor) == ("hello", f"{BOT['id']}:1001:0")
    assert platform.polls[-1]["offset"] == "1001"


async def test_what_was_not_stored_comes_again(platform: TelegramPeer, host: Host, settings: dict[str, str]) -> None:
    platform.say("one")
    platform.say("two")
    host.store_nothing = OSError("the disk is full")
    assert await host.failure(TelegramChannel(host.context(settings))) is host.store_nothing
    assert len(platform.updates) == 2

    host.store_nothing = None
    async with host.running(TelegramChannel(host.context(settings))):
        messages = await host.received(2)
    assert [message.text for message in messages] == ["one", "two"]


async def test_a_host_that_died_before_confirming_knows_the_message_again(
    platform: TelegramPeer, host: Host, settings: dict[str, str]
) -> None:
    platform.say("hello")
    async with host.running(TelegramChannel(host.context(settings))):
        await host.received()
    assert platform.updates, "stopped before the next poll"
    async with host.running(TelegramChannel(host.context(settings))):
        await platform.confirmed()
    assert len(host.messages) == 1
    assert platform.polls[-1]["offset"] == "1001"


async def test_another_bot_begins_anew(platform: TelegramPeer, host: Host, telegram: TelegramChannel) -> None:
    host.cursor = "1:999999:0"
    platform.say("hello")
    async with host.running(telegram):
        (message,) = await host.received()
    assert message.message_id.endswith(".bot1")
    assert host.cursor == f"{BOT['id']}:1001:1"


async def test_noise_is_confirmed_too(platform: TelegramPeer, host: Host, telegram: TelegramChannel) -> None:
    platform.say(chat=FAMILY, new_chat_title="Kin")
    platform.push(hologram={"depth": 3})
    async with host.running(telegram):
        await platform.confirmed()
    assert host.messages == []


async def test_reactions_are_asked_for(platform: TelegramPeer, host: Host, telegram: TelegramChannel) -> None:
    said = platform.say("hello")
    async with host.running(telegram):
        await host.received()
        platform.react(said, "👍")
        reaction = (await host.received(2))[1]
    assert (reaction.kind, reaction.about, reaction.text) == (InboundKind.REACTION, str(said["message_id"]), "👍")


# --- what cannot be read --------------------------------------------------------------------------------------------------


async def test_a_malformed_update_is_skipped_without_showing_it(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel, capsys: pytest.CaptureFixture[str]
) -> None:
    platform.push(message={"message_id": 1, "text": "a secret"})
    platform.updates.append({"no": "id"})
    platform.say("hello")
    async with host.running(telegram):
        (message,) = await host.received()
        platform.updates.remove({"no": "id"})
        await platform.confirmed()
    assert message.text == "hello"
    logged = capsys.readouterr().out
    assert "telegram.update_skipped" in logged
    assert "a secret" not in logged


async def test_a_press_that_cannot_be_read_is_answered(platform: TelegramPeer, host: Host, telegram: TelegramChannel) -> None:
    query_id = platform.chats.ask()
    platform.push(callback_query={"id": query_id, "data": "q:y"})
    async with host.running(telegram):
        await platform.confirmed()
    assert platform.chats.answers[query_id] is not None


@pytest.mark.parametrize(
    "body", [b"<html>Welcome to our hotel</html>", b"", b"[]", b"{}", b'{"ok":true}', b'{"ok":true,"result":7}']
)
async def test_nonsense_instead_of_updates_ends_the_attempt_and_loses_nothing(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel, body: bytes
) -> None:
    platform.say("hello")
    platform.script("getUpdates", Garbage(body=body), Garbage(body=body))
    failure = await host.failure(telegram)
    assert type(failure) is NanoClawError
    async with host.running(telegram):
        assert (await host.received())[0].text == "hello"


async def test_updates_that_make_no_sense_do_not_spin(platform: TelegramPeer, host: Host, telegram: TelegramChannel) -> None:
    platform.updates.append({"no": "id"})
    assert "makes no sense" in str(await host.failure(telegram))


async def test_a_broken_connection_is_asked_again_at_once(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel
) -> None:
    platform.script("getUpdates", Drop())
    platform.say("hello")
    async with host.running(telegram):
        assert (await host.received())[0].text == "hello"


@pytest.mark.parametrize("failures", [(Refusal(code=502, description="Bad Gateway"),), (Drop(), Drop())])
async def test_an_outage_is_left_to_the_supervisor(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel, failures: tuple[Refusal | Drop, ...]
) -> None:
    platform.script("getUpdates", *failures)
    assert "Telegram cannot be asked for messages" in str(await host.failure(telegram))


async def test_nobody_at_the_other_end(host: Host, settings: dict[str, str]) -> None:
    settings["TELEGRAM_API_URL"] = "http://127.0.0.1:9"
    failure = await host.failure(TelegramChannel(host.context(settings)))
    assert "cannot be reached (ConnectError)" in str(failure)


async def test_a_pause_that_telegram_asks_for_is_kept(
    platform: TelegramPeer, host: Host, settings: dict[str, str], nanoclaw_clock: FakeClock
) -> None:
    platform.script("getUpdates", Refusal(code=429, retry_after=30))
    channel = TelegramChannel(host.context(settings, nanoclaw_clock))
    failures: list[Exception] = []

    async def run() -> None:
        failures.append(await host.failure(channel))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await nanoclaw_clock.asleep()
        await nanoclaw_clock.advance(29)
        assert failures == []
        await nanoclaw_clock.advance(1)
    assert "asks for a pause" in str(failures[0])


# --- who may ask ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "nonsense", "123456789", "123:a b", "1:../x"])
async def test_a_token_that_is_none_is_never_sent(
    platform: TelegramPeer, host: Host, settings: dict[str, str], token: str
) -> None:
    settings["TELEGRAM_BOT_TOKEN"] = token
    failure = await host.failure(TelegramChannel(host.context(settings)))
    assert isinstance(failure, ChannelRevoked)
    assert "BotFather" in str(failure)
    assert platform.calls == []


async def test_a_token_that_telegram_never_gave(host: Host, settings: dict[str, str]) -> None:
    settings["TELEGRAM_BOT_TOKEN"] = "123456789:AAwrong"
    failure = await host.failure(TelegramChannel(host.context(settings)))
    assert isinstance(failure, ChannelRevoked)
    assert "AAwrong" not in f"{failure!r} {failure.__cause__!r}"


async def test_a_token_revoked_in_flight_turns_the_channel_off(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel
) -> None:
    async def revoke() -> None:
        await platform.confirmed()
        platform.revoke()

    failure = await host.failure(telegram, revoke)
    assert isinstance(failure, ChannelRevoked)
    assert "nanoclaw channel setup telegram" in str(failure)


async def test_two_hosts_with_one_token_are_told(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel, settings: dict[str, str]
) -> None:
    async def another_host() -> None:
        await platform.confirmed()
        other = Host()
        async with other.running(TelegramChannel(other.context(settings))):
            await anyio.sleep_forever()

    failure = await host.failure(telegram, another_host)
    assert type(failure) is NanoClawError
    assert "Another program" in str(failure)
    assert "another NanoClaw with the same token?" in str(failure)


async def test_a_webhook_is_told(platform: TelegramPeer, host: Host, telegram: TelegramChannel) -> None:
    platform.webhook = "https://bot.example"
    assert "a webhook" in str(await host.failure(telegram))


async def test_a_web_server_that_is_no_bot_api_is_no_reason_to_turn_the_channel_off(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel
) -> None:
    platform.script("getMe", Garbage(status=404))
    failure = await host.failure(telegram)
    assert type(failure) is NanoClawError


# --- what else comes ------------------------------------------------------------------------------------------------------


async def test_the_sender_of_a_message_that_is_too_long_is_told(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel
) -> None:
    host.too_long.add("a whole book")
    async with host.running(telegram):
        book = platform.say("a whole book")
        (told,) = await platform.sent(1)
        await platform.confirmed()
    assert told["reply_parameters"]["message_id"] == book["message_id"]


async def test_a_group_that_moved_is_told_before_it_is_confirmed(
    platform: TelegramPeer, host: Host, telegram: TelegramChannel
) -> None:
    new = platform.upgrade(CLUB)
    async with host.running(telegram):
        await platform.confirmed()
    assert set(host.moves) == {(str(CLUB["id"]), str(new["id"]))}


async def test_a_chat_that_takes_the_bot_back_is_woken(platform: TelegramPeer, host: Host, telegram: TelegramChannel) -> None:
    async with host.running(telegram):
        await platform.confirmed()
        member: Json = {"status": "member", "user": BOT}
        change = {"chat": HOME, "from": ADA, "date": 1, "old_chat_member": member, "new_chat_member": member}
        platform.push(my_chat_member=change)
        await host.wait_for(lambda: host.woken)
    assert host.woken == ["42"]


async def test_an_album_is_waited_for_and_is_one_message(
    platform: TelegramPeer, host: Host, settings: dict[str, str], nanoclaw_clock: FakeClock
) -> None:
    def picture(**more: Any) -> None:
        photo = [platform.chats.store(b"x", "photos/a.jpg") | {"width": 1, "height": 1}]
        platform.say(photo=photo, media_group_id="9", **more)

    async with host.running(TelegramChannel(host.context(settings, nanoclaw_clock))):
        await platform.confirmed()
        picture()
        await nanoclaw_clock.asleep()
        picture(caption="Holidays")
        platform.say("Did you see?")
        await nanoclaw_clock.advance(ALBUM_PAUSE)
        album, text = await host.received(2)
        await platform.confirmed()
    assert (album.text, len(album.files), text.text) == ("Holidays", 2, "Did you see?")
    assert host.cursor == f"{BOT['id']}:1003:0"


# --- what must not be left or shown ---------------------------------------------------------------------------------------


async def test_nothing_is_left_when_it_ends(platform: TelegramPeer, host: Host, telegram: TelegramChannel) -> None:
    before = asyncio.all_tasks()
    async with host.running(telegram):
        await platform.confirmed()
    await platform.wait_for(lambda: platform.is_idle)
    left = asyncio.all_tasks() - before
    assert {task for task in left if "RequestHandler" not in repr(task.get_coro())} == set(), "but for those of the peer"


async def test_neither_the_token_nor_what_is_said_is_logged(
    platform: TelegramPeer,
    host: Host,
    telegram: TelegramChannel,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    platform.say("my dear diary")
    async with host.running(telegram):
        await host.received()
        await platform.confirmed()
    printed = capsys.readouterr()
    logged = "\n".join([*(record.getMessage() for record in caplog.records), printed.out, printed.err])
    assert platform.token not in logged
    assert "my dear diary" not in logged
