"""Whatever a file is called, its name is a bare one that harms no disk and no eye."""

from __future__ import annotations

import doctest
import unicodedata

import pytest

from nanoclaw_core import filenames
from nanoclaw_core.filenames import MOST_BYTES, clean_name


def test_the_examples_run() -> None:
    assert doctest.testmod(filenames).failed == 0


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("report.pdf", "report.pdf"),
        ("日本語 👍🏽.txt", "日本語 👍🏽.txt"),
        ("/etc/passwd", "passwd"),
        ("a\\..\\b/../..", "file"),
        ("", "file"),
        ("...", "file"),
        (" .bashrc ", "bashrc"),
        ("a\r\nContent-Type: x", "aContent-Type_ x"),
        ("con", "_con"),
        ("COM1.txt", "_COM1.txt"),
        ("console.txt", "console.txt"),
        ("exe\u202egpj.scr", "exegpj.scr"),
        ("\ud83d.txt", "txt"),
        ("e\u0301.txt", "é.txt"),
        ("x" * 500 + ".tar.gz", "x" * (MOST_BYTES - 3) + ".gz"),
        ("x." + "y" * 500, "x." + "y" * (MOST_BYTES - 2)),
    ],
)
def test_a_name_is_cleaned(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned


def test_any_character_leaves_a_name_that_stays_as_it_is() -> None:
    for character in map(chr, range(0, 0x3000, 7)):
        name = clean_name(f"{character}a{character * 200}.{character}")
        assert clean_name(name) == name
        assert 0 < len(name.encode()) <= MOST_BYTES
        assert not {"/", "\\", "\0", "\n"} & set(name)
        assert not any(unicodedata.category(part).startswith("C") for part in name)
