"""Judging a plugin package: what is wrong with it is said before its users find out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nanoclaw_core.conformance import Finding, Verdict, judge
from nanoclaw_core.errors import PluginUnusable, UnknownName

RANGE = "nanoclaw-core>=0.1,<0.2"
SOUND = """
from nanoclaw_core import ChannelFactory, hookimpl


@hookimpl
def nanoclaw_channels():
    return [ChannelFactory(name="hut", summary="A hut", create=print)]
"""
PROJECT = """
[project]
name = "nanoclaw-hut"
version = "1.0"
description = "A hut"
readme = "README.md"
license = "MIT"
requires-python = ">=3.11"

[project.entry-points.nanoclaw]
hut = "judged_hut"
"""
KEPT = """
from nanoclaw_core.testing.contracts.report import capability, not_claimed


class TestHut:
    @capability("receive")
    def test_receive(self):
        pass

    @capability("files in")
    def test_files(self):
        not_claimed("fetch")
"""

Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put the plugin 'hut' where this process and its children find it; returns the folder of its project."""

    def put(code: str = SOUND, *, requires: tuple[str, ...] = (RANGE,), tests: str = "", project: str = PROJECT) -> Path:
        site, folder = tmp_path / "site", tmp_path / "project"
        info = site / "nanoclaw_hut-1.0.dist-info"
        for each in (info, folder):
            each.mkdir(parents=True)
        (site / "judged_hut.py").write_text(code)
        wishes = [f"Requires-Dist: {wish}" for wish in requires]
        (info / "METADATA").write_text("\n".join(["Metadata-Version: 2.1", "Name: nanoclaw-hut", "Version: 1.0", *wishes, ""]))
        (info / "entry_points.txt").write_text("[nanoclaw]\nhut = judged_hut\n")
        (folder / "pyproject.toml").write_text(project)
        if tests:
            (folder / "test_hut.py").write_text(tests)
        monkeypatch.syspath_prepend(site)
        monkeypatch.setenv("PYTHONPATH", str(site))
        return folder

    return put


def found(target: object, subject: str) -> Finding:
    return next(finding for finding in judge(str(target)).findings if finding.subject == subject)


def test_a_sound_package_passes_with_a_line_for_each_capability_of_its_contract(install: Install) -> None:
    judgement = judge(str(install(tests=KEPT)))
    assert {finding.subject: finding.verdict.value for finding in judgement.findings} == {
        "range": "pass",
        "load hut": "pass",
        "import": "pass",
        "metadata": "pass",
        "tests": "pass",
        "TestHut: receive": "pass",
        "TestHut: files in": "not claimed",
    }
    assert judgement.is_good
    assert (judgement.name, judgement.version) == ("nanoclaw-hut", "1.0")


@pytest.mark.parametrize("name", ["nanoclaw-hut", "hut", "Nanoclaw_Hut"])
def test_an_installed_package_is_judged_by_any_of_its_names(install: Install, name: str) -> None:
    install()
    assert found(name, "load hut") == Finding(subject="load hut", verdict=Verdict.PASS, why="channel hut")


@pytest.mark.parametrize(
    ("requires", "verdict", "words"),
    [
        ((), Verdict.FAIL, "does not depend on nanoclaw-core"),
        (("nanoclaw-core",), Verdict.WARN, "no upper end"),
        (("nanoclaw-core>=0.1",), Verdict.WARN, "no upper end"),
        (("garbage in a line", RANGE), Verdict.PASS, "nanoclaw-core<0.2,>=0.1"),
    ],
    ids=["none", "no range", "open", "beside garbage"],
)
def test_its_range_on_the_core_is_looked_at(install: Install, requires: tuple[str, ...], verdict: Verdict, words: str) -> None:
    install(requires=requires)
    finding = found("hut", "range")
    assert (finding.verdict, words in finding.why) == (verdict, True)


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import no_such_library", "no_such_library"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import os; os._exit(0)", "did not come to an end"),
    ],
    ids=["import error", "sys.exit", "gone"],
)
def test_a_package_that_cannot_be_loaded_fails_with_the_reason(install: Install, code: str, reason: str) -> None:
    install(code)
    finding = found("hut", "load hut")
    assert (finding.verdict, reason in finding.why) == (Verdict.FAIL, True)
    assert not judge("hut").is_good


def test_a_package_that_imports_its_library_at_once_is_told_to_wait(install: Install) -> None:
    install("import hypothesis\n" + SOUND, requires=(RANGE, "hypothesis"))
    finding = found("hut", "import")
    assert (finding.verdict, "imports hypothesis" in finding.why) == (Verdict.WARN, True)


@pytest.mark.parametrize(
    ("more", "verdict", "why"),
    [
        ("", Verdict.WARN, "HUT_KEY: neither `where` nor `help` says where to get it"),
        (', where="In the hut."', Verdict.PASS, "HUT_KEY"),
        (', help="Any key."', Verdict.PASS, "HUT_KEY"),
        (', default="x"', Verdict.PASS, "HUT_KEY"),
        (", required=False", Verdict.PASS, "HUT_KEY"),
    ],
    ids=["nothing", "where", "help", "default", "not required"],
)
def test_a_field_that_nobody_can_fill_is_named(install: Install, more: str, verdict: Verdict, why: str) -> None:
    field = f'Manifest(fields=(SetupField(variable="HUT_KEY", label="Key"{more}),))'
    code = SOUND.replace("create=print", f"create=print, manifest={field}").replace(
        "import ChannelFactory", "import ChannelFactory, Manifest, SetupField"
    )
    install(code)
    finding = found("hut", "manifest")
    assert (finding.verdict, finding.why) == (verdict, why)


def test_tests_that_fail_fail_the_package(install: Install) -> None:
    folder = install(tests=KEPT.replace("        pass", "        assert not 'kept'"))
    assert found(folder, "tests").verdict is Verdict.FAIL
    finding = found(folder, "TestHut: receive")
    assert (finding.verdict, finding.why.startswith("test_receive: ")) == (Verdict.FAIL, True)


def test_a_package_without_a_contract_is_told_of_it(install: Install) -> None:
    folder = install(tests="def test_nothing(): pass\n")
    assert found(folder, "contract").verdict is Verdict.WARN


def test_what_its_project_file_lacks_is_named(install: Install) -> None:
    folder = install(project=PROJECT.replace('license = "MIT"\n', ""))
    assert found(folder, "metadata").why == "pyproject.toml has no license"


@pytest.mark.parametrize("text", ["", "[project]\nname = 'x'\n", "[project", "project = 1\n"])
def test_a_folder_that_holds_no_plugin_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    with pytest.raises(PluginUnusable, match="holds no plugin package"):
        judge(str(tmp_path))


def test_a_folder_that_is_not_installed_is_told_how(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT.replace("nanoclaw-hut", "nanoclaw-nowhere"))
    with pytest.raises(PluginUnusable, match="pip install --editable"):
        judge(str(tmp_path))


def test_a_name_that_nobody_has_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownName, match="no plugin named 'nothing'"):
        judge("nothing")
