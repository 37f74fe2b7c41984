"""What `nanoclaw image build` shows of a build."""

from __future__ import annotations

from contextlib import suppress
from io import StringIO

import pytest
from rich.console import Console

from nanoclaw_core.cli.image import Progress
from nanoclaw_core.errors import ImageBuildFailed

OUTPUT = [
    "Step 1/2 : FROM base",
    " ---> Running in 12ab",
    *(f"line {number}" for number in range(30)),
    "Step 2/2 : RUN \x1b[2Jmake",
]


def shown(*, verbose: bool = False, error: BaseException | None = None) -> list[str]:
    paper = StringIO()
    with suppress(ImageBuildFailed, KeyboardInterrupt), Progress(Console(file=paper, width=80), verbose=verbose) as progress:
        for line in OUTPUT:
            progress.report(line)
        if error is not None:
            raise error
    return paper.getvalue().splitlines()


def test_without_a_terminal_each_step_is_a_line() -> None:
    assert shown() == ["Step 1/2 : FROM base", "Step 2/2 : RUN [2Jmake"]


def test_verbose_shows_everything() -> None:
    assert len(shown(verbose=True)) == len(OUTPUT)


def test_a_failed_build_shows_its_last_twenty_lines() -> None:
    lines = shown(error=ImageBuildFailed("nanoclaw-worker:1", "make failed"))
    assert lines[2:] == [*(f"line {number}" for number in range(11, 30)), "Step 2/2 : RUN [2Jmake"]


@pytest.mark.parametrize("error", [KeyboardInterrupt()])
def test_ctrl_c_shows_nothing_more(error: BaseException) -> None:
    assert shown(error=error) == shown()
