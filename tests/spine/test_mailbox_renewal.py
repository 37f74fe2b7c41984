"""A session whose files are damaged or deleted begins anew: its chat is told once, nothing is said twice, no other notices."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from nanoclaw_core.host import Host
from nanoclaw_core.models import InboundMessage, Sender
from nanoclaw_core.testing import Reply, ScriptedModel
from tests.spine.spine import Spine, routed, until

Damage = Callable[[Path], object]


def garbage(*names: str) -> Damage:
    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).write_bytes(b"garbage " * 4096)

    return damage


def emptied(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes(b"")


def deleted(*names: str) -> Damage:
    def damage(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return damage


def replaced_by_a_folder(folder: Path) -> None:
    (folder / "outbound.db").unlink()
    (folder / "outbound.db").mkdir()


def half(name: str) -> Damage:
    def damage(folder: Path) -> None:
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))

    return damage


def log_of_another_file(folder: Path) -> None:
    (folder / "outbound.db").unlink()
    (folder / "outbound.db-wal").write_bytes(b"left over " * 1000)


DAMAGES = {
    "inbound is garbage": garbage("inbound.db"),
    "outbound is garbage": garbage("outbound.db"),
    "both are garbage": garbage("inbound.db", "outbound.db"),
    "inbound is empty": emptied("inbound.db"),
    "outbound is empty": emptied("outbound.db"),
    "inbound is gone": deleted("inbound.db"),
    "outbound is gone": deleted("outbound.db"),
    "both are gone": deleted("inbound.db", "outbound.db"),
    "inbound is half overwritten": half("inbound.db"),
    "outbound is half overwritten": half("outbound.db"),
    "a folder is in the place of outbound": replaced_by_a_folder,
    "outbound is gone and its log is not": log_of_another_file,
}


def folder_of(spine: Spine) -> Path:
    """The folder of the first session."""
    (folder,) = {path.parent for path in spine.home.glob("sessions/*/*/state")}
    return folder


def notices(spine: Spine) -> int:
    return sum("begun a new one" in message.text for message in spine.chat.outbox)


def answers(spine: Spine) -> list[str]:
    return [message.text for message in spine.chat.outbox if "begun a new one" not in message.text]


def has_said(spine: Spine, expected: set[str]) -> bool:
    return expected <= {*answers(spine)}


@asynccontextmanager
async def hosted(spine: Spine) -> AsyncIterator[Host]:
    async with spine.host() as host, spine.no_pauses(host):
        yield host


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
async def test_a_session_begins_anew_and_says_so_once_and_answers_nothing_twice(spine: Spine, damage: Damage) -> None:
    async with spine.host():
        for number in (1, 2):
            await spine.chat.say(f"message {number}")
            await spine.settled(number)
    folder = folder_of(spine)
    before = {path.name: path.read_bytes() for path in folder.glob("*.db")}
    await to_thread.run_sync(damage, folder)
    left = {path.name: path.read_bytes() for path in folder.glob("*.db*") if path.is_file()}
    for number in (3, 4):
        async with hosted(spine) as host:
            await spine.wire(host, chat=f"chat-{number}")
            await spine.chat.say(f"other {number}", chat=f"chat-{number}")
            await spine.chat.say(f"message {number}")
            expected = {f"You said: {kind} {number}" for kind in ("other", "message")}
            await until(partial(has_said, spine, expected))
            await spine.settled(2 * number - 2)
    assert notices(spine) == 1
    assert sorted(answers(spine)) == sorted(
        [*(f"You said: message {n}" for n in (1, 2, 3, 4)), "You said: other 3", "You said: other 4"]
    )
    (copy,) = folder.glob("broken-*")
    kept = {path.name: path.read_bytes() for path in copy.iterdir() if path.is_file()}
    damaged = [name for name in left if left[name] != before.get(name)]
    assert [kept[name][-1000:] for name in damaged] == [left[name][-1000:] for name in damaged]
    assert not (folder / "anew").exists()


@pytest.mark.parametrize("damage", ["inbound is garbage", "inbound is gone", "outbound is garbage", "outbound is gone"])
async def test_a_message_that_certainly_had_no_answer_is_answered_once(spine: Spine, damage: str) -> None:
    """The host died before any worker could answer it."""
    async with spine.host():
        await spine.chat.say("message 1")
        await spine.settled(1)
    spine.clock.jump(60)
    async with spine.built() as host:
        address = spine.chat.outbox[0].to
        late = Sender(handle="ada", name="Ada")
        await host.receive(InboundMessage(address=address, message_id="late", sender=late, text="message 2", sent_at=1.0))
        await host.router.route(await host.journal.unrouted())
    await to_thread.run_sync(DAMAGES[damage], folder_of(spine))
    async with hosted(spine):
        await until(lambda: "You said: message 2" in answers(spine))
        await spine.settled(2)
    assert answers(spine) == ["You said: message 1", "You said: message 2"]
    (notice,) = [message.text for message in spine.chat.outbox if "begun a new one" in message.text]
    assert "1 of yours without an answer I take up again" in notice


@pytest.mark.parametrize("name", ["inbound.db", "outbound.db"])
async def test_a_file_that_is_deleted_while_it_is_open_is_noticed_before_anything_is_lost(spine: Spine, name: str) -> None:
    async with hosted(spine):
        await spine.chat.say("message 1")
        await spine.settled(1)
        await to_thread.run_sync((folder_of(spine) / name).unlink)
        await spine.chat.say("message 2")
        while "You said: message 2" not in answers(spine):
            await spine.clock.advance(0.1)  # whoever noticed it first tries again after a pause
    assert notices(spine) == 1
    assert answers(spine) == ["You said: message 1", "You said: message 2"]


async def test_a_file_deleted_in_the_middle_of_a_turn_costs_neither_the_answer_nor_repeats_it(
    spine: Spine, nanoclaw_scripted_model: ScriptedModel
) -> None:
    model, go = nanoclaw_scripted_model, anyio.Event()
    spine.variables |= {"ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": model.url}
    model.script(Reply.text("the answer", after=go))
    async with hosted(spine):
        await spine.chat.say("hello")
        await model.wait_for(1)
        await to_thread.run_sync((folder_of(spine) / "outbound.db").unlink)
        go.set()
        await until(lambda: {"the answer", "You said: hello"} & {*answers(spine)})
        await spine.settled(1)
    assert len([text for text in answers(spine) if "is kept" not in text]) == 1
    assert notices(spine) == 1


async def test_the_conversation_goes_on_in_a_session_that_began_anew(spine: Spine) -> None:
    async with spine.host():
        await spine.chat.say("message 1")
        await spine.settled(1)
    first = spine.runtime.documents[0]["options"]["conversation"]
    await to_thread.run_sync(shutil.rmtree, folder_of(spine) / "inbox")
    await to_thread.run_sync(garbage("outbound.db"), folder_of(spine))
    async with hosted(spine) as host:
        await spine.chat.say("message 2")
        await routed(host)
        await spine.settled(2)
    assert spine.runtime.documents[-1]["options"]["conversation"] == first
