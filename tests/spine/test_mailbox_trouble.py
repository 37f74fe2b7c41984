"""A session whose files are broken, and what else can go wrong on the host's disk: visible in the chat, felt by nobody else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from nanoclaw_core.mailbox import Mailbox, MailboxUnusable
from nanoclaw_core.store import agents
from nanoclaw_core.testing import ScriptedModel
from tests.spine.spine import Spine, routed, until


async def broken(spine: Spine, name: str) -> Path:
    """Let a first host answer in chat-1, then break a file of that session."""
    async with spine.host():
        await spine.chat.say("before")
        await spine.settled()
    (path,) = spine.home.glob(f"sessions/*/*/{name}")
    for file in path.parent.glob(f"{name}*"):
        file.write_bytes(b"garbage " * 4096)
    spine.chat.outbox.clear()
    return path


async def test_whoever_waits_for_an_answer_that_cannot_come_is_told_that_nothing_more_will(spine: Spine) -> None:
    async with spine.host():
        await spine.chat.say("before")
        await spine.settled()
    (path,) = spine.home.glob("sessions/*/*/inbound.db")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version=99")
    async with spine.host():
        await spine.chat.say("hello", message_id="m2")
        assert (await spine.settled(2))[1] == (("m2",), "failed")
        assert any("send it again" in text for text in await spine.texts(3))


async def test_of_two_sessions_that_hear_a_message_a_broken_one_does_not_deafen_the_other(spine: Spine) -> None:
    path = await broken(spine, "inbound.db")
    with closing(sqlite3.connect(path.with_name("outbound.db"))) as connection:
        connection.execute("PRAGMA user_version=99")
    async with spine.host() as host:
        bob = await host.database.write(lambda conn: agents.create_agent_group(conn, name="Bob", folder="bob", now=1.0))
        await spine.wire(host, chat="chat-1", agent=bob)
        await spine.chat.say("hello")
        await until(lambda: any(message.text == "You said: hello" for message in spine.chat.outbox))


async def test_a_mailbox_that_breaks_while_a_message_waits_is_told_once_and_mended_later(
    spine: Spine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full: nothing can be pushed. Once there is room, the message is answered without being sent again."""
    with monkeypatch.context() as full_disk:

        async def fail(self: Mailbox, *arguments: object, **options: object) -> None:
            raise MailboxUnusable(Path("outbound.db"), "database or disk is full")

        full_disk.setattr(Mailbox, "record_push", fail)
        full_disk.setattr(Mailbox, "add_outbound", fail)
        async with spine.host() as host, spine.no_pauses(host):
            await spine.chat.say("hello")
            (notice,) = await spine.texts(1)
            assert "is kept" in notice
            assert "disk is full" in notice
            await spine.runtime.started(3)
            full_disk.undo()
            await spine.settled()
    assert [message.text for message in spine.chat.outbox] == [notice, "You said: hello"]


async def test_an_end_of_a_turn_that_cannot_be_stored_is_not_lost(
    spine: Spine, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stays in the worker's spool; the next worker hands it in, and the model is not asked again."""
    with monkeypatch.context() as full_disk:

        async def fail(self: Mailbox, *arguments: object) -> None:
            full_disk.undo()
            raise MailboxUnusable(Path("outbound.db"), "database or disk is full")

        full_disk.setattr(Mailbox, "end_turn", fail)
        async with spine.host() as host, spine.no_pauses(host):
            await spine.chat.say("hello")
            await spine.settled()
            assert await spine.texts(1) == ["You said: hello"]
    assert len(model.calls) == 1


async def test_a_folder_that_cannot_be_given_to_the_worker_is_told_and_later_used(spine: Spine) -> None:
    (spine.home / "groups").mkdir()
    (spine.home / "groups" / "main").symlink_to("/etc")
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("hello")
        (notice,) = await spine.texts(1)
        assert "is kept" in notice
        assert str(spine.home / "groups" / "main") in notice
        (spine.home / "groups" / "main").unlink()
        assert (await spine.texts(2))[1] == "You said: hello"
        await spine.settled()


async def test_a_bug_in_a_shift_is_told_once_and_the_message_answered_when_it_is_gone(
    spine: Spine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def bug(*arguments: object) -> None:
            raise ZeroDivisionError

        patch.setattr("nanoclaw_core.routing.dialogue.format_prompt", bug)
        async with spine.host() as host:
            await spine.chat.say("hello")
            assert "is kept" in (await spine.texts(1))[0]
            patch.undo()
            await routed(host)
            await spine.clock.asleep(2)  # retention is one
            await spine.clock.advance(1)
            assert (await spine.texts(2))[1] == "You said: hello"


async def test_a_message_that_cannot_be_kept_as_a_file_is_refused_in_the_chat(spine: Spine) -> None:
    async with spine.host():
        await spine.chat.say("first")
        await spine.settled()
        (inbox,) = spine.home.glob("sessions/*/*/inbox")
        await anyio.Path(inbox).rmdir()
        await anyio.Path(inbox).write_text("in the way")
        await spine.chat.say("x" * 50_000)
        assert "could not take your message" in (await spine.texts(2))[1]
