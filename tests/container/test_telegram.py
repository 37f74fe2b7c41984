"""The whole way once: an update of Telegram's, a real container with Claude Code in it, an answer that grows on Telegram."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import anyio
import pytest

from nanoclaw_core.host import Host, open_host
from nanoclaw_core.installed import enable
from nanoclaw_core.models import EngageMode
from nanoclaw_core.settings import load
from nanoclaw_core.store import agents, chats
from nanoclaw_core.store.database import Connection
from nanoclaw_core.testing import Reply, ScriptedModel
from tests.container.house import remove_containers
from tests.peers.telegram import TelegramPeer
from tests.peers.telegram_chats import BOT, HOME

pytestmark = pytest.mark.container


def wire(connection: Connection) -> None:
    """Let the main agent hear Ada's chat."""
    agent = agents.main_agent_group(connection)
    assert agent is not None
    ensure = partial(chats.ensure_messaging_group, connection, channel="telegram", account="", name="Ada", now=1.0)
    chats.wire(
        connection,
        messaging_group_id=ensure(chat=str(HOME["id"]), is_group=False).id,
        agent_group_id=agent.id,
        engage_mode=EngageMode.PATTERN,
        pattern=".",
        now=1.0,
    )


async def answers(telegram: TelegramPeer, count: int) -> list[str]:
    """What the bot has said, as soon as there is that much."""

    def said() -> list[str]:
        return [message["text"] for message in telegram.chats.messages.values() if message.get("from") == BOT]

    await telegram.wait_for(lambda: len(said()) >= count, patience=60)
    return said()


async def talk(host: Host, telegram: TelegramPeer, model: ScriptedModel) -> None:
    await host.database.write(wire)
    rest = anyio.Event()
    model.script(Reply.stream("It is **forty", rest, "-two**."))
    telegram.say("Six times seven?")
    await telegram.wait_for(lambda: telegram.chats.drafts, patience=60)
    assert telegram.chats.drafts[0]["text"] == "It is **forty"
    rest.set()
    assert await answers(telegram, 1) == ["It is forty-two."]
    notes = telegram.chats.store(b"what was in the file", "documents/notes.txt") | {"file_name": "../notes.txt"}
    telegram.say(document=notes, caption="!bash cat /nanoclaw/inbox/*/notes.txt; exit")
    assert "what was in the file" in (await answers(telegram, 2))[1]


async def test_what_is_said_on_telegram_is_answered_out_of_a_container(
    nanoclaw_home: Path, nanoclaw_scripted_model: ScriptedModel
) -> None:
    async with TelegramPeer() as telegram:
        enable(nanoclaw_home, "telegram")
        variables = {
            "NANOCLAW_HOME": str(nanoclaw_home),
            "TELEGRAM_BOT_TOKEN": telegram.token,
            "TELEGRAM_API_URL": telegram.url,
            "ANTHROPIC_API_KEY": "sk-ant-a-key-of-this-test",
            "ANTHROPIC_BASE_URL": nanoclaw_scripted_model.url,
        }
        with anyio.fail_after(90):
            async with open_host(load(variables, nanoclaw_home)) as host, anyio.create_task_group() as tasks:
                await tasks.start(host.run)
                try:
                    await talk(host, telegram, nanoclaw_scripted_model)
                finally:
                    tasks.cancel_scope.cancel()
            remove_containers(host.pool._desk.terms.installation)
