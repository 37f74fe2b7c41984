"""How an agent's final text is taken apart."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoclaw_core.routing.answer import Part, parse_answer, strip_internal


def test_a_text_without_tags_answers_the_chat_it_came_from() -> None:
    assert parse_answer("  plain **answer**\n") == [Part(text="plain **answer**")]


def test_addressed_blocks_go_elsewhere_and_the_rest_stays_the_answer() -> None:
    parts = parse_answer('Sent it. <message to="work">Report done</message>\nAnything else?')
    assert parts == [Part(text="Sent it."), Part(text="Report done", to="work"), Part(text="Anything else?")]


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("a<internal>b</internal>c", "ac"),
        ("a<Internal reason='x'>b</INTERNAL>c", "ac"),
        ("a<internal>b<internal>c</internal>d</internal>e", "ae"),
        ("a<internal>never closed", "a"),
        ("a</internal>b", "ab"),
        ("a< internal >b</ internal>c", "ac"),
        ("write `<internal>` in code", "write `<internal>` in code"),
        ("```\n<internal>x</internal>\n```", "```\n<internal>x</internal>\n```"),
        ("<internal>an odd ` tick</internal> seen ` too", " seen ` too"),
        ("<internals>stay</internals>", "<internals>stay</internals>"),
    ],
)
def test_internal_text_is_removed_in_every_spelling_but_not_from_code(text: str, visible: str) -> None:
    assert strip_internal(text) == visible


def test_internal_text_is_removed_from_addressed_blocks_too() -> None:
    assert parse_answer('<message to="work">yes<internal>no</internal></message>') == [Part(text="yes", to="work")]


def test_a_message_tag_that_never_ends_keeps_its_text_in_the_answer() -> None:
    assert parse_answer('first <message to="work">second') == [Part(text='first <message to="work">second')]


def test_an_agent_can_explain_its_own_protocol_in_code() -> None:
    text = 'Write\n```xml\n<message to="work">hi</message>\n```\nor `<message to="x">y</message>`.'
    assert parse_answer(text) == [Part(text=text)]


@given(st.text(alphabet='a \n`<>/"é🤖', max_size=60))
def test_text_without_the_two_tags_is_never_changed(text: str) -> None:
    assert strip_internal(text) == text
    assert [part.text for part in parse_answer(text)] == ([text.strip()] if text.strip() else [])


@given(
    st.lists(st.sampled_from(["word", "`", "<internal>", "</internal>", '<message to="x">', "</message>", "\n\n"]), max_size=30)
)
def test_no_tag_soup_raises_or_invents_text(pieces: list[str]) -> None:
    assert sum(part.text.count("word") for part in parse_answer("".join(pieces))) <= pieces.count("word")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("It is", "It is"),
        ("2 < 3, a <b> and <interior", "2 < 3, a <b> and <interior"),
        ("so <", "so"),
        ("so < / int", "so"),
        ("so <INTERNAL reason='x", "so"),
        ("so <internal>a secret", "so"),
        ("so <internal>a secret</inter", "so"),
        ("so <internal>a secret</internal> it is", "so  it is"),
        ('so <message to="wo', "so"),
        ('so <message to="work">not for all', "so"),
        ("so <mess<internal>a secret</internal>", "so"),
        ("as `<internal>a secret`", "as"),
        ("as `<internal>no secret` is", "as `<internal>no secret` is"),
        ("as `` `<internal>no secret` ", "as `` `<internal>no secret`"),
        ("```<internal>a secret", ""),
        ("see\n```xml\n<internal>no secret", "see\n```xml\n<internal>no secret"),
        ("see\n~~~<internal>a secret", "see"),
    ],
)
def test_while_it_is_written_an_answer_shows_only_what_is_certain(written: str, shown: str) -> None:
    assert "".join(part.text for part in parse_answer(written, is_whole=False) if part.to is None) == shown


_SOUP = [
    "WORD",
    " ",
    "`",
    "``",
    "```",
    "~~~",
    "\n",
    "\n\n",
    "<",
    ">",
    "<internal>",
    "</internal>",
    '<message to="x">',
    "</message>",
]


@given(st.lists(st.sampled_from(_SOUP), max_size=30))
@settings(max_examples=300)
def test_nothing_is_shown_that_the_whole_answer_does_not_say_there(pieces: list[str]) -> None:
    text = "".join(f"w{number}." if piece == "WORD" else piece for number, piece in enumerate(pieces))
    said = words_for_the_chat(parse_answer(text))
    for end in range(len(text)):
        assert words_for_the_chat(parse_answer(text[:end], is_whole=False)) <= said


def words_for_the_chat(parts: list[Part]) -> set[str]:
    return {word for part in parts if part.to is None for word in re.findall(r"w\d+\.", part.text)}


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize(
    "hostile",
    [
        "`" * 300_000,
        "~" * 300_000,
        "`a" * 150_000,
        "```\n" * 100_000,
        "".join("`" * (number % 700 + 1) + "a" for number in range(2_000)),
        "<" * 300_000,
        "< internal" * 30_000,
        '<message to="' * 30_000,
        "<internal>" * 30_000,
        "<internal>`</internal>" * 15_000,
        "\n \t" * 100_000,
    ],
)
def test_no_text_keeps_the_parser_busy(hostile: str, is_whole: bool) -> None:
    """Linear work takes a fraction of a second here, quadratic work minutes: the limit tells them apart on any machine."""
    before = time.process_time()
    parse_answer(hostile, is_whole=is_whole)
    assert time.process_time() - before < 15
