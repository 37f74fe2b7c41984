"""`nanoclaw image build`: the worker image, with the step that it is at."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from types import TracebackType
from typing import Self

import anyio
import click
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from nanoclaw_core import installed
from nanoclaw_core.cli import logs
from nanoclaw_core.cli.text import duration, one_line, plain
from nanoclaw_core.errors import NanoClawError
from nanoclaw_core.settings import Settings

_KEPT = 20  # lines shown when the build fails
_STEP = re.compile(r"(step|stage|phase) \d+", re.IGNORECASE)


class Progress:
    """Shows a build that reports line by line: the current step and the time on a terminal, else a line for each step."""

    def __init__(self, console: Console, *, verbose: bool) -> None:
        self._console = console
        self._verbose = verbose
        self._began = time.monotonic()
        self._step = "Looking for the worker image"
        self._last: deque[str] = deque(maxlen=_KEPT)
        self._spinner = Spinner("dots")
        self._live = Live(get_renderable=self._render, console=console, transient=True, refresh_per_second=8)

    def __enter__(self) -> Self:
        if self._console.is_terminal and not self._verbose:
            self._live.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        self._live.stop()
        if isinstance(error, NanoClawError) and not self._verbose:
            for line in self._last:
                self._console.print(Text(line))

    def report(self, line: str) -> None:
        """One line of the build's output."""
        line = plain(line).rstrip()
        if not line.strip():
            return
        self._last.append(line)
        is_step = bool(_STEP.match(line)) or not _STEP.match(self._step)
        if is_step:
            self._step = one_line(line)
        if self._verbose or (is_step and not self._console.is_terminal):
            self._console.print(Text(line))

    def _render(self) -> Text | Spinner:
        elapsed = f" ({duration(time.monotonic() - self._began)})"
        self._spinner.update(text=Text(one_line(self._step, max(20, self._console.width - 20)) + elapsed))
        return self._spinner


def build(settings: Settings, verbose: bool) -> None:
    """Build the image unless it is there.

    Raises:
        ImageBuildFailed: after the last lines of its output. RuntimeUnavailable: nothing was tried.
    """
    logs.silence()
    began = time.monotonic()
    tag, is_new = anyio.run(_build, settings, verbose)
    did = f"was built in {duration(time.monotonic() - began)}" if is_new else "is up to date"
    click.echo(f"The image {tag} {did}.")


async def _build(settings: Settings, verbose: bool) -> tuple[str, bool]:
    from nanoclaw_core.host import BUILTINS
    from nanoclaw_core.plugins import load
    from nanoclaw_core.sandbox.image import WorkerImage

    runtime = load(installed.enabled(settings.home), BUILTINS).choose("runtime", settings.runtime).create()
    image = WorkerImage.of(settings, runtime)
    is_new = not await runtime.has_image(await image.tag())
    with Progress(Console(file=sys.stderr, highlight=False), verbose=verbose) as progress:
        return await image.ensure(progress.report), is_new
