"""What a run found, as lines and a table in a terminal, and as a part of `docs/reliability.md`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.report import title, write_table
from tests.crash.checks import Kind
from tests.crash.run import RECORD, Point
from tests.crash.strikes import KINDS

BEGIN: Final = "<!-- points: written by `make crash` -->"
END: Final = "<!-- end of points -->"
_COLUMNS: Final = (
    *("what was killed", "points", "missed", "messages", "lost", "doubled", "stuck", "left over"),
    *("doubts", "Bash again", "recovery, median", "longest"),
)


def line_of(point: Point) -> str:
    """One point in one line, and each fault in another."""
    found, blow = point.findings, point.blow
    delay = "held" if blow.holds else f"+{blow.delay * 1000:.0f} ms"
    when = f"{blow.moment}{'' if point.came else ' (which did not come)'}, {delay}"
    again = [f"{number} {what}" for what, number in _allowed(point) if number]
    words = [f"{point.number:4} {blow.kind} at: {when}; {point.messages} messages, {point.recovery:.1f} s", *again]
    faults = [f"     {fault.kind.upper()}: {fault.detail}" for fault in found.faults]
    where = [f"     see {point.home / RECORD}"] if faults else []
    return "\n".join(["; ".join(words), *faults, *where])


def _allowed(point: Point) -> list[tuple[str, int]]:
    found = point.findings
    return [("in doubt", found.doubts), ("times Bash again", found.bash_again)]


def show(points: Sequence[Point], head: str) -> None:
    table = Table(title=head)
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column == _COLUMNS[0] else "right")
    for row in rows_of(points):
        table.add_row(*row)
    Console(width=150).print(table)


def heading(seed: int, points: int, took: float) -> str:
    return f"{points} points of seed {seed} in {took / 60:.1f} minutes.\n{title()}"


def rows_of(points: Sequence[Point]) -> list[tuple[str, ...]]:
    """A row for each kind that was struck, and one for all."""
    struck = {kind: [point for point in points if point.blow.kind == kind] for kind in KINDS}
    return [_row(kind, some) for kind, some in struck.items() if some] + [_row("all", points)]


def _row(name: str, points: Sequence[Point]) -> tuple[str, ...]:
    faults = [fault.kind for point in points for fault in point.findings.faults]
    recoveries = [point.recovery for point in points] or [0.0]
    numbers = (
        len(points),
        sum(not point.came for point in points),
        sum(point.messages for point in points),
        *(faults.count(kind) for kind in Kind),
        sum(point.findings.doubts for point in points),
        sum(point.findings.bash_again for point in points),
    )
    return (name, *map(str, numbers), f"{median(recoveries):.1f} s", f"{max(recoveries):.1f} s")


def write_page(points: Sequence[Point], head: str, page: Path) -> None:
    """Replace the table in `page`; see `write_table`."""
    write_table(page, (BEGIN, END), head, [_COLUMNS, *rows_of(points)])
