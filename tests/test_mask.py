"""What a mask hides, and what it leaves alone."""

from __future__ import annotations

import json
import tracemalloc
from urllib.parse import quote

import pytest

from nanoclaw_core.mask import Mask

SECRET = 'pa"ss\\wörd&1'


@pytest.mark.parametrize(
    "spelt",
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps({"message": json.dumps({"key": SECRET})}),
        repr(SECRET),
        f"https://example.org/?key={quote(SECRET, safe='')}",
    ],
    ids=["plain", "json", "json in json", "python", "url"],
)
def test_a_known_secret_is_hidden_however_it_is_spelt(spelt: str) -> None:
    hidden = Mask([SECRET])(spelt)
    assert "***" in hidden
    assert "rd&1" not in hidden
    assert "rd%261" not in hidden


@pytest.mark.parametrize(
    "said",
    [
        "Authorization: Bearer abc.def",
        "{'authorization': 'Basic abc.def'}",
        json.dumps({"headers": json.dumps({"X-Api-Key": "abc.def"})}),
        "sent api-key=abc.def",
        "Cookie: abc.def",
        "http://user:abc.def@proxy:3128/",
    ],
)
def test_what_stands_in_a_place_for_credentials_is_hidden(said: str) -> None:
    hidden = Mask()(said)
    assert "abc.def" not in hidden
    assert "***" in hidden


def test_json_stays_json() -> None:
    line = json.dumps({"event": f"refused {SECRET}", "headers": json.dumps({"x-api-key": "abc.def", "accept": "text"})})
    assert json.loads(Mask([SECRET])(line))["event"] == "refused ***"


def test_a_secret_that_is_part_of_another_does_not_uncover_it() -> None:
    assert Mask(["secret", "secret-and-more"])("it is secret-and-more") == "it is ***"


def test_too_short_a_value_is_left_alone() -> None:
    assert Mask(["1", "", "true"])("attempt 1: true") == "attempt 1: true"


def test_a_mask_learns_and_forgets_what_passes_after_many_others() -> None:
    mask = Mask(["lasting-secret"])
    mask.add_passing("passing-secret")
    assert mask("lasting-secret passing-secret") == "*** ***"
    for number in range(256):
        mask.add_passing(f"another-secret-{number}")
    assert mask("lasting-secret passing-secret another-secret-0") == "*** passing-secret ***"


@pytest.mark.parametrize(
    "said",
    ["the bearer of news", "authorization failed", "basic authentication is off", "no cookie was set", "http://proxy:3128/"],
)
def test_plain_words_stay(said: str) -> None:
    assert Mask()(said) == said


def test_passing_secrets_leave_nothing_behind_in_memory() -> None:
    """Each worker has one; a pattern of them all, made anew for each, stayed in the memory of `re`."""
    mask = Mask(["a-lasting-secret"])
    for number in range(300):
        mask.add_passing(f"{number:040x}")
    mask("a line")
    tracemalloc.start()
    try:
        for number in range(300, 600):
            mask.add_passing(f"{number:040x}")
            mask("a line")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 300_000
