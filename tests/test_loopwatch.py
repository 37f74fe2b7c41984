"""Whoever holds up the event loop is found while it does so, and named."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType

import anyio
import anyio.lowlevel
import pytest
from anyio import to_thread
from structlog.testing import capture_logs

from nanoclaw_core.loopwatch import LoopWatch

LIMIT = 0.1  # seconds; on a busy machine other rounds take that long too
LONG = 10.0  # seconds after which a test that waits for the watch has failed


@contextmanager
def watched(*, plugins: dict[str, str] | None = None) -> Iterator[LoopWatch]:
    with LoopWatch(limit=LIMIT) as watch:
        watch.know(plugins or {})
        yield watch


def run(watch: LoopWatch, body: Callable[[], None]) -> None:
    """Call `body` on a loop that is watched, and let the loop go on for a round."""

    async def main() -> None:
        await anyio.lowlevel.checkpoint()
        body()
        await anyio.lowlevel.checkpoint()

    anyio.run(main, backend_options={"loop_factory": watch.new_loop})


def until_found(watch: LoopWatch) -> None:
    """Block, like a plugin that waits for its own thread, until the watch has noted it."""
    until(lambda: watch._noted == watch._round)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(LIMIT / 10)


def plugin(block: Callable[[], None]) -> Callable[[], None]:
    """A function of the module 'nanoclaw_slow.client' that calls `block`."""
    module = ModuleType("nanoclaw_slow.client")
    module.__dict__["block"] = block
    exec("def fetch():\n    block()", module.__dict__)  # noqa: S102
    function: Callable[[], None] = module.__dict__["fetch"]
    return function


def test_a_plugin_that_blocks_the_loop_is_named_with_the_place() -> None:
    with capture_logs() as logs, watched(plugins={"nanoclaw_slow": "slow"}) as watch:
        run(watch, plugin(lambda: until_found(watch)))
    (block,) = (block for block in watch.found if block.plugin)
    assert (block.plugin, block.where) == ("slow", "nanoclaw_slow.client.fetch, line 2")
    assert block.seconds >= LIMIT
    first, last = (entry for entry in logs if entry["plugin"])
    assert [(entry["event"], entry["plugin"]) for entry in (first, last)] == [
        ("loop.blocked", "slow"),
        ("loop.free_again", "slow"),
    ]
    assert last["seconds"] >= first["seconds"]


def test_who_blocks_without_a_plugin_is_told_by_its_place_alone() -> None:
    with capture_logs(), watched(plugins={"nanoclaw_slow": "slow"}) as watch:
        run(watch, lambda: until_found(watch))
    assert {block.plugin for block in watch.found} == {""}
    assert any(".until, line" in block.where for block in watch.found)


def test_a_block_that_lets_no_thread_look_is_measured_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one in C code that keeps all other threads out."""
    monkeypatch.setattr(LoopWatch, "_look", lambda watch, seen: None)
    with capture_logs() as logs, watched() as watch:
        run(watch, lambda: until(lambda: time.monotonic() - watch._since > LIMIT))
    assert {(block.plugin, block.where) for block in watch.found} == {("", "")}
    assert "loop.free_again" in [entry["event"] for entry in logs]


def test_a_loop_that_only_waits_is_not_blocked_and_nobody_looks_at_it() -> None:
    with watched() as watch:

        async def wait() -> None:
            await to_thread.run_sync(until, lambda: not watch._awake.is_set())

        anyio.run(wait, backend_options={"loop_factory": watch.new_loop})
    assert [block for block in watch.found if "wait" in block.where] == []


def test_the_end_does_not_wait_for_the_next_look() -> None:
    with LoopWatch(limit=3600) as watch:
        watch.know({})
        run(watch, lambda: None)
