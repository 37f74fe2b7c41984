"""A new package is written whole, where nothing is yet, and says to whom it belongs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from nanoclaw_core import __version__
from nanoclaw_core.errors import PackageNotMade
from nanoclaw_core.scaffold import KINDS
from nanoclaw_core.scaffold.package import has_author, main_module, make

LONG = "a-name-as-long-as-it-may-be-ok"


@pytest.fixture(autouse=True)
def ada(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Git knows who is at work; returns its settings."""
    settings = tmp_path / "gitconfig"
    settings.write_text("[user]\nname = Ada Lovelace\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.chdir(tmp_path)  # no repository, with a name of its own
    return settings


def project(package: Path) -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((package / "pyproject.toml").read_text())["project"]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_a_package_has_all_that_it_needs(kind: str, tmp_path: Path) -> None:
    package = make(kind, "pigeon", tmp_path)
    module = kind.replace("-", "_")
    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    assert files == {
        ".github/workflows/ci.yml",
        ".gitignore",
        "CHANGELOG.md",
        "LICENSE",
        "README.md",
        "nanoclaw_pigeon/__init__.py",
        f"nanoclaw_pigeon/{module}.py",
        "pyproject.toml",
        "tests/conftest.py",
        f"tests/test_{module}.py",
    }
    assert main_module(kind, "pigeon") in files
    assert package == tmp_path / "nanoclaw-pigeon"


@pytest.mark.parametrize("kind", KINDS)
def test_its_range_begins_with_this_core_and_ends_before_the_next_minor_version(kind: str, tmp_path: Path) -> None:
    found = project(make(kind, "pigeon", tmp_path))
    core = next(wish for wish in map(Requirement, found["dependencies"]) if wish.name == "nanoclaw-core")
    major, minor = map(int, __version__.split(".")[:2])
    assert core.specifier.contains(__version__)
    assert core.specifier.contains(f"{major}.{minor}.99")
    assert not core.specifier.contains(f"{major}.{minor + 1}.0")
    assert found["entry-points"]["nanoclaw"] == {"pigeon": "nanoclaw_pigeon"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["x", LONG])
def test_its_code_is_in_order_whatever_its_name(kind: str, name: str, tmp_path: Path) -> None:
    package = make(kind, name, tmp_path)
    for check in (["check"], ["format", "--diff"]):
        ran = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--no-cache", "."], cwd=package, capture_output=True, text=True, check=False
        )
        assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_ci_runs_what_the_readme_says(kind: str, tmp_path: Path) -> None:
    package = make(kind, "pigeon", tmp_path)
    readme = (package / "README.md").read_text()
    develop = readme.partition("## Develop")[2].partition("```sh\n")[2].partition("```")[0].splitlines()
    assert re.findall(r"- run: (.*)", (package / ".github/workflows/ci.yml").read_text()) == develop
    assert "$" not in readme


def test_the_licence_names_who_made_it(tmp_path: Path) -> None:
    package = make("action", "pigeon", tmp_path)
    assert re.search(r"Copyright \(c\) \d{4} Ada Lovelace\n", (package / "LICENSE").read_text())
    assert has_author(package)


def test_where_git_knows_nobody_the_name_is_left_to_fill_in(ada: Path, tmp_path: Path) -> None:
    ada.write_text("")
    assert not has_author(make("action", "pigeon", tmp_path))


def test_a_machine_without_git_can_make_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not has_author(make("action", "pigeon", tmp_path))


@pytest.mark.parametrize("what", ["folder", "full folder", "file", "broken link"])
def test_what_is_there_is_never_touched(what: str, tmp_path: Path) -> None:
    there = tmp_path / "nanoclaw-pigeon"
    match what:
        case "file":
            there.write_text("mine")
        case "broken link":
            there.symlink_to(tmp_path / "nowhere")
        case _:
            there.mkdir()
    if what == "full folder":
        (there / "README.md").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(PackageNotMade, match="is there already"):
        make("channel", "pigeon", tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_not_there_is_made(tmp_path: Path) -> None:
    assert make("channel", "pigeon", tmp_path / "a" / "b").parent == tmp_path / "a" / "b"


def test_where_nothing_can_be_written_the_reason_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PackageNotMade, match=r"cannot be written \(.*Choose another place with --folder"):
        make("channel", "pigeon", tmp_path / "file")


def test_of_a_package_that_could_not_be_finished_nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(PackageNotMade, match="No space left on device"):
        make("channel", "pigeon", tmp_path / "place")
    assert list((tmp_path / "place").iterdir()) == []


def test_a_package_is_as_readable_as_what_a_person_makes(tmp_path: Path) -> None:
    package = make("channel", "pigeon", tmp_path)
    by_hand = tmp_path / "by-hand"
    by_hand.mkdir()
    assert package.stat().st_mode == by_hand.stat().st_mode
    shutil.rmtree(package)
