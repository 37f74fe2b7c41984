"""The drill: a host in the middle of its work is backed up, and another one begins with what was restored."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from nanoclaw_core.backup.making import Backup, Wanted
from nanoclaw_core.backup.restoring import restore
from nanoclaw_core.backup.workspaces import Workspaces
from nanoclaw_core.errors import TryLater
from nanoclaw_core.host import Host
from nanoclaw_core.journal import JournalEntry
from nanoclaw_core.store import workers
from nanoclaw_core.testing import FakeChannel, FakeClock, Reply, ScriptedModel
from tests.spine.spine import Containers, Spine, doing, until


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nc") as path:
        yield Path(path)


async def back_up(spine: Spine, file: Path) -> None:
    wanted = Wanted(workspaces=Workspaces(runtime=spine.runtime, image="image"))
    with file.open("wb") as out:
        await Backup(home=spine.home, clock=spine.clock, wanted=wanted).write(out)


async def restored(spine: Spine, file: Path, home: Path, runtime: Containers) -> Spine:
    """A world in which only the home is the same."""
    await to_thread.run_sync(partial(restore, file, home, FakeClock(), replace=False))
    return Spine(home=home, runtime=runtime, chat=FakeChannel(), variables=dict(spine.variables))


def hold_the_router(host: Host) -> anyio.Event:
    """Let nothing more be routed until the event."""
    go, unrouted = anyio.Event(), host.journal.unrouted

    async def held(limit: int = 100, without: Collection[int] = ()) -> list[JournalEntry]:
        await go.wait()
        return await unrouted(limit, without)

    host.journal.unrouted = held  # type: ignore[method-assign]
    return go


async def test_a_home_that_was_backed_up_in_the_middle_of_its_work_goes_on_elsewhere(
    spine: Spine, model: ScriptedModel, folder: Path
) -> None:
    file, going = folder / "backup", anyio.Event()
    async with Containers() as other_runtime, spine.host() as host:
        for chat in ("chat-2", "chat-3"):
            await spine.wire(host, chat=chat)
        await spine.chat.say("my name is Ada", message_id="m1")
        await spine.settled(1)
        spine.chat.fail_next(TryLater("the platform is away", after=3600))
        await spine.chat.say("undelivered", message_id="m2", chat="chat-2")
        await spine.chat.tried(2)
        model.script(Reply.text("the answer of the old host", after=going))
        await spine.chat.say("running", message_id="m3")
        await model.wait_for(3)
        go = hold_the_router(host)
        await spine.chat.say("unrouted", message_id="m4", chat="chat-3")
        told_before = [message.text for message in spine.chat.outbox]

        await back_up(spine, file)
        new = await restored(spine, file, folder / "home", other_runtime)

        async with new.host() as other:
            await new.settled(3)
            assert set(await new.texts(3)) == {
                "You said: undelivered",
                "You said: running",
                "You said: unrouted",
            }
            assert not await new.chat.say("running", message_id="m3")  # the platform repeats it, and it is known
            await until(lambda: set(doing(other)) == {"idle"})
            await new.chat.say("who am I?", message_id="m5")
            await new.settled(4)
            assert "my name is Ada" in str(model.calls[-1].json["messages"])
            assert len(new.chat.outbox) == 4

        # The old host and its worker went on unharmed.
        going.set()
        go.set()
        await spine.settled(3)
        await spine.clock.advance(3600)
        texts = await spine.texts(4)
        assert texts[: len(told_before)] == told_before == ["You said: my name is Ada"]
        assert sorted(texts[1:]) == ["You said: undelivered", "You said: unrouted", "the answer of the old host"]
        assert {record.id for record in await host.database.read(workers.live_workers)} == set(host.pool._crew)


async def test_both_homes_can_live_on_one_runtime(spine: Spine, model: ScriptedModel, folder: Path) -> None:
    """Neither adopts or clears away the other's workers."""
    model.script(Reply.text("the answer of the old host", after=(going := anyio.Event())))
    async with spine.host() as host:
        await spine.chat.say("running", message_id="m1")
        await model.wait_for(1)
        (container,) = await spine.runtime.living()
        await back_up(spine, folder / "backup")
        new = await restored(spine, folder / "backup", folder / "home", spine.runtime)
        async with new.host() as other:
            await new.settled()
            assert await new.texts(1) == ["You said: running"]
            await until(lambda: doing(other) == ["idle"])
        assert [each.id for each in await spine.runtime.living()] == [container.id]
        going.set()
        await spine.settled()
        assert await spine.texts(1) == ["the answer of the old host"]
        await until(lambda: doing(host) == ["idle"])
