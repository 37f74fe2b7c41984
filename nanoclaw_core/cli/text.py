"""Text that somebody else wrote, made safe for the terminal of a person."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from nanoclaw_core.markdown import fence_after

#: Escape sequences begin with one of these: an agent could retitle the window, fake a prompt or write to the clipboard.
_CONTROLS: Final = dict.fromkeys(code for code in [*range(0x20), *range(0x7F, 0xA0)] if chr(code) not in "\n\t")
_SPAN: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m(?:in)?)?(?:(\d+)s?)?")
#: Marks that turn the order of what stands on screen around, so that a command reads as another one.
_OVERRIDES: Final = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A)])


def plain(text: str) -> str:
    """`text` without control characters, except line feeds and tabs, and without marks that override its direction.

    >>> plain("one\\x1b[31m\\r\\ntwo\\x9b2J")
    'one[31m\\ntwo2J'
    """
    return text.translate(_CONTROLS | _OVERRIDES)


def one_line(text: str, limit: int = 2000) -> str:
    """`text` in one line, without control characters, cut after `limit` characters.

    >>> one_line("cannot\\n  do it", limit=9)
    'cannot d…'
    """
    line = " ".join(plain(text).split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def short_path(path: Path) -> str:
    """`path` with ~ for the user's own folder.

    >>> short_path(Path.home() / "notes.txt")
    '~/notes.txt'
    """
    return f"~/{path.relative_to(Path.home())}" if path.is_relative_to(Path.home()) else str(path)


def with_line_breaks(markdown: str) -> str:
    """`markdown` in which every line stays a line, as in chats: Markdown itself would flow them together.

    >>> with_line_breaks("one\\ntwo\\n\\n```\\nthree\\nfour\\n```")
    'one  \\ntwo\\n\\n```\\nthree\\nfour\\n```'
    """
    lines = markdown.split("\n")
    opening = ""
    for number, line in enumerate(lines[:-1]):
        before, opening = opening, fence_after(opening, line)
        if not before and not opening and line.strip() and lines[number + 1].strip() and not fence_after("", lines[number + 1]):
            lines[number] = line.rstrip() + "  "
    return "\n".join(lines)


def seconds_in(text: str) -> float:
    """A span of time as people type it, in seconds.

    >>> seconds_in("90"), seconds_in("10m"), seconds_in("1h30m"), seconds_in("2 d")
    (90.0, 600.0, 5400.0, 172800.0)

    Raises:
        ValueError: it is none.
    """
    found = _SPAN.fullmatch(text.replace(" ", "").lower())
    if not text.strip() or found is None:
        raise ValueError(text)
    return sum(float(amount or 0) * size for amount, size in zip(found.groups(), (86400, 3600, 60, 1), strict=True))


def duration(seconds: float) -> str:
    """A span of time as people say it.

    >>> duration(8), duration(75), duration(7300), duration(200_000)
    ('8 s', '1 min 15 s', '2 h 1 min', '2 d 7 h')
    """
    whole = max(0, round(seconds))
    for unit, size, lower, lower_size in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // lower_size} {lower}"
    return f"{whole} s"
