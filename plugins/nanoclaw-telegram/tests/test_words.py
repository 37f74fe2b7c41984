"""Markdown as Telegram shows it: nothing lost, nothing clickable that should not be."""

from __future__ import annotations

import html

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoclaw_telegram.words import CAPTION, TEXT, Words, render, units


def marks(words: Words) -> set[tuple[str, str]]:
    """What is marked as what."""
    coded = words.text.encode("utf-16-le")
    return {
        (entity.type, coded[entity.offset * 2 : (entity.offset + entity.length) * 2].decode("utf-16-le"))
        for entity in words.entities
    }


def test_what_is_bold_code_or_a_link_is_shown_so() -> None:
    words = render("🤖 **bold**, *it*, `code`, ~~no~~, [a link](https://a.example)\n\n```python\nprint()\n```\n> said")
    assert marks(words) >= {("bold", "bold"), ("italic", "it"), ("code", "code"), ("strikethrough", "no")}
    assert marks(words) >= {("text_link", "a link"), ("pre", "print()"), ("blockquote", "said")}


def test_headings_and_lists_have_no_pictograms() -> None:
    assert render("# Title\n\n- one\n- two\n\n1. first").text.strip() == "Title\n\n• one\n• two\n\n1. first"


@pytest.mark.parametrize(
    "target", ["javascript:alert(1)", "JavaScript:x", "data:text/html,x", "src/queue.py", "//host", "file:///x"]
)
def test_a_link_that_nobody_should_follow_is_text(target: str) -> None:
    words = render(f"see **[here]({target})** and [there](https://t.example)")
    assert words.text == f"see here ({target}) and there"
    assert {mark for mark in marks(words) if mark[0] == "text_link"} == {("text_link", "there")}
    assert [entity.url for entity in words.entities if entity.url] == ["https://t.example"]


@pytest.mark.parametrize(
    "text",
    [
        "use <div> or <b>bold</b>",
        "<div>\nblock\n</div>",
        "a < b and c<d>e",
        "<!-- a comment -->",
        "it costs $5 or 10$",
        "2 * 3 * 4 and snake_case_name",
        "an unclosed **bold",
        "[^1]: a footnote",
        "~/.config/nanoclaw and ~100",
    ],
)
def test_signs_that_are_only_signs_stay(text: str) -> None:
    assert render(text).text.strip() == text


def test_half_of_an_answer_can_be_shown() -> None:
    assert marks(render("Here:\n```python\nprint(")) == {("pre", "print(")}


def test_what_would_be_longer_than_the_limit_is_sent_as_it_is() -> None:
    markdown = "x\n\n---\n\n" * 500  # a rule is three signs, and eight when it is shown
    assert units(markdown) <= TEXT
    assert render(markdown) == Words(text=markdown)


def test_more_entities_than_telegram_shows_are_none() -> None:
    markdown = "**x** " * 101
    assert render(markdown) == Words(text=markdown)


def test_a_text_that_would_vanish_is_sent_as_it_is() -> None:
    assert render("[](https://a.example)").text == "[](https://a.example)"


@given(st.text(st.sampled_from("ab 🤖*_`~[]()<>#-|$\\\n.!1:/&;\"'é"), max_size=80))
def test_no_letter_is_lost_and_no_limit_exceeded(markdown: str) -> None:
    words = render(markdown, CAPTION)
    shown = words.text + "".join(f"{entity.url or ''}{entity.language or ''}" for entity in words.entities)
    for letter in "abé🤖":
        assert shown.count(letter) >= html.unescape(markdown).count(letter)
    length = units(words.text)
    assert length <= CAPTION
    assert all(0 <= entity.offset < entity.offset + entity.length <= length for entity in words.entities)
