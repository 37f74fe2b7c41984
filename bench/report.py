"""The same figures as a table in a terminal, as JSON, and as a part of `docs/performance.md`."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.figures import Figure, Figures, number, spread
from bench.machine import description
from nanoclaw_core import __version__

BEGIN: Final = "<!-- figures: written by `make bench` -->"
END: Final = "<!-- end of figures -->"
_COLUMNS: Final = ("figure", "median", "unit", "range", "p99", "× floor", "aim", "")


def show(figures: Figures) -> None:
    table = Table(title=title())
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("figure", "unit", "") else "right")
    for figure in figures.found:
        table.add_row(*_cells(figures, figure))
    Console(width=130).print(table)


@cache
def title() -> str:
    """What was measured, when, and on what kind of machine."""
    return f"nanoclaw-core {__version__}, {time.strftime('%Y-%m-%d')}: {description()}"


def as_json(figures: Figures) -> str:
    rows = [{**asdict(figure), "median": figure.median, "ratio": figures.ratio(figure)} for figure in figures.found]
    return json.dumps({"machine": title(), "figures": rows}, indent=1)


def write_page(figures: Figures, page: Path) -> None:
    """Replace the figures in `page`; see `write_table`."""
    write_table(page, (BEGIN, END), title(), [_COLUMNS, *(_cells(figures, figure) for figure in figures.found)])


def write_table(page: Path, marks: tuple[str, str], head: str, rows: Sequence[Sequence[str]]) -> None:
    """Replace what stands between the two marks in `page` by a head and a table, whose first row names the columns.

    Raises:
        ValueError: a mark is missing.
    """
    begin, end = marks
    before, begun, rest = page.read_text(encoding="utf-8").partition(begin)
    _, ended, after = rest.partition(end)
    if not (begun and ended):
        raise ValueError(f"{page} has no lines {begin!r} and {end!r}")
    columns, *others = rows
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in [columns, ["---"] * len(columns), *others])
    page.write_text(f"{before}{begin}\n\n{head}.\n\n{table}\n\n{end}{after}", encoding="utf-8")


def _cells(figures: Figures, figure: Figure) -> tuple[str, ...]:
    ratio = figures.ratio(figure)
    return (
        figure.name,
        number(figure.median),
        figure.unit,
        spread(figure.samples),
        number(figure.percentile(0.99)) if len(figure.samples) >= 100 else "",
        "" if ratio is None else f"{ratio:.2f}",
        _aim(figure),
        {None: "", True: "met", False: "missed"}[figures.meets_aim(figure)],
    )


def _aim(figure: Figure) -> str:
    if figure.most_ratio is not None:
        return f"≤ {figure.most_ratio:g} × floor"
    return "" if figure.aim is None else f"{'≥' if figure.is_rate else '≤'} {figure.aim:g}"
