"""A whole host with the real Telegram channel, found as an installed plugin, and Telegram's end on loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

import anyio
import pytest

from nanoclaw_core.host import Host
from nanoclaw_core.installed import enable
from nanoclaw_core.models import EngageMode
from nanoclaw_core.store import agents, chats
from nanoclaw_core.store.database import Connection
from nanoclaw_core.testing import Reply, ScriptedModel
from tests.peers.telegram import TelegramPeer
from tests.peers.telegram_chats import BEN, BOT, CLUB, FAMILY, HOME, Json
from tests.spine.spine import Spine, until


@pytest.fixture
async def telegram(spine: Spine) -> AsyncIterator[TelegramPeer]:
    async with TelegramPeer() as peer:
        enable(spine.home, "telegram")
        spine.variables |= {"TELEGRAM_BOT_TOKEN": peer.token, "TELEGRAM_API_URL": peer.url}
        yield peer


def wire(connection: Connection, chat: Json, mode: EngageMode, pattern: str) -> None:
    agent = agents.main_agent_group(connection)
    assert agent is not None
    ensure = partial(chats.ensure_messaging_group, connection, channel="telegram", account="", name="", now=1.0)
    group = ensure(chat=str(chat["id"]), is_group=chat is not HOME)
    chats.wire(connection, messaging_group_id=group.id, agent_group_id=agent.id, engage_mode=mode, pattern=pattern, now=1.0)


async def hear(host: Host, chat: Json = HOME, mode: EngageMode = EngageMode.PATTERN, pattern: str = ".") -> None:
    """Let the main agent hear a chat."""
    await host.database.write(partial(wire, chat=chat, mode=mode, pattern=pattern))


def is_settled(host: Host) -> bool:
    """Whether no session has anything to do, as far as the host has noted."""
    return host.delivery._lanes == {}


async def texts(telegram: TelegramPeer, count: int, chat: Json = HOME) -> list[str]:
    """What the bot has said in a chat, as it is now."""

    def said() -> list[str]:
        return [
            message["text"]
            for (chat_id, _), message in telegram.chats.messages.items()
            if chat_id == chat["id"] and message.get("from") == BOT
        ]

    await telegram.wait_for(lambda: len(said()) >= count)
    return said()


async def test_a_message_is_answered_and_confirmed(spine: Spine, telegram: TelegramPeer) -> None:
    async with spine.host() as host:
        await hear(host)
        telegram.say("hello *you*")
        assert await texts(telegram, 1) == ["You said: hello you"]
        await telegram.confirmed()


async def test_what_nobody_wired_leaves_no_content(spine: Spine, telegram: TelegramPeer) -> None:
    async with spine.host():
        telegram.say("my dear diary", chat=FAMILY)
        await telegram.confirmed()
    assert spine.files_holding("my dear diary") == []


async def test_a_killed_host_loses_and_repeats_nothing(spine: Spine, telegram: TelegramPeer) -> None:
    async with spine.killed_host() as host:
        await hear(host)
        telegram.say("one")
        await texts(telegram, 1)
        await until(lambda: is_settled(host))
    telegram.say("two")
    async with spine.host():
        assert await texts(telegram, 2) == ["You said: one", "You said: two"]
        await telegram.confirmed()
    assert len(await texts(telegram, 2)) == 2


async def test_a_picture_reaches_the_agents_inbox(spine: Spine, telegram: TelegramPeer) -> None:
    async with spine.host() as host:
        await hear(host)
        photo = telegram.chats.store(b"meow", "photos/cat.jpg") | {"width": 1, "height": 1}
        telegram.say(photo=[photo], caption="Who is this?")
        (text,) = await texts(telegram, 1)
        name = text.partition("/nanoclaw/inbox/")[2].rstrip("]")
        (inbox,) = host.settings.home.glob("sessions/main/*/inbox")
    assert text.startswith("You said: Who is this?\n[photo: ")
    assert (inbox / name).read_bytes() == b"meow"


async def test_in_a_group_the_agent_answers_what_telegram_marks_as_meant_for_it(spine: Spine, telegram: TelegramPeer) -> None:
    async with spine.host() as host:
        await hear(host, FAMILY, EngageMode.MENTION, "@Andy")
        telegram.say("nobody in particular", chat=FAMILY, sender=BEN)
        command = [{"type": "bot_command", "offset": 0, "length": 15}]
        telegram.say("/stop@other_bot", chat=FAMILY, sender=BEN, entities=command)
        mention = [{"type": "mention", "offset": 0, "length": 14}]
        telegram.say("@andy_test_bot hello", chat=FAMILY, sender=BEN, entities=mention)
        assert await texts(telegram, 1, FAMILY) == ["You said: @andy_test_bot hello"]


async def test_a_reaction_to_an_answer_is_heard(spine: Spine, telegram: TelegramPeer) -> None:
    async with spine.host() as host:
        await hear(host)
        telegram.say("hello")
        await texts(telegram, 1)
        (answer,) = [message for message in telegram.chats.messages.values() if message.get("from") == BOT]
        telegram.react(answer, "👍")
        assert (await texts(telegram, 2))[1] == "You said: 👍"


async def test_a_group_that_became_a_supergroup_keeps_its_agent(spine: Spine, telegram: TelegramPeer) -> None:
    async with spine.host() as host:
        await hear(host, CLUB)
        new = telegram.upgrade(CLUB)
        telegram.say("still there?", chat=new)
        assert await texts(telegram, 1, new) == ["You said: still there?"]


async def test_a_bot_that_is_thrown_out_in_mid_answer_has_the_owner_told(spine: Spine, telegram: TelegramPeer) -> None:
    async with spine.host() as host:
        await hear(host, FAMILY)
        telegram.chats.kick(FAMILY)
        telegram.say("hello", chat=FAMILY)
        (news,) = await spine.texts(1)
    assert "kicked" in news


async def test_a_revoked_token_turns_the_channel_off_and_the_owner_is_told_elsewhere(
    spine: Spine, telegram: TelegramPeer
) -> None:
    async with spine.host() as host:
        await telegram.confirmed()
        telegram.revoke()
        (news,) = await spine.texts(1)
        assert "nanoclaw channel setup telegram" in news
        await until(lambda: str(host.healths["telegram"].state) == "ended")
        assert telegram.token not in str(host.healths["telegram"])


async def test_an_answer_is_shown_while_it_is_written_and_replaced_in_its_place(
    spine: Spine, telegram: TelegramPeer, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = anyio.Event(), anyio.Event()
    model.script(Reply.stream("It is", first, " **forty", second, "-two**."))
    async with spine.host() as host:
        await hear(host, FAMILY)
        telegram.say("six times seven?", chat=FAMILY)
        assert await texts(telegram, 1, FAMILY) == ["It is"]
        first.set()
        second.set()
        await telegram.wait_for(lambda: telegram.called("editMessageText"))
        assert await texts(telegram, 1, FAMILY) == ["It is forty-two."]
        await until(lambda: is_settled(host))
    assert len(telegram.called("sendMessage")) == 1


async def test_in_a_private_chat_the_answer_grows_as_a_draft(
    spine: Spine, telegram: TelegramPeer, model: ScriptedModel
) -> None:
    first = anyio.Event()
    model.script(Reply.stream("It is", first, " forty-two."))
    async with spine.host() as host:
        await hear(host)
        telegram.say("six times seven?")
        await telegram.wait_for(lambda: telegram.chats.drafts)
        first.set()
        assert await texts(telegram, 1) == ["It is forty-two."]
    assert [draft["text"] for draft in telegram.chats.drafts][:1] == ["It is"]
