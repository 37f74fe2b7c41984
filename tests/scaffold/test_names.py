"""What a new plugin may be called."""

from __future__ import annotations

import re

import pytest

from nanoclaw_core.errors import PackageNotMade
from nanoclaw_core.scaffold.names import named


def test_everything_follows_from_the_name() -> None:
    name = named("carrier-pigeon-2", ())
    assert (name.distribution, name.module) == ("nanoclaw-carrier-pigeon-2", "nanoclaw_carrier_pigeon_2")
    assert (name.class_name, name.action, name.variable) == ("CarrierPigeon2", "carrier_pigeon_2", "CARRIER_PIGEON_2")


@pytest.mark.parametrize("text", ["a", "x9", "mail", "a-b-c", "a" * 30])
def test_these_are_names(text: str) -> None:
    assert named(text, ()).text == text


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("Pigeon", "pigeon"),
        ("carrier pigeon", "carrier-pigeon"),
        ("carrier_pigeon", "carrier-pigeon"),
        ("carrier--pigeon-", "carrier-pigeon"),
        ("7up", "up"),
        ("1-2-3", "carrier-pigeon"),
        ("Brieftäube", "brieftaube"),
        ("鳩", "carrier-pigeon"),
        ("", "carrier-pigeon"),
        ("nanoclaw-pigeon", "pigeon"),
        ("nanoclaw-nanoclaw-pigeon", "pigeon"),
        ("nanoclaw-core", "my-core"),
        ("../pigeon", "pigeon"),
        ("pigeon\n", "pigeon"),
        ("p" * 31, "p" * 30),
        ("p" * 29 + "-pigeon", "p" * 29),
        ("core", "my-core"),
        ("runner", "my-runner"),
        ("terminal", "my-terminal"),
        ("Terminal", "my-terminal"),
    ],
)
def test_what_is_no_name_is_refused_with_one_that_is(text: str, suggestion: str) -> None:
    with pytest.raises(PackageNotMade, match=re.escape(f"such as {suggestion!r}.")):
        named(text, ["terminal"])
    assert named(suggestion, ["terminal"]).text == suggestion
