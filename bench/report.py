"""The same figures as a table in a terminal, as JSON, and as a part of `docs/performance.md`."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.figures import Figure, Figures, number, spread
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


def title() -> str:
    return f"nanoclaw-core {__version__}, Python {platform.python_version()}, {os.cpu_count()} cores"


def as_json(figures: Figures) -> str:
    rows = [{**asdict(figure), "median": figure.median, "ratio": figures.ratio(figure)} for figure in figures.found]
    return json.dumps({"machine": title(), "figures": rows}, indent=1)


def write_page(figures: Figures, page: Path) -> None:
    """Replace what stands between the two marks in `page`.

    Raises:
        ValueError: a mark is missing.
    """
    before, begun, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (begun and ended):
        raise ValueError(f"{page} has no lines {BEGIN!r} and {END!r}")
    page.write_text(f"{before}{BEGIN}\n\n{_markdown(figures)}\n{END}{after}", encoding="utf-8")


def _markdown(figures: Figures) -> str:
    lines = [f"{title()}.", "", _line(_COLUMNS), _line(["---"] * len(_COLUMNS))]
    lines += [_line(_cells(figures, figure)) for figure in figures.found]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(figures: Figures, figure: Figure) -> tuple[str, ...]:
    ratio = figures.ratio(figure)
    aim = "" if figure.aim is None else f"{'≥' if figure.is_rate else '≤'} {figure.aim:g}"
    return (
        figure.name,
        number(figure.median),
        figure.unit,
        spread(figure.samples),
        number(figure.percentile(0.99)) if len(figure.samples) >= 100 else "",
        "" if ratio is None else f"{ratio:.2f}",
        aim,
        {None: "", True: "met", False: "missed"}[figure.meets_aim],
    )
