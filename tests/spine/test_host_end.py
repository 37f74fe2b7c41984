"""A host that ends in any phase ends soon, leaves nothing behind but workers at work, and the next one answers, once."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from nanoclaw_core.errors import DatabaseBroken, HomeUnusable, HostRunning
from nanoclaw_core.host import Host
from nanoclaw_core.models import BuildContext, ContainerSpec, OutboundMessage, Receipt
from nanoclaw_core.testing import FakeChannel, Reply, ScriptedModel
from tests.spine.spine import Containers, Spine, doing, open_files, until

Phase = Callable[[Spine, Host, ScriptedModel], Awaitable[None]]


class Held(Containers):
    """A runtime of which one step takes for ever, as far as the test is concerned."""

    def __init__(self) -> None:
        super().__init__()
        self.hold = ""
        self.reached = anyio.Event()

    async def build_image(self, context: BuildContext, report: Callable[[str], None]) -> None:
        await self._stay("build")
        await super().build_image(context, report)

    async def start(self, spec: ContainerSpec, first_line: bytes) -> str:
        container_id = await super().start(spec, first_line)
        if self.hold == "start":
            self.reached.set()
            await anyio.sleep(0.05)  # the runtime has begun it, and its answer is on the way
        return container_id

    async def _stay(self, step: str) -> None:
        if self.hold == step:
            self.reached.set()
            await anyio.sleep_forever()


@pytest.fixture
async def spine(nanoclaw_home: Path) -> AsyncIterator[Spine]:
    async with Held() as runtime:
        yield Spine(home=nanoclaw_home, runtime=runtime)


async def at_once(spine: Spine, host: Host, model: ScriptedModel) -> None:
    """The message is accepted, and that is all."""


async def while_the_image_is_built(spine: Spine, host: Host, model: ScriptedModel) -> None:
    await held(spine).reached.wait()


async def while_a_worker_starts(spine: Spine, host: Host, model: ScriptedModel) -> None:
    await held(spine).reached.wait()


async def before_the_worker_reports(spine: Spine, host: Host, model: ScriptedModel) -> None:
    await spine.runtime.started(1)


async def in_mid_turn(spine: Spine, host: Host, model: ScriptedModel) -> None:
    await model.wait_for(1)


async def while_it_delivers(spine: Spine, host: Host, model: ScriptedModel) -> None:
    await spine.chat.tried(1)


async def when_idle(spine: Spine, host: Host, model: ScriptedModel) -> None:
    await spine.settled()
    await until(lambda: doing(host) == ["idle"])


def held(spine: Spine) -> Held:
    assert isinstance(spine.runtime, Held)
    return spine.runtime


@pytest.mark.parametrize(
    ("phase", "hold"),
    [
        (at_once, ""),
        (while_the_image_is_built, "build"),
        (while_a_worker_starts, "start"),
        (before_the_worker_reports, ""),
        (in_mid_turn, ""),
        (while_it_delivers, ""),
        (when_idle, ""),
    ],
    ids=lambda value: value.__name__ if callable(value) else value,
)
async def test_a_host_that_is_stopped(spine: Spine, model: ScriptedModel, phase: Phase, hold: str) -> None:
    if phase is in_mid_turn:
        model.script(Reply.text("never", after=anyio.Event()))
    held(spine).hold = hold
    async with nothing_left_behind(spine):
        async with spine.host() as host:
            await spine.chat.say("hello")
            await phase(spine, host, model)
            began = anyio.current_time()
        assert anyio.current_time() - began < 2
        assert bool(await spine.runtime.living()) is (phase in {in_mid_turn, while_a_worker_starts})
        held(spine).hold = ""
        async with spine.host() as host:
            await spine.settled()
            await until(lambda: set(doing(host)) <= {"idle"})
    assert [message.text for message in spine.chat.outbox] == ["You said: hello"]


@asynccontextmanager
async def nothing_left_behind(spine: Spine) -> AsyncIterator[None]:
    """Tasks, threads, open files and processes are the same after the block as before it."""
    async with spine.built():
        pass  # what is made once for all hosts is there now
    tasks, threads, files = asyncio.all_tasks(), lasting_threads(), open_files()
    yield
    assert not await spine.runtime.containers({})
    assert not list((spine.home / "workers").iterdir())
    await until(lambda: asyncio.all_tasks() <= tasks)
    await until(lambda: lasting_threads() <= threads)
    await until(lambda: not (open_files() - files))


def lasting_threads() -> Counter[str]:
    """All threads but those that anyio keeps for the next call."""
    return Counter(thread.name for thread in threading.enumerate() if "AnyIO" not in thread.name)


async def test_a_host_that_was_never_run_leaves_nothing(spine: Spine) -> None:
    async with nothing_left_behind(spine), spine.built():
        pass


async def test_a_send_that_is_on_its_way_when_the_host_ends_is_not_repeated_but_mentioned(spine: Spine) -> None:
    class Slow(FakeChannel):
        async def send(self, message: OutboundMessage) -> Receipt:
            receipt = await super().send(message)
            if len(self.outbox) == 1:
                under_way.set()
                await anyio.sleep_forever()
            return receipt

    under_way = anyio.Event()
    spine.chat = Slow()
    async with spine.host():
        await spine.chat.say("hello")
        await under_way.wait()
    async with spine.host():
        answer, notice = await spine.texts(2)
    assert answer == "You said: hello"
    assert "may not have arrived" in notice


async def test_a_second_host_on_the_same_home_is_told_the_first_ones_pid(spine: Spine) -> None:
    async with spine.host():
        with pytest.raises(HostRunning, match=rf"pid {os.getpid()}\)") as refused:
            async with spine.built():
                pass
        assert refused.value.pid == os.getpid()
        await spine.chat.say("hello")
        assert await spine.texts(1) == ["You said: hello"]


async def test_a_home_that_cannot_be_made_is_named_with_the_reason(spine: Spine) -> None:
    blocked = spine.home / "file" / "home"
    blocked.parent.write_text("in the way")
    with pytest.raises(HomeUnusable, match="Not a directory"):
        async with spine.built(home=blocked):
            pass


async def test_a_database_that_is_none_is_named_with_what_to_do_and_left_alone(spine: Spine) -> None:
    (spine.home / "nanoclaw.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(DatabaseBroken, match=r"not a database.*nanoclaw backup restore FILE --replace"):
        async with spine.built():
            pass
    assert (spine.home / "nanoclaw.db").read_bytes() == b"garbage" * 1000
    assert not [path for path in spine.home.glob("nanoclaw.db?*") if path.stat().st_size]
