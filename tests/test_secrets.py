"""The secret store: files for their owner alone, what cannot be one, and who wins over whom."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nanoclaw_core import secrets
from nanoclaw_core.errors import HomeUnusable, UnknownName, ValueRefused
from nanoclaw_core.mask import Mask
from nanoclaw_core.settings import load

KEY = "-----BEGIN KEY-----\nMIIBVgIBADANBgkqhkiG9w0BAQ\n-----END KEY-----"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_home_has_no_secrets_and_looking_makes_none(nanoclaw_home: Path) -> None:
    assert secrets.stored(nanoclaw_home) == {}
    assert list(nanoclaw_home.iterdir()) == []


def test_a_secret_is_a_file_for_its_owner_alone_whatever_the_umask(nanoclaw_home: Path) -> None:
    before = os.umask(0)
    try:
        secrets.put(nanoclaw_home, "TELEGRAM_TOKEN", "123:abc")
    finally:
        os.umask(before)
    folder = nanoclaw_home / "secrets"
    assert (mode(folder), mode(folder / "TELEGRAM_TOKEN")) == (0o700, 0o600)
    assert [path.name for path in folder.iterdir()] == ["TELEGRAM_TOKEN"]


@pytest.mark.parametrize("value", ["x", KEY, "ключ 🤖 with \t tab", "v" * secrets.LONGEST, " spaced ", "$(id)'\"`"])
def test_any_text_is_kept_as_it_is(nanoclaw_home: Path, value: str) -> None:
    secrets.put(nanoclaw_home, "A", "before")
    secrets.put(nanoclaw_home, "A", value)
    assert secrets.stored(nanoclaw_home) == {"A": value}


@pytest.mark.parametrize(
    ("value", "says"),
    [("", "empty"), (" \n", "empty"), ("a\0b", "NUL"), ("\x1b[2J", "control"), ("v" * 70_000, "longer than 65,536 bytes")],
    ids=["nothing", "blank", "NUL", "escape", "too long"],
)
def test_what_cannot_be_a_secret_is_refused_and_the_earlier_one_stays(nanoclaw_home: Path, value: str, says: str) -> None:
    secrets.put(nanoclaw_home, "A", "before")
    with pytest.raises(ValueRefused, match=says):
        secrets.put(nanoclaw_home, "A", value)
    assert secrets.stored(nanoclaw_home) == {"A": "before"}


def test_bytes_that_are_no_text_are_refused_without_showing_them() -> None:
    with pytest.raises(ValueRefused, match="no UTF-8 text") as refused:
        secrets.text_of("A", b"hush\xff\xfe")
    assert "hush" not in str(refused.value)


@pytest.mark.parametrize("name", ["", "telegram-token", "../A", "A/B", ".A", "1A", "A\n", "Ä", "A" * 200, "NANOCLAW_HOME"])
def test_a_name_that_is_no_variable_or_a_setting_is_refused(nanoclaw_home: Path, name: str) -> None:
    with pytest.raises(ValueRefused):
        secrets.put(nanoclaw_home, name, "value")
    assert not (nanoclaw_home / "secrets").exists()


def test_a_removed_secret_leaves_nothing_on_the_disk(nanoclaw_home: Path) -> None:
    secrets.put(nanoclaw_home, "A", "hush-hush")
    (nanoclaw_home / "secrets" / ".A.x1").write_text("hush-hush")  # a host that died while it wrote
    secrets.remove(nanoclaw_home, "A")
    assert list((nanoclaw_home / "secrets").iterdir()) == []


def test_removing_what_is_not_there_names_what_is(nanoclaw_home: Path) -> None:
    secrets.put(nanoclaw_home, "A", "x")
    with pytest.raises(UnknownName, match="Known: A"):
        secrets.remove(nanoclaw_home, "../A")


def test_a_half_written_secret_is_none(nanoclaw_home: Path) -> None:
    secrets.put(nanoclaw_home, "A", "x")
    (nanoclaw_home / "secrets" / ".B.x1").write_text("y")
    assert secrets.stored(nanoclaw_home) == {"A": "x"}


def test_rights_of_others_are_taken_with_the_next_change_and_said(nanoclaw_home: Path) -> None:
    secrets.put(nanoclaw_home, "A", "x")
    folder = nanoclaw_home / "secrets"
    folder.chmod(0o755)
    (folder / "A").chmod(0o644)
    assert secrets.exposed(nanoclaw_home) == [folder, folder / "A"]
    assert secrets.put(nanoclaw_home, "B", "y") == [folder, folder / "A"]
    assert (mode(folder), mode(folder / "A"), mode(folder / "B")) == (0o700, 0o600, 0o600)
    assert secrets.exposed(nanoclaw_home) == []


def test_a_secret_may_be_a_link_to_where_others_keep_it_and_its_rights_are_theirs(nanoclaw_home: Path, tmp_path: Path) -> None:
    """As containers are given them; the folder there may not even be writable."""
    secrets.put(nanoclaw_home, "A", "x")
    (tmp_path / "given").write_text("hush-hush")
    (tmp_path / "given").chmod(0o444)
    (nanoclaw_home / "secrets" / "B").symlink_to(tmp_path / "given")
    (nanoclaw_home / "secrets" / "C").symlink_to(tmp_path / "nowhere")
    assert secrets.stored(nanoclaw_home) == {"A": "x", "B": "hush-hush"}
    assert secrets.set_times(nanoclaw_home).keys() == {"A", "B"}
    assert secrets.mend(nanoclaw_home) == []
    assert mode(tmp_path / "given") == 0o444


def test_what_is_no_file_is_an_error_and_is_not_waited_for(nanoclaw_home: Path) -> None:
    (nanoclaw_home / "secrets").mkdir(mode=0o700)
    os.mkfifo(nanoclaw_home / "secrets" / "A")
    with pytest.raises(HomeUnusable, match="secrets/A is no file"):
        secrets.stored(nanoclaw_home)


def test_a_file_in_the_place_of_the_store_is_an_error(nanoclaw_home: Path) -> None:
    (nanoclaw_home / "secrets").write_text("")
    for touch in (lambda: secrets.stored(nanoclaw_home), lambda: secrets.put(nanoclaw_home, "A", "x")):
        with pytest.raises(HomeUnusable, match="secrets cannot be read or written"):
            touch()


def test_a_damaged_secret_is_an_error_that_does_not_show_it(nanoclaw_home: Path) -> None:
    secrets.put(nanoclaw_home, "A", "x")
    (nanoclaw_home / "secrets" / "A").write_bytes(b"hush\xff")
    with pytest.raises(HomeUnusable, match=r"secrets/A cannot be read or written \(it is no UTF-8 text\)") as refused:
        secrets.stored(nanoclaw_home)
    assert "hush" not in str(refused.value)


# --- as settings ----------------------------------------------------------------------------------------------------------


def test_the_environment_wins_over_the_store_which_wins_over_env_files(tmp_path: Path, nanoclaw_home: Path) -> None:
    (nanoclaw_home / ".env").write_text("A=home\nB=home\nC=home\nD=home\n")
    (tmp_path / ".env").write_text("A=near\nB=near\nC=near\n")
    secrets.put(nanoclaw_home, "A", "store")
    secrets.put(nanoclaw_home, "B", "store")
    found = load({"NANOCLAW_HOME": str(nanoclaw_home), "A": "environment"}, tmp_path).variables
    assert [found[name] for name in "ABCD"] == ["environment", "store", "near", "home"]


def test_a_stored_secret_is_hidden_whatever_its_name_also_where_the_environment_wins(
    tmp_path: Path, nanoclaw_home: Path
) -> None:
    secrets.put(nanoclaw_home, "HARMLESS", "hush-hush")
    settings = load({"NANOCLAW_HOME": str(nanoclaw_home), "HARMLESS": "loud-loud"}, tmp_path)
    assert Mask(settings.secrets())("hush-hush loud-loud") == "*** loud-loud"
    assert "hush" not in repr(settings)


def test_each_line_of_a_secret_with_several_is_hidden() -> None:
    assert Mask([KEY])(f"cannot read line MIIBVgIBADANBgkqhkiG9w0BAQ of {KEY!r}") == "cannot read line *** of '***'"
