"""Markdown as agents write it, in the form that Telegram shows: a text, and where in it what is bold, code or a link."""

from __future__ import annotations

import html
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Final
from urllib.parse import urlsplit

import pyromark
from telegram import MessageEntity
from telegramify_markdown import convert
from telegramify_markdown.config import RenderConfig

#: Telegram's limits, in UTF-16 units.
TEXT: Final = 4096
CAPTION: Final = 1024

_SCHEMES: Final = frozenset({"http", "https", "mailto", "tel", "tg"})
_MOST_ENTITIES: Final = 100  # Telegram drops the rest without a word
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
    text, found = convert(_with_signs_as_text(markdown), latex_escape=False, config=_look())
    entities = [MessageEntity(e.type, e.offset, e.length, url=e.url, language=e.language) for e in found if e.length > 0]
    for link in [entity for entity in entities if entity.url is not None and not _is_harmless(entity.url)]:
        text, entities = _with_target_as_text(text, entities, link)
    shown = "".join([text, *(f"{entity.url or ''}{entity.language or ''}" for entity in entities)])
    is_whole = _letters(_TASK.sub("", html.unescape(markdown))) <= _letters(shown)
    if not text.strip() or not is_whole or units(text) > limit or len(entities) > _MOST_ENTITIES:
        return Words(text=markdown)
    return Words(text=text, entities=tuple(entities))


def _with_signs_as_text(markdown: str) -> str:
    """`markdown` with the signs escaped that would be left out: those of HTML, and of prices that look like mathematics."""
    if "<" not in markdown and "$" not in markdown:
        return markdown
    source = markdown.encode("utf-8", "replace")
    signs: set[int] = set()
    for payload, place in pyromark.events_with_range(markdown, options=pyromark.Options.ENABLE_MATH):
        kinds = payload.keys() if isinstance(payload, dict) else set()
        start, end = place["start"], place["end"]
        if kinds & {"InlineHtml", "Html"}:
            signs |= {position for position in range(start, end) if source[position : position + 1] == b"<"}
        elif "InlineMath" in kinds and source[start + 1 : start + 2].isdigit():
            signs |= {start, end - 1}
    bounds = [0, *sorted(signs), len(source)]
    return b"\\".join(source[a:b] for a, b in pairwise(bounds)).decode()


def _with_target_as_text(text: str, entities: list[MessageEntity], link: MessageEntity) -> tuple[str, list[MessageEntity]]:
    """A link that nobody can or should follow, with where it leads to behind it, and no link any more."""
    place = next(entity for entity in entities if entity.url == link.url)  # where earlier insertions have moved it
    end = place.offset + place.length
    coded, inserted = text.encode("utf-16-le"), f" ({link.url})"
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
