"""What an agent wrote, taken apart: what nobody may see, what goes elsewhere, and the answer itself.

Tags inside Markdown code are somebody's words about tags and stay as they are, so that an agent can explain its own protocol.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import reduce

from nanoclaw_core.markdown import Tags

_INTERNAL = re.compile(r"<\s{0,4}(?P<end>/)?\s{0,4}internal\b[^<>]{0,200}>", re.IGNORECASE)
_MESSAGE = re.compile(
    r'<\s{0,4}message\s{1,4}to\s{0,4}=\s{0,4}"(?P<to>[^"<>]{1,200})"\s{0,4}>|(?P<end><\s{0,4}/\s{0,4}message\s{0,4}>)',
    re.IGNORECASE,
)


def _beginnings(word: str, rest: str) -> str:
    """A pattern for all that `word` begins with, and for all of it with `rest`."""
    return reduce(lambda pattern, letter: f"(?:{letter}{pattern})?", reversed(word), f"(?:{rest})?")


_UNFINISHED = "|".join((_beginnings("internal", r"\b[^<>]{0,200}"), _beginnings("message", "[^<>]{0,221}")))
_UNFINISHED_TAG = re.compile(rf"<\s{{0,4}}/?\s{{0,4}}(?:{_UNFINISHED})\Z", re.IGNORECASE)
_FENCE = re.compile(" {0,3}(?:```|~~~)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of an answer. `to` is the destination's name as the agent wrote it; None is the chat that is answered."""

    text: str
    to: str | None = None


def parse_answer(text: str, *, is_whole: bool = True) -> list[Part]:
    """The parts of a final answer in the order in which they were written, without what is internal, empty ones left out.

    While the answer `is_whole` not yet, nothing is in the parts that its end could still take out of them.

    >>> parse_answer('Done.<internal>phew</internal> <message to="family">Dinner at 7</message>')
    [Part(text='Done.', to=None), Part(text='Dinner at 7', to='family')]
    """
    visible = strip_internal(text) if is_whole else _certain(strip_internal(_certain(text)))
    tags = Tags(visible, _MESSAGE)
    parts: list[Part] = []
    done = position = 0  # everything before `done` is in parts
    opening: re.Match[str] | None = None
    while tag := tags.next(position):
        position = tag.end()
        if tag["to"] is not None and opening is None:
            opening = tag
        elif tag["end"] and opening is not None:
            parts.append(Part(text=visible[done : opening.start()].strip()))
            parts.append(Part(text=visible[opening.end() : tag.start()].strip(), to=opening["to"].strip()))
            done, opening = position, None
    # A <message> that never ends is no message: its tag stays readable rather than taking the rest elsewhere.
    end = opening.start() if opening is not None and not is_whole else len(visible)
    parts.append(Part(text=visible[done:end].strip()))
    return [part for part in parts if part.text]


def strip_internal(text: str) -> str:
    """`text` without `<internal>…</internal>`: nested, with attributes, in any case, and up to the end when never closed.

    >>> strip_internal("a<internal>b<INTERNAL x='1'>c</internal>d</internal>e `<internal>` f<internal>g")
    'ae `<internal>` f'
    """
    tags = Tags(text, _INTERNAL)
    kept: list[str] = []
    depth = position = 0
    while tag := tags.next(position, also_in_code=depth > 0):
        if depth == 0:
            kept.append(text[position : tag.start()])
        depth = max(0, depth - 1) if tag["end"] else depth + 1
        position = tag.end()
    return "".join(kept) if depth else "".join(kept) + text[position:]


def _certain(text: str) -> str:
    """`text` without an end that may yet become a tag, or change what is code: ticks, and a line that may open a fence.

    >>> [_certain(text) for text in ("2 < 3", "so <inter", "as `x``", "thus:\n```p")]
    ['2 < 3', 'so ', 'as `x', 'thus:\n']
    """
    last_line = text.rfind("\n") + 1
    ends = [len(text.rstrip("`"))]
    if _FENCE.match(text, last_line):
        ends.append(last_line)
    if (opening := text.rfind("<")) >= 0 and _UNFINISHED_TAG.match(text, opening):
        ends.append(opening)
    return text[: min(ends)]
