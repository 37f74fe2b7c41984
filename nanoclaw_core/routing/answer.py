"""What an agent wrote, taken apart: what nobody may see, what goes elsewhere, and the answer itself.

Tags inside Markdown code are somebody's words about tags and stay as they are, so that an agent can explain its own protocol.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CODE = (
    r"(?P<code>^(?P<fence>`{3,}|~{3,})[^\n]*\n.*?(?:^(?P=fence)[`~]*[ \t]*$|\Z)"  # a fence, closed or not
    r"|(?<!`)(?P<ticks>`+)(?!`)(?:(?!\n\n).)*?(?<!`)(?P=ticks)(?!`))"  # a span within one paragraph
)
_INTERNAL = r"<\s{0,4}(?P<end>/)?\s{0,4}internal\b[^<>]*>"
_MESSAGE = r'<\s{0,4}message\s+to\s*=\s*"(?P<to>[^"<>]+)"\s*>|(?P<end><\s{0,4}/\s{0,4}message\s*>)'
_FLAGS = re.DOTALL | re.IGNORECASE | re.MULTILINE
_CODE_OR_INTERNAL = re.compile(f"{_CODE}|{_INTERNAL}", _FLAGS)
_ONLY_INTERNAL = re.compile(_INTERNAL, _FLAGS)
_CODE_OR_MESSAGE = re.compile(f"{_CODE}|{_MESSAGE}", _FLAGS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A piece of an answer. `to` is the destination's name as the agent wrote it; None is the chat that is answered."""

    text: str
    to: str | None = None


def parse_answer(text: str) -> list[Part]:
    """The parts of a final answer in the order in which they were written, without what is internal, empty ones left out.

    >>> parse_answer('Done.<internal>phew</internal> <message to="family">Dinner at 7</message>')
    [Part(text='Done.', to=None), Part(text='Dinner at 7', to='family')]
    """
    visible = strip_internal(text)
    parts: list[Part] = []
    done = 0  # everything before is in parts
    opening: re.Match[str] | None = None
    for token in _CODE_OR_MESSAGE.finditer(visible):
        if token["to"] is not None and opening is None:
            opening = token
        elif token["end"] and opening is not None:
            parts.append(Part(text=visible[done : opening.start()].strip()))
            parts.append(Part(text=visible[opening.end() : token.start()].strip(), to=opening["to"].strip()))
            done, opening = token.end(), None
    # A <message> that never ends is no message: its tag stays readable rather than taking the rest elsewhere.
    parts.append(Part(text=visible[done:].strip()))
    return [part for part in parts if part.text]


def strip_internal(text: str) -> str:
    """`text` without `<internal>…</internal>`: nested, with attributes, in any case, and up to the end when never closed.

    >>> strip_internal("a<internal>b<INTERNAL x='1'>c</internal>d</internal>e `<internal>` f<internal>g")
    'ae `<internal>` f'
    """
    kept: list[str] = []
    depth = position = 0
    while token := (_ONLY_INTERNAL if depth else _CODE_OR_INTERNAL).search(text, position):
        if depth == 0:
            kept.append(text[position : token.end() if token.groupdict().get("code") else token.start()])
        if not token.groupdict().get("code"):
            depth = max(0, depth - 1) if token["end"] else depth + 1
        position = token.end()
    return "".join(kept) if depth else "".join(kept) + text[position:]
