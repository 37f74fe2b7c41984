"""Settings: where they come from, and what is said of a wrong one."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanoclaw_core.errors import HomeUnusable, SettingInvalid, ValueRefused
from nanoclaw_core.settings import Settings, describe, load, read_env_file, write_env_file

HOME = "/var/lib/nanoclaw"


def test_an_empty_environment_gives_the_defaults(tmp_path: Path) -> None:
    settings = load({"NANOCLAW_HOME": HOME}, tmp_path)
    assert (settings.max_turns, settings.provider, settings.assistant_name) == (5, "auto", "Andy")


def test_the_environment_wins_over_both_env_files_and_the_near_one_over_that_in_the_home(
    tmp_path: Path, nanoclaw_home: Path
) -> None:
    (nanoclaw_home / ".env").write_text("NANOCLAW_MAX_TURNS=2\nNANOCLAW_PROVIDER=a\nNANOCLAW_ASSISTANT_NAME=Zoe\n")
    (tmp_path / ".env").write_text("NANOCLAW_MAX_TURNS=3\nNANOCLAW_PROVIDER=b\n")
    settings = load({"NANOCLAW_HOME": str(nanoclaw_home), "NANOCLAW_MAX_TURNS": "4"}, tmp_path)
    assert (settings.max_turns, settings.provider, settings.assistant_name) == (4, "b", "Zoe")


@pytest.mark.parametrize(
    ("variable", "value", "rule"),
    [
        ("NANOCLAW_MAX_TURNS", "0", "a whole number from 1 to 64"),
        ("NANOCLAW_MAX_TURNS", "many", "a whole number from 1 to 64"),
        ("NANOCLAW_IDLE_TIMEOUT", "nan", "a number of seconds from 1 to 86400"),
        ("NANOCLAW_LOG_LEVEL", "loud", "one of debug, info, warning, error"),
        ("NANOCLAW_TIMEZONE", "Mars/Base", "a time zone such as Europe/Berlin"),
        ("NANOCLAW_CA_BUNDLE", "/nowhere.pem", "the path of an existing file"),
        ("NANOCLAW_TRACE_PLUGINS", "perhaps", "0 or 1"),
        ("NANOCLAW_BASE_IMAGE", "a b", "an image reference such as debian:bookworm-slim"),
    ],
)
def test_a_wrong_value_is_named_with_its_rule(variable: str, value: str, rule: str, tmp_path: Path) -> None:
    with pytest.raises(SettingInvalid) as caught:
        load({"NANOCLAW_HOME": HOME, variable: value}, tmp_path)
    assert str(caught.value).startswith(f"{variable} is {value!r}, but must be {rule}.")


def test_a_home_whose_path_is_too_long_for_sockets_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HomeUnusable, match="longer than 60 bytes"):
        load({"NANOCLAW_HOME": "/" + "x" * 60}, tmp_path)


def test_a_relative_home_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HomeUnusable, match="absolute"):
        load({"NANOCLAW_HOME": "here"}, tmp_path)


def test_an_env_file_may_have_comments_quotes_and_export(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# a comment\nexport A=\"x y\"\nB='#1'\n C = plain # not part of it\nnonsense\nD=\n")
    assert read_env_file(file) == {"A": "x y", "B": "#1", "C": "plain", "D": ""}


def test_an_env_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingInvalid, match="readable UTF-8"):
        load({"NANOCLAW_HOME": HOME}, tmp_path)


def test_secrets_are_never_shown(tmp_path: Path) -> None:
    settings = load({"NANOCLAW_HOME": HOME, "ANTHROPIC_API_KEY": "sk-secret"}, tmp_path)
    assert isinstance(settings, Settings)
    assert "sk-secret" not in repr(settings)


def test_every_setting_is_documented() -> None:
    text = Path(__file__).parent.parent.joinpath("docs", "settings.md").read_text()
    for variable, _default, rule, _meaning in describe():
        assert f"`{variable}`" in text, f"docs/settings.md does not name {variable}"
        assert rule in text, f"docs/settings.md does not say that {variable} is {rule}"


# --- writing a .env file ----------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1))
def test_what_is_written_into_an_env_file_is_read_again(value: str) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder, ".env")
        write_env_file(file, {"A": value})
        assert read_env_file(file) == {"A": value}


def test_everything_else_in_an_env_file_stays_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("# A=comment\nexport A=1 # one\nnonsense\nB=2")
    write_env_file(file, {"A": "3 # 4", "C": "5"})
    assert file.read_text() == '# A=comment\nA="3 # 4"\nnonsense\nB=2\nC=5\n'
    assert file.stat().st_mode & 0o777 == 0o600


def test_an_env_file_that_is_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "dotfiles").write_text("A=1\n")
    (tmp_path / ".env").symlink_to("dotfiles")
    write_env_file(tmp_path / ".env", {"A": "2"})
    assert (tmp_path / ".env").is_symlink()
    assert (tmp_path / "dotfiles").read_text() == "A=2\n"


@pytest.mark.parametrize("value", ["a\nB=1", "a\rB=1", "a\u2028B=1", "a\0", "\x1b[2J"])
def test_a_value_that_would_become_another_line_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(ValueRefused, match="one line"):
        write_env_file(tmp_path / ".env", {"A": value})
    assert not (tmp_path / ".env").exists()
