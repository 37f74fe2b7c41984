"""What is code in a Markdown text, found in linear time: texts come from agents, and nobody may make the host think for long.

After CommonMark 0.31 (https://spec.commonmark.org): fenced blocks, closed or not, and code spans within a paragraph.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from functools import cached_property

_FENCE = r"^ {0,3}(?:`{3,}+(?=[^`\n]*$)|~{3,}+)[^\n]*$"
_FENCE_LINE = re.compile(r" {0,3}(?P<ticks>`{3,}+(?=[^`\n]*$)|~{3,}+)(?P<info>[^\n]*)$")
_LANGUAGE = re.compile(r"[A-Za-z0-9+#.-]{0,16}")


def fence_after(opening: str, line: str) -> str:
    """The opening line of the fence in which the text after `line` stands, given the one before it; '' outside of any.

    An opening line is shortened to its ticks and its language.

    >>> [fence_after("", "```python title"), fence_after("```python", "~~~"), fence_after("```python", "````")]
    ['```python', '```python', '']
    """
    match = _FENCE_LINE.match(line)
    if match is None:
        return opening
    if not opening:
        language = _LANGUAGE.match(match["info"].strip())
        return match["ticks"][:9] + (language[0] if language else "")
    closes = match["ticks"].startswith(ticks_of(opening)) and not match["info"].strip()
    return "" if closes else opening


def ticks_of(opening: str) -> str:
    """The line that closes a fence.

    >>> ticks_of("~~~~py")
    '~~~~'
    """
    return opening[: len(opening) - len(opening.lstrip("`~"))]


class Tags:
    """Finds the tags that `tag` matches in a text, those in code left out."""

    def __init__(self, text: str, tag: re.Pattern[str]) -> None:
        self._text = text
        self._tag = tag
        self._sign = re.compile(f"(?P<fence>{_FENCE})|(?P<span>`++)|{tag.pattern}", tag.flags | re.MULTILINE)

    def next(self, position: int, *, also_in_code: bool = False) -> re.Match[str] | None:
        """The first tag at or after `position`, which is not in code itself."""
        if also_in_code:
            return self._tag.search(self._text, position)
        while sign := self._sign.search(self._text, position):
            if sign["fence"] is not None:
                position = self._end_of_fence(sign)
            elif sign["span"] is not None:
                position = self._end_of_span(sign)
            else:
                return sign
        return None

    def _end_of_fence(self, sign: re.Match[str]) -> int:
        opening = fence_after("", sign["fence"])
        for place in range(bisect_right(self._fence_lines, (sign.end(), "")), len(self._fence_lines)):
            start, line = self._fence_lines[place]
            if not fence_after(opening, line):
                return start + len(line)
        return len(self._text)

    def _end_of_span(self, sign: re.Match[str]) -> int:
        """Behind the next run of as many ticks in this paragraph; where there is none, these ticks are only ticks."""
        runs = self._runs[len(sign["span"])]
        place = bisect_right(runs, sign.start())
        if place == len(runs) or runs[place] > self._end_of_paragraph(sign.end()):
            return sign.end()
        return runs[place] + len(sign["span"])

    def _end_of_paragraph(self, position: int) -> int:
        place = bisect_left(self._blank_lines, position)
        return self._blank_lines[place] if place < len(self._blank_lines) else len(self._text)

    @cached_property
    def _fence_lines(self) -> list[tuple[int, str]]:
        return [(match.start(), match[0]) for match in re.finditer(_FENCE, self._text, re.MULTILINE)]

    @cached_property
    def _runs(self) -> dict[int, list[int]]:
        """Where runs of ticks begin, by their length."""
        runs: dict[int, list[int]] = {}
        for match in re.finditer("`++", self._text):
            runs.setdefault(match.end() - match.start(), []).append(match.start())
        return runs

    @cached_property
    def _blank_lines(self) -> list[int]:
        return [match.start() for match in re.finditer(r"\n[ \t]*+\n", self._text)]
