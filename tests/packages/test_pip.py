"""What pip says becomes one line that says what to do, and pip is refused where it would do harm."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from nanoclaw_core.errors import InstallRefused
from nanoclaw_core.packages import pip

CONFLICT = """\
Processing ./index/nanoclaw_two-1.0-py3-none-any.whl
ERROR: Cannot install nanoclaw-one==1.0 and nanoclaw-two==1.0 because these package versions have conflicting dependencies.

The conflict is caused by:
    The user requested nanoclaw-core==0.1.0
    nanoclaw-one 1.0 depends on nanoclaw-core<0.2 and >=0.1
    nanoclaw-one 1.0 depends on lib-a<2
    nanoclaw-two 1.0 depends on lib-a>=2

Additionally, some packages in these conflicts have no matching distributions available for your environment:
    lib-a
ERROR: ResolutionImpossible: for help visit https://pip.pypa.io/en/latest/topics/dependency-resolution/
"""
UNKNOWN = """\
ERROR: Could not find a version that satisfies the requirement nanoclaw-x{wish} (from versions: {versions})
ERROR: No matching distribution found for nanoclaw-x{wish}
"""
BROKEN = (
    "WARNING: Retrying after connection broken by 'NewConnectionError(\"… Name or service not known\")': /simple/nanoclaw-x/\n"
)


@pytest.mark.parametrize(
    ("output", "says"),
    [
        pytest.param(CONFLICT, "nanoclaw-one 1.0 needs lib-a<2; nanoclaw-two 1.0 needs lib-a>=2. Choose", id="a conflict"),
        pytest.param(UNKNOWN.format(wish="", versions="none"), "no index knows nanoclaw-x; look at the name", id="unknown"),
        pytest.param(
            UNKNOWN.format(wish=">=9", versions="1.0, 1.1"), "no version fits nanoclaw-x>=9; there are 1.0, 1.1", id="old"
        ),
        pytest.param(BROKEN + UNKNOWN.format(wish="", versions="none"), "look at this machine's network", id="no network"),
        pytest.param("ERROR: HTTPSConnectionPool(…): Read timed out.", "look at this machine's network", id="slow network"),
        pytest.param(
            "ERROR: Could not install packages due to an OSError: [Errno 13] Permission denied: '/usr/lib/x'",
            "run this as the user who installed NanoClaw",
            id="no right to write",
        ),
        pytest.param("error: externally-managed-environment\n\n× This environment is", "`python3 -m venv`", id="system's own"),
        pytest.param("ERROR: [Errno 28] No space left on device", "the disk is full", id="full disk"),
        pytest.param("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "its hash differs", id="another file"),
        pytest.param("ERROR: nanoclaw-x has\n odd ways", "pip says: nanoclaw-x has", id="anything else"),
        pytest.param(
            "ERROR: Exception:\nTraceback …\nzipfile.BadZipFile: bad file", "zipfile.BadZipFile: bad file", id="a bug"
        ),
        pytest.param("", "pip says: nothing", id="silence"),
    ],
)
def test_what_pip_says_comes_to_one_line(output: str, says: str) -> None:
    explained = pip.explain(output)
    assert says in explained
    assert "\n" not in explained


def test_what_agrees_with_what_is_there_is_no_part_of_a_conflict() -> None:
    assert "nanoclaw-core<0.2" not in pip.explain(CONFLICT)


# --- where it is refused --------------------------------------------------------------------------------------------------


def test_an_environment_without_pip_is_told_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InstallRefused, match=r"this environment has no pip: `.+ -m ensurepip`"):
        pip.require_pip()


def test_the_systems_own_python_is_left_to_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "EXTERNALLY-MANAGED").touch()
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(InstallRefused, match="belongs to the system's package manager"):
        pip.require_pip()


def test_an_environment_of_somebody_else_is_refused_before_anything_is_resolved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InstallRefused, match=r"you may not write to .+; run this as the user who installed NanoClaw"):
        pip.require_pip()


def test_a_pip_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(argv: list[str], *, timeout: float, **_: object) -> None:
        raise subprocess.TimeoutExpired(argv, timeout)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(InstallRefused, match="pip did not end within 30 minutes"):
        pip.uninstall(["nanoclaw-x"])


def test_no_secret_of_the_host_is_handed_to_builds_of_strangers(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, str]] = []

    def look(argv: list[str], *, env: dict[str, str], **_: object) -> subprocess.CompletedProcess[bytes]:
        assert argv[:3] == [sys.executable, "-m", "pip"]
        seen.append(env)
        return subprocess.CompletedProcess(argv, 0, b"")

    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-the-host")
    monkeypatch.setenv("PIP_KEYRING_PROVIDER", "subprocess")
    monkeypatch.setattr(subprocess, "run", look)
    pip.uninstall(["nanoclaw-x"])
    assert "sk-of-the-host" not in seen[0].values()
    assert seen[0]["PIP_KEYRING_PROVIDER"] == "subprocess"
