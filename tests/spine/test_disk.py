"""A host whose disk fills up: no new turn is begun in time, and what was accepted is there when there is room again."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from nanoclaw_core.errors import HomeUnusable
from nanoclaw_core.models import Address, InboundMessage, Sender
from nanoclaw_core.testing import Reply, ScriptedModel
from tests.spine.spine import Containers, Spine, is_pausing, until

_MIB = 1024 * 1024


@pytest.fixture
def small_disk(nanoclaw_home: Path) -> Iterator[Path]:
    """A disk of 48 MiB."""
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m,mode=700", "tmpfs", str(nanoclaw_home)]
    mounted = subprocess.run(mount, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be mounted here: {mounted.stderr.strip()}")
    yield nanoclaw_home
    subprocess.run(["umount", "--lazy", str(nanoclaw_home)], check=True)


@pytest.fixture
async def cramped(small_disk: Path) -> AsyncIterator[Spine]:
    async with Containers() as runtime:
        yield Spine(home=small_disk, runtime=runtime)


def fill(home: Path, leaving: int) -> None:
    """Write until only so many bytes are left."""
    with (home / "ballast").open("wb") as ballast:
        ballast.truncate(0)
        os.posix_fallocate(ballast.fileno(), 0, max(1, shutil.disk_usage(home).free - leaving))


def message(message_id: str, text: str = "hello") -> InboundMessage:
    address = Address(channel="fake", chat="chat-1")
    return InboundMessage(
        address=address, message_id=message_id, sender=Sender(handle="ada", name="Ada"), text=text, sent_at=1.0
    )


async def make_room(home: Path) -> None:
    await anyio.Path(home / "ballast").unlink()


async def test_no_turn_begins_on_a_disk_that_is_nearly_full_and_the_message_is_answered_when_there_is_room(
    cramped: Spine,
) -> None:
    async with cramped.host(min_free_disk=24) as host, cramped.no_pauses(host):
        await to_thread.run_sync(fill, cramped.home, 10 * _MIB)
        await cramped.chat.say("hello")
        (notice,) = await cramped.texts(1)
        assert "is kept" in notice
        assert "has 10 MiB left" in notice or "has 9 MiB left" in notice
        assert "24 at least" in notice
        assert cramped.runtime.documents == []
        await make_room(cramped.home)
        await cramped.settled()
    assert [message.text for message in cramped.chat.outbox] == [notice, "You said: hello"]


async def test_a_worker_that_is_there_takes_no_new_turn_on_a_disk_that_is_nearly_full(cramped: Spine) -> None:
    async with cramped.host(min_free_disk=24) as host:
        await cramped.chat.say("one")
        await cramped.settled()
        await to_thread.run_sync(fill, cramped.home, 10 * _MIB)
        async with cramped.no_pauses(host):
            await cramped.chat.say("two")
            assert "is kept" in (await cramped.texts(2))[1]
            await make_room(cramped.home)
            await cramped.settled(2)
    assert cramped.chat.outbox[-1].text == "You said: two"


async def test_what_a_full_disk_refuses_is_refused_in_words_and_what_it_took_is_not_lost(cramped: Spine) -> None:
    """Channels confirm a message to their platform after it was stored: what was refused comes again."""
    async with cramped.built() as host:
        assert await host.receive(message("kept"))
        await to_thread.run_sync(fill, cramped.home, 0)
        taken = ["kept"]

        async def fill_the_rest() -> None:  # the files have some room of their own
            while await host.receive(message(f"message-{len(taken)}", "x" * 10_000)):
                taken.append(f"message-{len(taken)}")

        with pytest.raises(HomeUnusable, match=r"nanoclaw\.db cannot be read or written \(the disk is full\)"):
            await fill_the_rest()
        await make_room(cramped.home)
        assert [entry.message.message_id for entry in await host.journal.unrouted(10_000)] == taken
        assert await host.receive(message(f"message-{len(taken)}"))


async def test_a_disk_that_fills_up_in_mid_turn_loses_neither_the_message_nor_its_answer(
    cramped: Spine, nanoclaw_scripted_model: ScriptedModel
) -> None:
    model, go = nanoclaw_scripted_model, anyio.Event()
    cramped.variables |= {"ANTHROPIC_API_KEY": "sk-test", "ANTHROPIC_BASE_URL": model.url}
    model.script(Reply.text("the answer", after=go))
    async with cramped.host(min_free_disk=1) as host:
        await cramped.chat.say("hello")
        await model.wait_for(1)
        await to_thread.run_sync(fill, cramped.home, 0)
        go.set()
        await until(lambda: is_pausing(host))
        await make_room(cramped.home)
        async with cramped.no_pauses(host):
            await cramped.settled()
    *notices, answer = [message.text for message in cramped.chat.outbox]
    assert answer in ("the answer", "You said: hello")  # an answer that nobody could store is asked for again
    assert all("is kept" in notice for notice in notices)


async def test_a_host_does_not_start_on_a_full_disk_and_says_so(cramped: Spine) -> None:
    async with cramped.built():
        pass
    await to_thread.run_sync(fill, cramped.home, 0)
    with pytest.raises(HomeUnusable, match=r"the disk is full|No space left"):
        async with cramped.built():
            pass
