"""Which plugins are enabled is one small file in the home, and a damaged one enables nothing silently."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from nanoclaw_core import installed
from nanoclaw_core.errors import HomeUnusable, UnknownName
from nanoclaw_core.installed import Found, disable, enable, enabled


@pytest.fixture(autouse=True)
def parrot(monkeypatch: pytest.MonkeyPatch) -> None:
    """One plugin is installed."""
    found = [Found(name="parrot", distribution="nanoclaw-parrot", version="1.0", value="nanoclaw_parrot")]
    monkeypatch.setattr(installed, "discover", lambda: found)


def test_nothing_is_enabled_in_a_new_home(nanoclaw_home: Path) -> None:
    assert enabled(nanoclaw_home) == []


def test_what_was_enabled_stays_enabled_until_it_is_disabled(nanoclaw_home: Path) -> None:
    enable(nanoclaw_home, "parrot")
    enable(nanoclaw_home, "parrot")
    assert enabled(nanoclaw_home) == ["parrot"]
    disable(nanoclaw_home, "parrot")
    assert enabled(nanoclaw_home) == []


def test_the_file_is_private_and_nothing_else_is_left(nanoclaw_home: Path) -> None:
    previous = os.umask(0)
    try:
        enable(nanoclaw_home, "parrot")
    finally:
        os.umask(previous)
    (file,) = nanoclaw_home.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text()) == {"enabled": ["parrot"]}


def test_enabling_what_is_not_installed_names_what_is(nanoclaw_home: Path) -> None:
    with pytest.raises(UnknownName, match=r"no plugin named 'telegram'.* Known: parrot"):
        enable(nanoclaw_home, "telegram")


def test_a_plugin_that_was_uninstalled_can_still_be_disabled(nanoclaw_home: Path) -> None:
    (nanoclaw_home / "plugins.json").write_text('{"enabled": ["departed"]}')
    disable(nanoclaw_home, "departed")
    assert enabled(nanoclaw_home) == []


def test_disabling_a_name_that_nobody_knows_is_an_error(nanoclaw_home: Path) -> None:
    with pytest.raises(UnknownName):
        disable(nanoclaw_home, "telegarm")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"{}", b'{"enabled": "parrot"}', b'{"enabled": [1]}', b"null", b"\xff", b"[" * 100_000],
    ids=["empty", "cut off", "a list", "no names", "one text", "a number", "null", "no UTF-8", "too deep"],
)
def test_a_damaged_file_is_an_error_that_says_what_to_do(nanoclaw_home: Path, content: bytes) -> None:
    (nanoclaw_home / "plugins.json").write_bytes(content)
    with pytest.raises(HomeUnusable, match=r"delete it and `nanoclaw plugin enable`"):
        enabled(nanoclaw_home)


def test_a_home_that_cannot_be_written_is_an_error(nanoclaw_home: Path) -> None:
    with pytest.raises(HomeUnusable, match=r"plugins\.json cannot be written"):
        enable(nanoclaw_home / "nowhere", "parrot")
