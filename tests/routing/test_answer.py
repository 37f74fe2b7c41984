"""How an agent's final text is taken apart."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
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
def test_no_text_keeps_the_parser_busy(hostile: str) -> None:
    """Linear work takes a fraction of a second here, quadratic work minutes: the limit tells them apart on any machine."""
    before = time.process_time()
    parse_answer(hostile)
    assert time.process_time() - before < 15
