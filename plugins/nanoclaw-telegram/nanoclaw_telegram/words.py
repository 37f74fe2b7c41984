"""Markdown as agents write it, in the form that Telegram shows: a text, and where in it what is bold, code or a link."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, Final
from urllib.parse import urlsplit

import pyromark
from telegram import MessageEntity
from telegramify_markdown import convert
from telegramify_markdown.config import RenderConfig
from telegramify_markdown.converter import STANDARD_OPTIONS

#: Telegram's limits, in UTF-16 units.
TEXT: Final = 4096
CAPTION: Final = 1024

_SCHEMES: Final = frozenset({"http", "https", "mailto", "tel", "tg"})
_MOST_ENTITIES: Final = 100  # Telegram drops the rest without a word
_BLOCKS: Final = frozenset({"CodeBlock", "BlockQuote", "Table", "Heading"})
_TASK: Final = re.compile(r"\[[xX]\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """A text, and its entities; without entities it is shown as it is."""

    text: str
    entities: tuple[MessageEntity, ...] = ()


def units(text: str) -> int:
    """The length of a text as Telegram counts it.

    >>> units("a🤖")
    3
    """
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def render(markdown: str, limit: int = TEXT) -> Words:
    """`markdown` for Telegram; as it is, where rendering would lose anything of it or make it longer than `limit`.

    >>> render("**Hello**, *world*").text
    'Hello, world'
    >>> render("Use <div>, not <span>; see [the code](src/page.py).").text
    'Use <div>, not <span>; see the code (src/page.py).'
    """
    source, titles = _prepared(markdown)
    text, found = convert(source, latex_escape=False, config=_look())
    entities = [MessageEntity(e.type, e.offset, e.length, url=e.url, language=e.language) for e in found if e.length > 0]
    for link in [entity for entity in entities if entity.url is not None and not _is_harmless(entity.url)]:
        text, entities = _with_target_as_text(text, entities, link)
    shown = "".join([text, titles, *(f"{entity.url or ''}{entity.language or ''}" for entity in entities)])
    is_whole = _letters(_TASK.sub("", html.unescape(markdown))) <= _letters(shown)
    if not text.strip() or not is_whole or units(text) > limit or len(entities) > _MOST_ENTITIES:
        return Words(text=markdown)
    return Words(text=text, entities=tuple(entities))


def _prepared(markdown: str) -> tuple[str, str]:
    """`markdown` as the renderer needs it to leave nothing out, and the titles of links, which nobody misses.

    It drops HTML and the signs of prices that look like mathematics: they are escaped. Within a list, it begins code, tables,
    headings and quotes on the line before: they get empty lines around them.
    """
    source = markdown.encode("utf-8", "replace")
    additions: list[tuple[int, bytes]] = []
    titles: list[str] = []
    depth = 0  # of lists
    events: Iterable[tuple[Any, Any]] = pyromark.events_with_range(markdown, options=STANDARD_OPTIONS)  # Any: its JSON
    for payload, place in events:
        start, end = place["start"], place["end"]
        for event, content in payload.items() if isinstance(payload, dict) else ():
            tag = next(iter(content)) if isinstance(content, dict) else content
            if event in ("InlineHtml", "Html"):
                additions += [(start + match.start(), b"\\") for match in re.finditer(b"<", source[start:end])]
            elif event == "InlineMath" and source[start + 1 : start + 2].isdigit():
                additions += [(start, b"\\"), (end - 1, b"\\")]
            elif tag == "Item":
                depth += 1 if event == "Start" else -1
            elif event == "Start" and tag in _BLOCKS and depth:
                additions += _empty_lines_around(source, start, end)
            elif event == "Start" and tag in ("Link", "Image"):
                titles.append(content[tag]["title"])
    bounds = [0, *sorted(position for position, _ in additions), len(source)]
    signs = [sign for _, sign in sorted(additions)] + [b""]
    pieces = [source[a:b] + sign for (a, b), sign in zip(pairwise(bounds), signs, strict=True)]
    return b"".join(pieces).decode(), "".join(titles)


def _empty_lines_around(source: bytes, start: int, end: int) -> list[tuple[int, bytes]]:
    """The line breaks to be added to a block; none where more than spaces stand before it, as in a quote."""
    line = source.rfind(b"\n", 0, start) + 1
    if source[line:start].strip():
        return []
    after = source.find(b"\n", end - 1) + 1
    return [(line, b"\n"), *([(after, b"\n")] if after else [])]


def _with_target_as_text(text: str, entities: list[MessageEntity], link: MessageEntity) -> tuple[str, list[MessageEntity]]:
    """A link that nobody can or should follow, with where it leads to behind it, and no link any more."""
    place = next(entity for entity in entities if entity.url == link.url)  # where earlier insertions have moved it
    end = place.offset + place.length
    coded = text.encode("utf-16-le")
    label = coded[place.offset * 2 : end * 2].decode("utf-16-le")
    inserted = "" if label == link.url else f" ({link.url})"
    added = units(inserted)
    moved = [
        MessageEntity(
            other.type,
            other.offset + (added if other.offset >= end else 0),
            other.length + (added if other.offset < end < other.offset + other.length else 0),
            url=other.url,
            language=other.language,
        )
        for other in entities
        if other is not place
    ]
    return (coded[: end * 2] + inserted.encode("utf-16-le") + coded[end * 2 :]).decode("utf-16-le"), moved


def _is_harmless(url: str) -> bool:
    try:
        return urlsplit(url.strip()).scheme.lower() in _SCHEMES
    except ValueError:
        return False


def _letters(text: str) -> Counter[str]:
    return Counter(filter(str.isalpha, text))


@cache
def _look() -> RenderConfig:
    """Headings are bold without pictograms, lists have round bullets."""
    look = RenderConfig.isolated()
    symbols = look.markdown_symbol
    symbols.heading_level_1 = symbols.heading_level_2 = symbols.heading_level_3 = symbols.heading_level_4 = ""
    symbols.image, symbols.unordered_list_item, symbols.task_uncompleted = "", "•", "☐"
    return look
