"""Tables for people, as wide as the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print `rows` below their `title` (none: no title, no column heads); an empty table says 'none'."""
    console = Console(highlight=False)
    if title:
        console.print(Text(f"\n{title}", style="bold"), end="" if not rows else "\n")
    if not rows:
        console.print(": none")
        return
    table = Table(box=None, show_header=bool(title), header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for number, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=number < len(columns) - 1)
    for row in rows:
        table.add_row(*map(Text, row))
    console.print(table)
