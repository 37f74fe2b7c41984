"""Tables for people, as wide as the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_STYLES = {"ok": "green", "pass": "green", "warn": "yellow", "fail": "bold red", "not claimed": "dim"}


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


def show_notes(notes: Sequence[str]) -> None:
    """Print sentences, a paragraph each, as wide as the terminal."""
    for note in notes:
        Console(highlight=False).print(Text(note))


def show_findings(found: Sequence[Sequence[str]], done: Sequence[Sequence[str]], summary: str) -> None:
    """Print rows of (status, name, reason, fix), each fix below its reason; first, if anything, what was done."""
    console = Console(highlight=False)
    if done:
        console.print(Text("Mended", style="bold"), _findings(done), "", sep="\n")
    console.print(_findings(found), "", Text(summary), sep="\n")


def _findings(rows: Sequence[Sequence[str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for no_wrap in (True, True, False):
        table.add_column(overflow="fold", no_wrap=no_wrap)
    for status, name, reason, fix in rows:
        words = Text(reason)
        if fix:
            words.append(f"\n→ {fix}", style="dim")
        table.add_row(Text(status, style=_STYLES[status]), name, words)
    return table
