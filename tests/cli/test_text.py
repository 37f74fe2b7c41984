"""What somebody else wrote cannot steer a person's terminal."""

from __future__ import annotations

import doctest

import pytest

from nanoclaw_core.cli import text


@pytest.mark.parametrize(
    "attack",
    [
        "\x1b]0;title\x07",
        "\x1b[2J",
        "\x9b31m",
        "\x1b]52;c;cm0gLXJm\x07",
        "a\rb",
        "a\x08b",
        "\x7f",
        "\x85",
        "\x1b]8;;http://x\x1b\\y",
    ],
)
def test_no_control_character_is_left(attack: str) -> None:
    assert [sign for sign in text.plain(attack) if ord(sign) < 0x20 or 0x7F <= ord(sign) < 0xA0] == []


def test_lines_tabs_and_all_scripts_are_kept() -> None:
    words = "one\n\ttwo é שלום 👩‍👩‍👧 ¡\u00a0"
    assert text.plain(words) == words


def test_the_examples_are_true() -> None:
    assert doctest.testmod(text).failed == 0


def test_what_stands_on_screen_is_in_the_order_in_which_it_was_written() -> None:
    assert text.plain("rm \u202egpj.x\u202c \u2067safe\u2069 שלום") == "rm gpj.x safe שלום"
