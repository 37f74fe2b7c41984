"""Which messages an agent answers."""

from __future__ import annotations

import pytest

from nanoclaw_core.errors import InvalidPattern
from nanoclaw_core.models import Address, EngageMode, InboundMessage, Sender, Wiring
from nanoclaw_core.routing.engage import engages


def wiring(mode: EngageMode, pattern: str) -> Wiring:
    return Wiring(id="w", messaging_group_id="m", agent_group_id="a", engage_mode=mode, pattern=pattern)


def message(text: str, *, is_mention: bool = False) -> InboundMessage:
    return InboundMessage(
        address=Address(channel="fake", chat="1"),
        message_id="1",
        sender=Sender(handle="ada", name="Ada"),
        text=text,
        sent_at=0.0,
        is_mention=is_mention,
    )


@pytest.mark.parametrize(
    ("word", "text", "expected"),
    [
        ("@Andy", "@Andy what's up", True),
        ("@Andy", "hey @andy!", True),
        ("@Andy", "@Andyx", False),
        ("@Andy", "@Andyé", False),
        ("@Andy", "write to joe@Andy.example", False),
        ("@Andy", "Andy, are you there?", False),
        ("@José", "@José hola", True),
        ("@José", "@Jose\u0301 hola", True),  # typed with a combining accent
        ("@José", "@Josép", False),
        ("@🤖", "hi @🤖", True),
        ("@🤖", "@🤖hello", True),
        ("@小安", "@小安！你好", True),
        ("@小安", "@小安全", False),
        ("@A.dy", "@Andy", False),
    ],
)
def test_a_trigger_word_is_found_as_a_whole_word_of_any_script(word: str, text: str, expected: bool) -> None:
    assert engages(wiring(EngageMode.MENTION, word), message(text)) is expected


def test_a_mention_that_the_platform_reports_needs_no_trigger_word() -> None:
    assert engages(wiring(EngageMode.MENTION, "@Andy"), message("what about this?", is_mention=True))


def test_the_pattern_dot_hears_everything_even_an_empty_text() -> None:
    assert engages(wiring(EngageMode.PATTERN, "."), message(""))


def test_another_pattern_is_searched_in_the_text() -> None:
    assert engages(wiring(EngageMode.PATTERN, r"^help\b"), message("help me"))
    assert not engages(wiring(EngageMode.PATTERN, r"^help\b"), message("no help"))


def test_an_invalid_pattern_is_an_error_and_never_engages() -> None:
    with pytest.raises(InvalidPattern, match="no regular expression"):
        engages(wiring(EngageMode.PATTERN, "("), message("("))
