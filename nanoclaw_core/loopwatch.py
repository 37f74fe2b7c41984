"""Finds out what holds up the event loop, and which plugin it was, at no cost while the loop is idle.

A thread looks at the loop when one of its rounds has lasted for too long. The first round after a rest wakes it; it looks once
a second while there are rounds, and sleeps without a limit as soon as there are none: a host with nothing to do runs nothing.
"""

from __future__ import annotations

import asyncio
import selectors
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import FrameType, TracebackType
from typing import Final

import structlog

log = structlog.get_logger()

_KEPT: Final = 20  # of what was found


@dataclass(slots=True, kw_only=True)
class Block:
    """A round of the loop that lasted too long. `plugin` is '' where none was at work; `where` is 'module.function, line 7'."""

    plugin: str
    where: str
    seconds: float
    at: float  # seconds since the epoch


class LoopWatch(AbstractContextManager["LoopWatch"]):
    """Watches one event loop, which `new_loop` makes; the block is the life of its thread."""

    def __init__(self, *, limit: float = 1.0) -> None:
        self.found: deque[Block] = deque(maxlen=_KEPT)
        self._limit = limit
        self._plugins: Mapping[str, str] = {}
        self._thread = threading.Thread(target=self._watch, name="loop watch", daemon=True)
        self._thread_of_loop = 0
        self._awake = threading.Event()
        self._ended = threading.Event()
        self._is_on = False
        self._round = 1  # odd while the loop works, even while it waits
        self._since = 0.0
        self._noted = 0  # the round that was found last

    def __enter__(self) -> LoopWatch:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._ended.set()
        self._awake.set()
        self._thread.join()

    def new_loop(self) -> asyncio.AbstractEventLoop:
        """A loop like any other, whose selector tells this watch when it waits and when it works."""
        return asyncio.SelectorEventLoop(_Selector(self))

    def know(self, plugins: Mapping[str, str]) -> None:
        """Whom to blame: the top-level package of each plugin, and its name. The watch begins now, after the start."""
        self._plugins = plugins
        self._since = time.monotonic()
        self._is_on = True

    # --- the loop's side: twice in each round -----------------------------------------------------------------------------

    def rest(self) -> None:
        if self._is_on and time.monotonic() - self._since > self._limit:
            self._conclude()
        self._round += 1

    def work(self) -> None:
        self._since = time.monotonic()
        self._round += 1
        if not self._awake.is_set():
            self._thread_of_loop = threading.get_ident()
            self._awake.set()

    def _conclude(self) -> None:
        """A long round has come to its end: say how long it was. One that let no other thread run was not seen."""
        seconds = round(time.monotonic() - self._since, 1)
        if self._noted != self._round:
            self._note(self._round, None)
        block = self.found[-1]
        block.seconds = seconds
        log.warning("loop.free_again", plugin=block.plugin, where=block.where, seconds=seconds)

    # --- the thread's side ------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        while not self._ended.is_set():
            self._awake.wait()
            seen, pause = self._round, self._limit
            if seen % 2 and seen != self._noted:
                pause = max(0.01, self._since + self._limit - time.monotonic())
            if not self._ended.wait(pause):
                self._look(seen)

    def _look(self, seen: int) -> None:
        """After a pause: the same round still works, or the loop has rested all the time, or there is nothing to say."""
        if self._round != seen:
            return
        if seen % 2 == 0:
            self._awake.clear()
            if self._round != seen:  # it began just now, and has not seen that nobody looks
                self._awake.set()
        elif self._is_on and seen != self._noted and time.monotonic() - self._since > self._limit:
            frame = sys._current_frames().get(self._thread_of_loop)  # noqa: SLF001  # public in all but its name
            if self._round == seen:
                self._note(seen, frame)

    def _note(self, seen: int, frame: FrameType | None) -> None:
        plugin, where = self._blame(frame)
        seconds = round(time.monotonic() - self._since, 1)
        self.found.append(Block(plugin=plugin, where=where, seconds=seconds, at=time.time() - seconds))
        log.warning("loop.blocked", plugin=plugin, where=where, seconds=seconds)
        self._noted = seen  # last: the other side goes by it

    def _blame(self, frame: FrameType | None) -> tuple[str, str]:
        """The innermost frame that is a plugin's; else the innermost that is no one's but Python's."""
        innermost = ""
        while frame is not None:
            module = str(frame.f_globals.get("__name__", ""))
            top = module.partition(".")[0]
            where = f"{module}.{frame.f_code.co_name}, line {frame.f_lineno}"
            if plugin := self._plugins.get(top):
                return plugin, where
            if not innermost and top not in sys.stdlib_module_names:
                innermost = where
            frame = frame.f_back
        return "", innermost


class _Selector(selectors.DefaultSelector):
    """The selector that the loop would have anyway, between two calls of the watch."""

    def __init__(self, watch: LoopWatch) -> None:
        super().__init__()
        self._watch = watch

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._watch.rest()
        ready = super().select(timeout)
        self._watch.work()
        return ready
