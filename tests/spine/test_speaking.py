"""Files, edits, reactions and questions on their way from an agent's call to the mailbox, whoever dies in between."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from nanoclaw_core.errors import TryLater
from nanoclaw_core.mailbox import Mailbox
from nanoclaw_core.models import Address, Capabilities, InboundKind, UploadedFile
from nanoclaw_core.ports import Action, ActionCall
from nanoclaw_core.testing import FakeChannel, Reply, ScriptedModel
from tests.spine.spine import Spine, until

SEND = "mcp__nanoclaw__send_file"
MIB = 1024 * 1024


@pytest.fixture
def able(spine: Spine) -> FakeChannel:
    """A platform that takes files."""
    spine.chat = FakeChannel(capabilities=Capabilities(max_file_size=MIB, max_caption=100))
    return spine.chat


@dataclass(frozen=True, kw_only=True)
class Paper:
    file: UploadedFile


def outbox(spine: Spine) -> list[Path]:
    return sorted(spine.home.glob("sessions/*/*/outbox/*"))


def queued(spine: Spine, columns: str, kind: str = "message") -> list[Any]:
    (path,) = spine.home.glob("sessions/*/*/outbound.db")
    with closing(sqlite3.connect(path)) as connection:
        query = f"SELECT {columns} FROM messages WHERE kind = ? AND key GLOB 'call-*' ORDER BY seq"  # noqa: S608
        return connection.execute(query, (kind,)).fetchall()


async def tool(spine: Spine, name: str, **arguments: Any) -> str:
    """Have the agent call it; what it answers with is what the tool answered."""
    before = len(spine.chat.settlements)
    await spine.chat.say(f"!tool {name} {json.dumps(arguments)}")
    await spine.settled(before + 1)
    return spine.chat.outbox[-1].text


async def test_a_file_that_the_agent_has_made_is_kept_for_delivery(spine: Spine, able: FakeChannel) -> None:
    async with spine.host() as host:
        await spine.wire(host, "chat-2", name="Work")
        await spine.chat.say("!bash printf hello > out.txt; mkdir folder")
        await spine.settled()
        assert await tool(spine, "send_file", path="folder") == (
            "send_file was not called: folder: it is a folder; hand over a file, or an archive of the folder"
        )
        able.fail_next(TryLater("the platform is away", after=3600.0))
        await spine.chat.say(f"!tool send_file {json.dumps({'path': 'out.txt', 'text': 'look', 'to': 'work'})}")
        await until(lambda: queued(spine, "files"))
        ((files,),) = queued(spine, "files")
        (file,) = json.loads(files)
        (path,) = outbox(spine)
        assert (file["name"], file["size"], file["media_type"]) == ("out.txt", 5, "text/plain")
        assert path.relative_to(path.parents[1]) == Path(file["path"])
        assert path.read_bytes() == b"hello"


async def test_a_file_goes_when_it_has_been_delivered(spine: Spine, able: FakeChannel) -> None:
    async with spine.host():
        await spine.chat.say("!bash printf hello > out.txt")
        await spine.settled()
        assert await tool(spine, "send_file", path="out.txt", text="look") == "out.txt sent to this chat (id s3)."
        assert [message.text for message in able.outbox[-2:]] == ["look", "out.txt sent to this chat (id s3)."]
        assert able.contents == [("out.txt", b"hello")]
        assert outbox(spine) == []


async def test_messages_are_known_by_the_ids_that_the_agent_was_told(spine: Spine, able: FakeChannel) -> None:
    async with spine.host():
        assert await tool(spine, "send_message", text="on it") == "Message sent to this chat (id s1)."
        assert await tool(spine, "edit_message", message_id="s1", text="done") == "The message s1 in family gets the new text."
        assert await tool(spine, "add_reaction", message_id="1", emoji="thumbs_up") == (
            "👍 is put under the message 1 in family."
        )
        assert "There is no message of yours" in await tool(spine, "edit_message", message_id="s2", text="x")
        assert "You heard no message" in await tool(spine, "add_reaction", message_id="99", emoji="👍")
    here = Address(channel="fake", chat="chat-1")
    assert able.edits == [(here, "sent-1", "done")]
    assert able.reactions == [(here, "message-1", "👍")]


async def test_a_question_does_not_hold_the_turn_and_its_answer_comes_as_a_message(spine: Spine, able: FakeChannel) -> None:
    async with spine.host():
        said = await tool(spine, "ask_user", question="Which?", options=["red", "blue"])
        assert said == "Asked in this chat (id s1). The answer arrives as a message; end your turn if you need it."
        ((message, question),) = able.questions
        assert (message.text, [choice.label for choice in question.choices]) == ("Which?", ["red", "blue"])
        blue = question.choices[1].id
        await able.say(blue, kind=InboundKind.ANSWER, about=question.id)
        await spine.settled(2)
        assert able.outbox[-1].text == "You said: blue"


async def test_a_question_for_another_chat_is_answered_to_who_asked_and_the_agent_speaks_in_that_chat(
    spine: Spine, able: FakeChannel
) -> None:
    async with spine.host() as host:
        await spine.wire(host, "chat-2", name="Work")
        await tool(spine, "ask_user", question="Which?", options=["red", "blue"], to="work")
        ((message, question),) = able.questions
        assert message.to.chat == "chat-2"
        await able.say("2", chat="chat-2", kind=InboundKind.ANSWER, about=question.id)
        await spine.settled(2)
        assert (able.outbox[-1].text, able.outbox[-1].to.chat) == ("You said: blue", "chat-2")
        assert len(list(spine.home.glob("sessions/*/*/inbound.db"))) == 1


async def test_a_channel_that_cannot_is_named(spine: Spine) -> None:
    spine.chat = FakeChannel(capabilities=Capabilities(max_file_size=0))
    async with spine.host():
        await spine.chat.say("!bash printf hello > out.txt")
        await spine.settled()
        assert await tool(spine, "send_file", path="out.txt") == ("Files cannot be sent to this chat: its platform takes none.")
        assert outbox(spine) == []


async def test_a_file_whose_worker_dies_is_sent_once(
    spine: Spine, able: FakeChannel, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = Mailbox.add_outbound

    async def queue_and_kill(self: Mailbox, key: str, row: Any, **how: Any) -> bool:
        if done := await queue(self, key, row, **how):
            spine.runtime.kill_all()
        return done

    monkeypatch.setattr(Mailbox, "add_outbound", queue_and_kill)
    calls = [Reply.tool(SEND, {"path": "out.txt", "text": "look"}) for _ in range(2)]
    model.script(Reply.tool("Bash", {"command": "printf hello > out.txt"}), *calls, Reply.text("done"))
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("send it")
        assert await spine.settled() == [(("message-1",), "answered")]
        assert [message.text for message in able.outbox] == ["look", "done"]
        await until(lambda: outbox(spine) == [])


async def test_a_file_whose_host_dies_in_the_call_is_there_for_the_next_host(spine: Spine, model: ScriptedModel) -> None:
    began, leave = anyio.Event(), anyio.Event()
    read: list[bytes] = []

    async def look(call: ActionCall, parameters: Paper) -> str:
        read.append(parameters.file.path.read_bytes())
        if len(read) == 1:
            began.set()
            await leave.wait()
        return f"read {len(read)} times"

    spine.actions = [Action(name="look", description="Look.", parameters=Paper, handler=look, idempotent=True)]
    model.script(
        Reply.tool("Bash", {"command": "printf hello > out.txt"}),
        Reply.tool("mcp__nanoclaw__look", {"file": "out.txt"}),
        Reply.text("done"),
    )
    async with spine.killed_host():
        await spine.chat.say("look")
        await began.wait()
        assert len(outbox(spine)) == 1
    async with spine.host():
        assert await spine.settled() == [(("message-1",), "answered")]
        leave.set()
    assert read == [b"hello", b"hello"]
    assert "read 2 times" in str(model.calls[-1].json["messages"])
    assert outbox(spine) == []


async def test_a_file_that_is_handed_over_while_no_host_is_there_waits_for_one(spine: Spine, model: ScriptedModel) -> None:
    """The command of the agent ends after its host, and what follows it needs the next one."""
    read: list[bytes] = []

    async def look(call: ActionCall, parameters: Paper) -> str:
        read.append(parameters.file.path.read_bytes())
        return "read"

    spine.actions = [Action(name="look", description="Look.", parameters=Paper, handler=look)]
    model.script(
        Reply.tool("Bash", {"command": "printf hello > out.txt; until [ -e go ]; do sleep 0.01; done"}),
        Reply.tool("mcp__nanoclaw__look", {"file": "out.txt"}),
        Reply.text("done"),
    )
    async with spine.killed_host():
        await spine.chat.say("look")
        await model.wait_for(1)
        await until(lambda: list(spine.home.glob("groups/*/out.txt")))
    (made,) = spine.home.glob("groups/*/out.txt")
    made.with_name("go").touch()
    async with spine.host():
        assert await spine.settled() == [(("message-1",), "answered")]
    assert read == [b"hello"]
