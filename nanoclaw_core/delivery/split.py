"""Long answers in parts that a platform takes, cut where a reader would, with nothing left out."""

from __future__ import annotations

import unicodedata

from nanoclaw_core.markdown import fence_after, ticks_of
from nanoclaw_core.models import LengthUnit

_JOINERS = frozenset("\u200d\ufe0e\ufe0f")


def length(text: str, unit: LengthUnit) -> int:
    """How long a platform finds `text`.

    >>> [length("a🤖", unit) for unit in (LengthUnit.CHARACTERS, LengthUnit.UTF16, LengthUnit.BYTES)]
    [2, 3, 5]
    """
    return unit.of(text)


def split(text: str, limit: int, unit: LengthUnit = LengthUnit.CHARACTERS) -> list[str]:
    """`text` in parts of at most `limit`, cut between paragraphs, else lines, else words, else anywhere.

    A code fence that a cut falls into is closed at the end of the part and opened again in the next. `limit` is at least 64.
    """
    parts: list[str] = []
    fence = ""  # the line that opens the fence we are in
    start = 0
    while start < len(text):
        head = f"{fence}\n" if fence else ""
        if length(head, unit) + length(text[start : start + limit + 1], unit) <= limit:
            parts.append(head + text[start:])
            break
        end = _cut(text, start, limit - length(head, unit) - 12, unit)  # room for the closing of a fence
        piece = head + text[start:end]
        fence = _open_fence(piece)
        parts.append(f"{piece}\n{ticks_of(fence)}" if fence else piece.rstrip())
        # A line break at the cut is made by the border between two messages; in code, the next line keeps its indentation.
        start = end + (text[end : end + 1] == "\n") if fence else end + _blank(text, end)
    return [part for part in parts if part.strip()]


def beginning(text: str, limit: int, unit: LengthUnit = LengthUnit.CHARACTERS) -> str:
    """As much of a text that is not finished as goes into one part of at most `limit`; a code fence in it is closed.

    >>> beginning("Look:\\n```py\\nprint(", 80)
    'Look:\\n```py\\nprint(\\n```'
    """
    first = next(iter(split(text, limit - 12, unit)), "")  # room for the closing of a fence
    fence = _open_fence(first)
    return f"{first}\n{ticks_of(fence)}" if fence else first


def _cut(text: str, start: int, room: int, unit: LengthUnit) -> int:
    """The best place to end a part that begins at `start`: after at least one character, within `room`."""
    end = start + max(room, 1)
    while length(text[start:end], unit) > room and end > start + 1:
        end = start + max(1, (end - start) * room // length(text[start:end], unit))
    for mark in ("\n\n", "\n", " "):
        found = text.rfind(mark, start + (end - start) // 2, end + 1)
        if found > start:
            return found
    return _between_characters(text, start, end)


def _between_characters(text: str, start: int, end: int) -> int:
    """The last place up to `end` that does not tear a combined sign apart."""
    for place in range(end, max(start, end - 16), -1):
        after, before = text[place : place + 1], text[place - 1]
        if not after or not (unicodedata.combining(after) or after in _JOINERS or before == "\u200d"):
            return place
    return end


def _blank(text: str, start: int) -> int:
    """How many blank characters stand at `start`."""
    return len(text) - start - len(text[start:].lstrip()) if text[start : start + 1].isspace() else 0


def _open_fence(text: str) -> str:
    """The opening line of the fence that is open at the end of `text`, or ''."""
    opening = ""
    for line in text.split("\n"):
        opening = fence_after(opening, line)
    return opening
