"""What agents say reaches their own chats only, and what a platform cannot do is said before anything is queued."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio.abc import TaskStatus

from nanoclaw_core.errors import ActionRefused, DiskLow
from nanoclaw_core.mailbox import NewOutbound, NewRow
from nanoclaw_core.models import (
    Address,
    Capabilities,
    InboundKind,
    LengthUnit,
    OutboundFile,
    OutboundKind,
    OutboundMessage,
    OutboundRow,
    Receipt,
)
from nanoclaw_core.ports import Receive
from nanoclaw_core.workers.speech import AgentActions
from tests.house import CHAT
from tests.workers.crew import Crew, until

MIB = 1024 * 1024


class Plain:
    """A channel that takes texts, and files of at most a MiB."""

    capabilities = Capabilities(max_length=20, length_unit=LengthUnit.UTF16, max_file_size=MIB)

    async def run(self, receive: Receive, *, task_status: TaskStatus[None]) -> None:
        raise AssertionError("nobody runs it")

    async def send(self, message: OutboundMessage) -> Receipt:
        raise AssertionError("nothing is delivered here")


class Able(Plain):
    """One that can edit and react as well."""

    async def edit(self, to: Address, message_id: str, text: str) -> None:
        raise AssertionError("nothing is delivered here")

    async def react(self, to: Address, message_id: str, emoji: str) -> None:
        raise AssertionError("nothing is delivered here")


Speak = Callable[[str], AgentActions]


@pytest.fixture
async def speak(crew: Crew) -> Speak:
    """What a call may do in the middle of a turn that answers the row 1, by its key."""
    crew.channels["fake"] = Able()
    await crew.row("hello")
    _, link = await crew.linked()
    await until(lambda: link.pushes)
    return partial(crew.pool.actions.host, crew.doors.opened[0])


async def due(crew: Crew) -> list[OutboundRow]:
    return [replace(row, queued_at=None) for row in await crew.house.mailbox.due()]


async def refused(crew: Crew, what: Any, match: str) -> None:
    """It is refused for that reason, and nothing is queued."""
    before = await due(crew)
    with pytest.raises(ActionRefused, match=match):
        await what
    assert await due(crew) == before


def file(path: Path, content: bytes = b"hello") -> OutboundFile:
    path.write_bytes(content)
    return OutboundFile(name="a.txt", path=path, size=len(content), media_type="text/plain")


# --- sending ----------------------------------------------------------------------------------------------------------------


async def test_what_is_sent_has_an_id_that_a_repetition_hears_too(crew: Crew, speak: Speak) -> None:
    first = await speak("k1").send("one")
    assert (first.to, first.id) == ("this chat", "s1")
    assert await speak("k1").send("one") == first
    assert (await speak("k2").send("two", "family")).id == "s2"


async def test_a_file_that_was_handed_over_is_sent_from_where_it_is(crew: Crew, speak: Speak) -> None:
    outbox = await crew.house.mailbox.outbox()
    handed = file(outbox / "upload")
    await speak("k1").send("", files=[handed])
    (row,) = await due(crew)
    assert row.files == (replace(handed, path=Path("outbox/upload")),)
    assert [path.name for path in outbox.iterdir()] == ["upload"]


async def test_a_file_of_the_actions_own_is_copied_once(crew: Crew, speak: Speak, tmp_path: Path) -> None:
    own = file(tmp_path / "picture")
    for _ in range(2):
        await speak("k1").send("look", files=[own])
    own.path.unlink()
    (row,) = await due(crew)
    (sent,) = row.files
    assert (crew.house.mailbox.folder / sent.path).read_bytes() == b"hello"
    assert len(list((await crew.house.mailbox.outbox()).iterdir())) == 1


async def test_a_file_that_the_platform_does_not_take_is_refused(crew: Crew, speak: Speak, tmp_path: Path) -> None:
    huge = file(tmp_path / "huge", b"x" * (MIB + 1))
    await refused(crew, speak("k1").send("", files=[huge]), "a.txt has 1.0 MiB, and this chat takes files of at most 1.0 MiB")
    await refused(crew, speak("k1").send("", files=[file(tmp_path / "it")] * 11), "At most 10 files")
    Plain.capabilities, able = Capabilities(), Plain.capabilities
    try:
        await refused(crew, speak("k1").send("", "family", files=[file(tmp_path / "it")]), "cannot be sent to family")
    finally:
        Plain.capabilities = able


async def test_a_file_for_a_channel_that_is_away_waits_for_it(crew: Crew, speak: Speak, tmp_path: Path) -> None:
    del crew.channels["fake"]
    await speak("k1").send("", files=[file(tmp_path / "it")])
    assert len(await due(crew)) == 1


async def test_nothing_is_nothing_to_send(crew: Crew, speak: Speak) -> None:
    await refused(crew, speak("k1").send("<internal>x</internal>"), "nothing to send")


# --- asking -----------------------------------------------------------------------------------------------------------------


async def test_a_question_is_queued_with_its_labels(crew: Crew, speak: Speak) -> None:
    asked = await speak("k1").ask("Which <internal>hm</internal>?", ["  the  red\none ", "blue"])
    (row,) = await due(crew)
    assert (asked.to, asked.id, row.to) == ("this chat", "s1", CHAT)
    assert (row.kind, row.text, row.choices) == (OutboundKind.MESSAGE, "Which ?", ("the red one", "blue"))


@pytest.mark.parametrize(
    ("question", "choices", "reason"),
    [
        ("?", ["one"], "2 to 10 different options"),
        ("?", [str(number) for number in range(11)], "2 to 10 different options"),
        ("?", ["a", " a "], "2 to 10 different options"),
        ("?", ["a", " "], "1 to 60 characters"),
        ("?", ["a", "x" * 61], "1 to 60 characters"),
        ("<internal>?</internal>", ["a", "b"], "nothing to ask"),
    ],
)
async def test_what_cannot_be_asked_is_refused(
    crew: Crew, speak: Speak, question: str, choices: list[str], reason: str
) -> None:
    await refused(crew, speak("k1").ask(question, choices), reason)


# --- editing ----------------------------------------------------------------------------------------------------------------


async def test_a_message_that_was_sent_gets_another_text_once(crew: Crew, speak: Speak) -> None:
    sent = await speak("k1").send("on it")
    for _ in range(2):
        edited = await speak("k2").edit(sent.id, "done <internal>!</internal>")
    assert (edited.to, edited.id) == ("family", sent.id)
    _, row = await due(crew)
    assert (row.kind, row.to, row.about, row.text) == (OutboundKind.EDIT, CHAT, "1", "done")


@pytest.mark.parametrize("message_id", ["1", "s2", "s0", "s-1", "s1 or s2", "s٣", "", "s" + "9" * 30])
async def test_an_id_of_no_message_of_the_agents_is_explained(crew: Crew, speak: Speak, message_id: str) -> None:
    await speak("k1").send("mine")
    await crew.house.mailbox.add_outbound("unasked-1", NewOutbound(to=CHAT, text="a notice"))
    await refused(crew, speak("k2").edit(message_id, "x"), "There is no message of yours")


async def test_an_edit_is_no_message_that_can_be_edited(crew: Crew, speak: Speak) -> None:
    sent = await speak("k1").send("one")
    await speak("k2").edit(sent.id, "two")
    await refused(crew, speak("k3").edit("s2", "three"), "There is no message of yours")


async def test_what_the_platform_cannot_change_is_refused(crew: Crew, speak: Speak, tmp_path: Path) -> None:
    short, long = await speak("k1").send("one"), await speak("k2").send("a text of two parts, for this platform")
    question, papers = await speak("k3").ask("?", ["a", "b"]), await speak("k4").send("it", files=[file(tmp_path / "it")])
    await refused(crew, speak("k9").edit(short.id, "🤖" * 11), "Only texts of at most 20 utf16")
    await refused(crew, speak("k9").edit(long.id, "one"), "Only texts of at most 20 utf16")
    await refused(crew, speak("k9").edit(question.id, "one"), "without files and buttons")
    await refused(crew, speak("k9").edit(papers.id, "one"), "without files and buttons")
    await refused(crew, speak("k9").edit(short.id, "<internal>x</internal>"), "The new text is empty")
    crew.channels["fake"] = Plain()
    await refused(crew, speak("k9").edit(short.id, "two"), "Messages in family cannot be changed")
    del crew.channels["fake"]
    await refused(crew, speak("k9").edit(short.id, "two"), "the channel fake is not running")


async def test_what_did_not_arrive_is_not_changed(crew: Crew, speak: Speak) -> None:
    sent = await speak("k1").send("one")
    await crew.house.mailbox.undeliverable(1, "the bot was thrown out")
    await refused(crew, speak("k2").edit(sent.id, "two"), "s1 did not arrive: the bot was thrown out")


async def test_what_is_in_a_chat_that_is_the_agents_no_more_stays_as_it_is(crew: Crew, speak: Speak) -> None:
    elsewhere = Address(channel="fake", chat="chat-9")
    await crew.house.mailbox.add_outbound("call-k1", NewOutbound(to=elsewhere, text="one"))
    await refused(crew, speak("k2").edit("s1", "two"), "a chat that you cannot write to any more")


# --- reacting ---------------------------------------------------------------------------------------------------------------


async def test_a_reaction_is_put_under_what_was_heard(crew: Crew, speak: Speak) -> None:
    for _ in range(2):
        assert await speak("k1").react("1", "👍") == "family"
    (row,) = await due(crew)
    assert (row.kind, row.to, row.about, row.text) == (OutboundKind.REACTION, CHAT, "m1", "👍")


@pytest.mark.parametrize("kind", [InboundKind.EDIT, InboundKind.REACTION, InboundKind.ANSWER])
async def test_what_is_about_a_message_is_none(crew: Crew, speak: Speak, kind: InboundKind) -> None:
    row = NewRow(
        id="r9", address=CHAT, message_id="m9", sender_id="a", sender_name="A", text="x", sent_at=1.0, kind=kind, about="1"
    )
    await crew.house.mailbox.add_rows([row])
    await crew.house.mailbox.fail_rows(["r9"], [], "failed")
    await refused(crew, speak("k1").react("2", "👍"), "2 is no message, but something about one")


@pytest.mark.parametrize("message_id", ["s1", "m1", "2", "", "-1"])
async def test_what_was_not_heard_has_no_reaction(crew: Crew, speak: Speak, message_id: str) -> None:
    await speak("k1").send("mine")
    await refused(crew, speak("k2").react(message_id, "👍"), "You heard no message")


async def test_a_platform_without_reactions_is_named(crew: Crew, speak: Speak) -> None:
    crew.channels["fake"] = Plain()
    await refused(crew, speak("k1").react("1", "👍"), "There are no reactions in family")


async def test_a_reaction_counts_as_an_answer(crew: Crew, speak: Speak) -> None:
    await speak("k1").react("1", "👍")
    outstanding = await crew.house.mailbox.outstanding()
    await crew.answer(crew.doors.opened[0].worker_id, outstanding[0].push, text="<internal>done</internal>")
    assert await crew.outbound() == ["👍", "settled"]


# --- bounds -----------------------------------------------------------------------------------------------------------------


async def test_whoever_has_not_been_heard_yet_waits(crew: Crew, speak: Speak, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanoclaw_core.workers.speech.MAX_UNDELIVERED", 1)
    sent = await speak("k1").send("one")
    assert await speak("k1").send("one") == sent
    await refused(crew, speak("k2").send("two"), "have not been delivered yet")
    await refused(crew, speak("k3").react("1", "👍"), "have not been delivered yet")


async def test_a_worker_at_its_end_has_no_outbox(crew: Crew, speak: Speak) -> None:
    stranger = replace(crew.doors.opened[0], session_id="gone")
    with pytest.raises(ActionRefused, match="at its end"):
        await crew.pool.actions.outbox(stranger)


async def test_a_full_disk_takes_no_more_files_and_gives_out_those_it_has(crew: Crew, speak: Speak) -> None:
    crew.full_disk = DiskLow(Path("/home"), 1, 512)
    identity = crew.doors.opened[0]
    with pytest.raises(DiskLow):
        await crew.pool.actions.outbox(identity, more=True)
    assert (await crew.pool.actions.outbox(identity)).name == "outbox"


async def test_what_a_call_leaves_is_deleted_unless_it_is_sent(crew: Crew, speak: Speak) -> None:
    identity = crew.doors.opened[0]
    outbox = await crew.pool.actions.outbox(identity)
    await speak("k1").send("", files=[file(outbox / "sent")])
    file(outbox / "read")
    await crew.pool.actions.release(identity, ["sent", "read"])
    assert [path.name for path in outbox.iterdir()] == ["sent"]
