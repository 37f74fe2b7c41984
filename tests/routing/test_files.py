"""Files of messages: fetched once, where somebody hears the message, and shown where the container can read them."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoclaw_core.errors import Refused, TryLater
from nanoclaw_core.journal import JournalEntry
from nanoclaw_core.mailbox import Mailbox
from nanoclaw_core.models import FileKind, InboundFile, KeptFile
from nanoclaw_core.routing.inbox import names_for
from nanoclaw_core.routing.rows import row_of
from nanoclaw_core.testing import FakeChannel
from tests.house import CHAT
from tests.routing.desk import ELSEWHERE, Desk, message, wire_elsewhere

CAT = InboundFile(name="cat.jpg", reference="cat", kind=FileKind.PHOTO)
NOTE = InboundFile(name="note.txt", reference="note")


class SlowChannel(FakeChannel):
    """Gives each file only when the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []
        self.go = anyio.Event()

    async def fetch(self, file: InboundFile) -> AsyncIterator[bytes]:  # type: ignore[override]  # any iterator will do
        self.asked.append(file.reference)
        await self.go.wait()
        async for chunk in super().fetch(file):
            yield chunk


@pytest.fixture
def channel(desk: Desk) -> FakeChannel:
    channel = FakeChannel()
    channel.files = {"cat": b"meow" * 1000, "note": b"hello"}
    desk.channels["fake"] = channel
    return channel


async def files(mailbox: Mailbox) -> list[KeptFile]:
    return [file for row in await mailbox.waiting() for file in row.files]


async def test_files_lie_in_the_inbox_when_the_message_is_heard(desk: Desk, channel: FakeChannel) -> None:
    await desk.route(message("look", files=(CAT, NOTE)))
    cat, note = await files(desk.house.mailbox)
    inbox = desk.house.mailbox.folder / "inbox"
    assert (inbox / cat.path).read_bytes() == b"meow" * 1000
    assert (inbox / note.path).read_bytes() == b"hello"
    assert stat.S_IMODE((inbox / cat.path).stat().st_mode) == 0o644
    assert (cat.name, cat.kind) == ("cat.jpg", FileKind.PHOTO)
    assert not list((desk.house.home / "arrivals").iterdir())


async def test_a_file_waits_for_nobody_who_does_not_hear_the_message(desk: Desk) -> None:
    channel = SlowChannel()
    desk.channels["fake"] = channel
    stranger = replace(CHAT, chat="nobody-wired-it")
    assert await desk.route(message("look", to=stranger, files=(CAT,))) == []
    await desk.house.database.write(lambda connection: connection.exec_driver_sql("UPDATE wirings SET pattern = 'andy'"))
    assert await desk.route(message("look", files=(CAT,))) == ["ignored"]
    assert channel.asked == []


async def test_a_slow_file_holds_up_what_follows_in_its_chat_and_no_other_chat(desk: Desk) -> None:
    channel = SlowChannel()
    channel.files = {"cat": b"meow"}
    desk.channels["fake"] = channel
    await desk.house.database.write(partial(wire_elsewhere, now=1.0))
    for each in (message("first", id="1", files=(CAT,)), message("second", id="2"), message("other", id="3", to=ELSEWHERE)):
        await desk.router.journal.accept(each)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            await tasks.start(lambda task_status: desk.router.run(task_status))
            while not desk.told:  # noqa: ASYNC110  # nobody announces it
                await anyio.sleep(0.001)
            assert await desk.house.mailbox.waiting() == []
            await desk.router.journal.accept(message("third", id="4"))
            channel.go.set()
            while len(desk.told) < 4:  # noqa: ASYNC110  # nobody announces it
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
    assert [row.text for row in await desk.house.mailbox.waiting()] == ["first", "second", "third"]
    assert channel.asked == ["cat"]


async def test_a_file_that_is_on_its_way_when_the_host_ends_is_fetched_by_the_next(desk: Desk, channel: FakeChannel) -> None:
    desk.channels["fake"] = slow = SlowChannel()
    await desk.router.journal.accept(message("look", files=(CAT,)))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            await tasks.start(lambda task_status: desk.router.run(task_status))
            while not slow.asked:  # noqa: ASYNC110  # nobody announces it
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
    desk.channels["fake"] = channel
    assert await desk.route() == ["heard"]
    assert [file.problem for file in await files(desk.house.mailbox)] == [""]


@pytest.mark.parametrize(
    ("content", "file", "reason"),
    [
        (Refused("the platform has deleted it"), CAT, "deleted"),
        (b"x" * (1024 * 1024 + 1), CAT, "1 MiB are taken at most"),
        (b"small", replace(CAT, size=50 * 1024 * 1024), "50.0 MiB"),
    ],
    ids=["refused", "too large", "said to be too large"],
)
async def test_a_file_that_cannot_be_had_does_not_cost_the_message(
    desk: Desk, channel: FakeChannel, content: bytes | Refused, file: InboundFile, reason: str
) -> None:
    channel.files["cat"] = content
    assert await desk.route(message("look", files=(file, NOTE))) == ["heard"]
    cat, note = await files(desk.house.mailbox)
    assert (cat.path, reason in cat.problem, note.problem) == ("", True, "")


async def test_a_file_that_must_wait_is_asked_for_again_until_patience_ends(desk: Desk, channel: FakeChannel) -> None:
    channel.files["cat"] = TryLater("slow down", after=300)
    await desk.router.journal.accept(message("look", files=(CAT,)))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            await tasks.start(lambda task_status: desk.router.run(task_status))
            for _ in range(2):
                await desk.house.clock.asleep()
                await desk.house.clock.advance(300)
            while not desk.told:  # noqa: ASYNC110  # nobody announces it
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
    assert [file.problem for file in await files(desk.house.mailbox)] == ["slow down"]


async def test_a_file_that_would_come_after_patience_ends_is_not_waited_for(desk: Desk, channel: FakeChannel) -> None:
    channel.files["cat"] = TryLater("come back tomorrow", after=86_400)
    assert await desk.route(message("look", files=(CAT,))) == ["heard"]
    assert [file.problem for file in await files(desk.house.mailbox)] == ["come back tomorrow"]


async def test_files_that_must_wait_hold_up_no_files_of_other_chats(desk: Desk, channel: FakeChannel) -> None:
    channel.files["later"] = TryLater("slow down", after=300)
    later = replace(CAT, reference="later")
    busy = [replace(ELSEWHERE, thread=str(number)) for number in range(8)]
    await desk.house.database.write(partial(wire_elsewhere, now=1.0))
    for number, address in enumerate(busy):
        await desk.router.journal.accept(message("wait", id=f"b{number}", to=address, files=(later,)))
    await desk.router.journal.accept(message("look", files=(CAT,)))
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            await tasks.start(lambda task_status: desk.router.run(task_status))
            while not desk.told:  # noqa: ASYNC110  # nobody announces it
                await anyio.sleep(0.001)
            tasks.cancel_scope.cancel()
    assert [file.problem for file in await files(desk.house.mailbox)] == [""]


async def test_a_channel_without_files_is_said_to_have_none(desk: Desk) -> None:
    assert await desk.route(message("look", files=(CAT,))) == ["heard"]
    assert [file.problem for file in await files(desk.house.mailbox)] == ["the channel fake cannot fetch files"]


async def test_a_message_that_is_heard_again_keeps_the_files_that_are_there(desk: Desk, channel: FakeChannel) -> None:
    look = message("look", files=(CAT, NOTE))
    await desk.route(look)
    kept = await files(desk.house.mailbox)
    (desk.house.mailbox.folder / "inbox" / kept[1].path).unlink()
    again = await row_of(desk.house.home, desk.house.session, JournalEntry(seq=1, message=look, received_at=1.0))
    assert again.files == (kept[0], replace(kept[1], path="", problem="it is lost"))


@given(names=st.lists(st.text(max_size=400), min_size=1, max_size=8))
def test_whatever_a_file_is_called_its_name_is_bare_short_and_given_once(names: list[str]) -> None:
    given_names = names_for([InboundFile(name=name, reference="r") for name in names])
    assert len({name.casefold() for name in given_names}) == len(names)
    for name in given_names:
        assert name == Path(name).name
        assert not name.startswith(".")
        assert 0 < len(name.encode()) <= 130
        assert name.isprintable()


@pytest.mark.parametrize(
    ("name", "kind", "kept"),
    [
        ("../../etc/passwd", FileKind.FILE, "passwd"),
        ("C:\\temp\\a.txt", FileKind.FILE, "a.txt"),
        ("..", FileKind.PHOTO, "photo.jpg"),
        ("", FileKind.VOICE, "voice.ogg"),
        ("a\nb\x00.txt", FileKind.FILE, "ab.txt"),
        ("x" * 300 + ".tar.gz", FileKind.FILE, "x" * 117 + ".gz"),
        ("résumé 2.pdf", FileKind.FILE, "résumé 2.pdf"),
    ],
)
def test_a_name_keeps_what_is_harmless_of_it(name: str, kind: FileKind, kept: str) -> None:
    assert names_for([InboundFile(name=name, reference="r", kind=kind)]) == [kept]


async def test_files_of_an_old_row_are_removed_with_it(desk: Desk, channel: FakeChannel) -> None:
    await desk.route(message("look", files=(CAT,)))
    (kept,) = await files(desk.house.mailbox)
    (row,) = await desk.house.mailbox.waiting()
    await desk.house.mailbox.fail_rows([row.id], [], "failed")
    await desk.house.clock.advance(100 * 86400)
    assert await desk.house.mailbox.prune(desk.house.clock.time() - 30 * 86400) > 0
    assert not (desk.house.mailbox.folder / "inbox" / kept.path).exists()
