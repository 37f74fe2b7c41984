"""How long answers become several messages."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoclaw_core.delivery.split import beginning, length, split
from nanoclaw_core.models import LengthUnit

PIECES = ["a", "bb ", "🤖", " ", "\n", "\n\n", "e\u0301", "👨\u200d👩", "word word word "]
FENCES = ["\n```py\n", "\n```\n", "\n~~~\n"]


def test_a_short_text_is_one_part() -> None:
    assert split("hello", 100) == ["hello"]


def test_a_cut_falls_between_paragraphs_if_it_can() -> None:
    assert split("a" * 50 + "\n\n" + "b" * 40, 80) == ["a" * 50, "b" * 40]


def test_else_between_lines_else_between_words_else_anywhere() -> None:
    assert split("a" * 50 + "\n" + "b" * 40, 80) == ["a" * 50, "b" * 40]
    assert split("a" * 50 + " " + "b" * 40, 80) == ["a" * 50, "b" * 40]
    assert "".join(split("x" * 1000, 80)) == "x" * 1000


def test_a_fence_that_is_cut_is_closed_and_opened_again_with_its_language() -> None:
    code = "\n".join(f"    line {number}" for number in range(30))
    parts = split(f"Look:\n\n```python\n{code}\n```\n\nDone.", 150)
    assert len(parts) > 2
    assert all(part.count("```") % 2 == 0 for part in parts)
    assert all(part.startswith("```python\n    line") for part in parts[1:])
    assert re.findall(r"    line \d+", "\n".join(parts)) == code.split("\n")


def test_a_combined_sign_is_not_torn_apart() -> None:
    assert all(not part.startswith(("\u0301", "\u200d")) for part in split("e\u0301" * 200, 65))


@given(st.lists(st.sampled_from(PIECES), max_size=200), st.sampled_from(LengthUnit))
@settings(max_examples=200)
def test_no_part_is_too_long_and_nothing_but_blanks_is_lost(pieces: list[str], unit: LengthUnit) -> None:
    text = "".join(pieces)
    parts = split(text, 64, unit)
    assert all(length(part, unit) <= 64 for part in parts)
    assert re.sub(r"\s", "", "".join(parts)) == re.sub(r"\s", "", text)


@given(st.lists(st.sampled_from(PIECES + FENCES), max_size=200), st.sampled_from(LengthUnit))
@settings(max_examples=200)
def test_fences_keep_to_the_limit_and_lose_nothing(pieces: list[str], unit: LengthUnit) -> None:
    text = "".join(pieces)
    parts = split(text, 64, unit)
    assert all(length(part, unit) <= 64 for part in parts)
    fences = r"[\s`~]|py"
    assert re.sub(fences, "", "".join(parts)) == re.sub(fences, "", text)


@pytest.mark.parametrize("text", ["word " * 100_000, "w" * 500_000, "```\n" + "code line\n" * 50_000])
def test_a_very_long_text_is_split_too(text: str) -> None:
    assert sum(map(len, split(text, 4000, LengthUnit.UTF16))) >= len(text) * 0.9


@given(st.lists(st.sampled_from(PIECES + FENCES), max_size=100), st.sampled_from(LengthUnit))
@settings(max_examples=200)
def test_the_beginning_of_a_text_fits_and_leaves_no_fence_open(pieces: list[str], unit: LengthUnit) -> None:
    text = "".join(pieces)
    first = beginning(text, 76, unit)
    assert length(first, unit) <= 76
    assert beginning(first, 200, unit) == first
    assert re.sub(r"[\s`~]|py", "", text).startswith(re.sub(r"[\s`~]|py", "", first))
