"""A file that Claude Code makes in its container reaches a chat, byte for byte."""

from __future__ import annotations

import json
from functools import partial

import pytest

from nanoclaw_core.errors import TryLater
from nanoclaw_core.mailbox import Mailbox
from nanoclaw_core.models import Capabilities
from nanoclaw_core.testing import FakeChannel
from tests.container.house import living_host, until
from tests.spine.spine import wire

pytestmark = pytest.mark.container

MAKE = "python3 -c \"open('out.bin', 'wb').write(bytes(range(256)) * 12000)\" && mkfifo pipe && ln -s out.bin link"
CONTENT = bytes(range(256)) * 12000


def send(path: str) -> str:
    return "!tool mcp__nanoclaw__send_file " + json.dumps(
        {"path": path, "text": "Here it is.", "to": "family", "name": "../a.bin"}
    )


async def test_a_file_of_the_agent_is_sent_as_it_is() -> None:
    chat = FakeChannel(capabilities=Capabilities(max_file_size=10 * 2**20, max_caption=1000))
    chat.fail_next(TryLater("the platform is away", after=0.1))
    async with living_host(channels=[chat]) as person:
        await person.host.database.write(partial(wire, chat="chat-1", name="Family"))
        await person.ask(f"!bash {MAKE}")
        assert await person.ask(send("pipe")) == ["send_file was not called: pipe: it is no regular file"]
        assert await person.ask(send("link")) == ["a.bin sent to family (id s5)."]
        (message,) = await chat.sent(1)
        assert (message.to.chat, message.text) == ("chat-1", "Here it is.")
        assert chat.contents == [("a.bin", CONTENT)]
        mailbox = await person.mailbox()
        await until(lambda: nothing_is_due(mailbox))
        assert list((mailbox.folder / "outbox").iterdir()) == []


async def nothing_is_due(mailbox: Mailbox) -> bool:
    return not await mailbox.due()
