"""`nanoclaw mount …` as a person types it, with no host running."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nanoclaw_core.cli import main


@pytest.fixture
def land(nanoclaw_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder; the home is empty."""
    monkeypatch.setenv("NANOCLAW_HOME", str(nanoclaw_home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    land = tmp_path.resolve() / "land"
    (land / "notes").mkdir(parents=True)
    monkeypatch.chdir(land)
    return land


def nanoclaw(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(list(words))
    out, err = capsys.readouterr()
    return code, out, err


def test_a_folder_is_allowed_given_listed_and_taken(land: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = nanoclaw(capsys, "mount", "add", "notes")
    assert code == 3
    assert "`nanoclaw mount allow" in err
    assert nanoclaw(capsys, "mount", "allow", ".", "--read-write")[0] == 0
    (land / "link").symlink_to("notes")
    code, out, _ = nanoclaw(capsys, "mount", "add", "link", "--name", "mine", "--read-write")
    assert (code, out) == (0, f"Andy sees {land}/notes as /workspace-extra/mine, read-write.\n")
    listed = json.loads(nanoclaw(capsys, "mount", "list", "--json")[1])
    assert [(each["name"], each["source"], each["read_only"]) for each in listed] == [("mine", f"{land}/notes", False)]
    assert "mine" in nanoclaw(capsys, "mount", "list")[1]
    assert nanoclaw(capsys, "mount", "remove", "mine")[:2] == (0, f"Andy does not see {land}/notes any more.\n")
    assert "none" in nanoclaw(capsys, "mount", "list")[1]


def test_a_check_explains_rule_by_rule(land: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nanoclaw(capsys, "mount", "allow", ".")
    code, out, _ = nanoclaw(capsys, "mount", "check", "notes", "--read-write")
    assert code == 0
    assert "for reading only" in out
    assert "It may be mounted, read-only." in out
    (land / "notes" / ".env").touch()
    code, out, _ = nanoclaw(capsys, "mount", "check", "notes", "--json")
    found = json.loads(out)
    assert (code, found["allowed"]) == (3, False)
    assert [each["rule"] for each in found["findings"] if each["passed"] is False] == ["mount-allowlist"]


@pytest.mark.parametrize("words", [("check", "gone"), ("add", "gone"), ("allow", "gone"), ("remove", "gone"), ("allow", "/")])
def test_what_is_wrong_is_said_in_one_line(land: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    code, out, err = nanoclaw(capsys, "mount", *words)
    assert (code, out) == (3, "")
    assert err.count("\n") == 1


def test_a_path_is_no_option_and_no_markup(land: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = land / "[bold]a:b,c"
    odd.mkdir()
    nanoclaw(capsys, "mount", "allow", ".")
    assert "[bold]a:b,c" in nanoclaw(capsys, "mount", "add", str(odd))[1]
    assert "bold-a-b-c" in nanoclaw(capsys, "mount", "list")[1]
