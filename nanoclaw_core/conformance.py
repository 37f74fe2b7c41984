"""Judges a plugin package as its users will meet it: its metadata, what importing it costs, what it offers, its tests.

Everything of the plugin runs in processes of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nanoclaw_core.errors import PluginUnusable, UnknownName
from nanoclaw_core.installed import CORE, GROUP, Found, discover

_SLOW: Final = 0.3  # seconds that importing a plugin may take
_PROBE_LIMIT: Final = 60.0
_TESTS_LIMIT: Final = 1800.0


class Verdict(StrEnum):
    """How one line of a judgement stands."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    NOT_CLAIMED = "not claimed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line: what was looked at, how it stands, and why."""

    subject: str
    verdict: Verdict
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """What was found about one package."""

    name: str
    version: str
    findings: tuple[Finding, ...]

    @property
    def is_good(self) -> bool:
        return all(finding.verdict is not Verdict.FAIL for finding in self.findings)


def judge(target: str) -> Judgement:
    """Judge the folder of a package, which must be installed (`pip install --editable`), or an installed package. Blocks.

    Only a folder has tests to be run.

    Raises:
        UnknownName: no such plugin is installed. PluginUnusable: the folder holds no plugin package.
    """
    folder = Path(target).resolve() if Path(target).is_dir() else None
    name = _project_of(folder)["name"] if folder else target
    plugins = [found for found in discover() if canonicalize_name(name) in (canonicalize_name(found.distribution), found.name)]
    if not plugins and folder is None:
        raise UnknownName("plugin", target, {found.distribution for found in discover()})
    if not plugins:
        raise PluginUnusable(name, f"it is not installed here: `pip install --editable {target}`, and then again")
    findings = [*_of_metadata(plugins[0]), *(line for found in plugins for line in _of_import(found))]
    if folder is not None:
        findings += [*_of_folder(folder), *_of_tests(folder)]
    return Judgement(name=plugins[0].distribution, version=plugins[0].version, findings=tuple(findings))


# --- what it says of itself -----------------------------------------------------------------------------------------------


def _project_of(folder: Path) -> Mapping[str, Any]:
    """The table `project` of its pyproject.toml."""
    try:
        project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        if not project["entry-points"][GROUP]:
            raise KeyError(GROUP)
        return {"name": str(project["name"]), **project}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        reason = f"{folder} holds no plugin package: its pyproject.toml needs a name and entry points in the group {GROUP!r}"
        raise PluginUnusable(folder.name, reason) from error


def _of_metadata(found: Found) -> Iterator[Finding]:
    wishes = [wish for wish in map(_requirement, found.requirements) if wish and canonicalize_name(wish.name) == CORE]
    if not wishes:
        why = f"it does not depend on {CORE}, so nobody can tell which versions it works with: add '{CORE}>=0.1,<0.2'"
        yield Finding(subject="range", verdict=Verdict.FAIL, why=why)
    elif not any(each.operator in ("<", "<=", "==", "~=") for each in wishes[0].specifier):
        why = f"'{wishes[0]}' has no upper end: say up to where it was tried"
        yield Finding(subject="range", verdict=Verdict.WARN, why=why)
    else:
        yield Finding(subject="range", verdict=Verdict.PASS, why=str(wishes[0]))


def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _of_folder(folder: Path) -> Iterator[Finding]:
    project = _project_of(folder)
    lacking = [key for key in ("description", "readme", "license", "requires-python") if not project.get(key)]
    why = f"pyproject.toml has no {', '.join(lacking)}" if lacking else ""
    yield Finding(subject="metadata", verdict=Verdict.WARN if lacking else Verdict.PASS, why=why)


# --- what importing it does -----------------------------------------------------------------------------------------------


def _of_import(found: Found) -> Iterator[Finding]:
    """Load the plugin in a fresh interpreter, as a host does."""
    probe = [sys.executable, "-c", f"from nanoclaw_core.testing.probe import probe; print(probe({found.name!r}))"]
    try:
        done = subprocess.run(probe, capture_output=True, text=True, timeout=_PROBE_LIMIT, check=False)
        report = json.loads(done.stdout.splitlines()[-1])
    except (subprocess.TimeoutExpired, ValueError, IndexError) as error:
        why = f"loading it did not come to an end ({type(error).__name__})"
        yield Finding(subject=f"load {found.name}", verdict=Verdict.FAIL, why=why)
        return
    if report["state"] != "enabled":
        yield Finding(subject=f"load {found.name}", verdict=Verdict.FAIL, why=report["reason"])
        return
    yield Finding(subject=f"load {found.name}", verdict=Verdict.PASS, why=", ".join(report["offers"]))
    yield _cost(report["seconds"], report["libraries"])
    yield from _of_manifests(report["fields"])


def _cost(seconds: float, libraries: Sequence[str]) -> Finding:
    if libraries:
        why = f"importing it imports {', '.join(libraries)}: do that in `create` or `run`, so that only who uses it pays"
        return Finding(subject="import", verdict=Verdict.WARN, why=why)
    slow = seconds > _SLOW
    why = f"{seconds:.2f} s" + (": what takes so long belongs into `create` or `run`" if slow else "")
    return Finding(subject="import", verdict=Verdict.WARN if slow else Verdict.PASS, why=why)


def _of_manifests(fields: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    if fields:
        needed = [field for field in fields if field["required"] and not field["default"]]
        mute = [str(field["variable"]) for field in needed if not (field["where"] or field["help"])]
        named = ", ".join(str(field["variable"]) for field in fields)
        why = f"{', '.join(mute)}: neither `where` nor `help` says where to get it" if mute else named
        yield Finding(subject="manifest", verdict=Verdict.WARN if mute else Verdict.PASS, why=why)


# --- what its tests say ---------------------------------------------------------------------------------------------------


def _of_tests(folder: Path) -> Iterator[Finding]:
    """Run its tests; each capability of a contract is a line of its own."""
    if find_spec("pytest") is None:
        why = "pytest is not installed: `pip install pytest anyio`"
        yield Finding(subject="tests", verdict=Verdict.FAIL, why=why)
        return
    with tempfile.TemporaryDirectory(prefix="nc") as place:
        path = Path(place) / "report.json"
        run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--nanoclaw-report={path}", str(folder)]
        try:
            done = subprocess.run(run, capture_output=True, text=True, timeout=_TESTS_LIMIT, check=False, cwd=folder)
        except subprocess.TimeoutExpired:
            why = f"they did not end within {_TESTS_LIMIT / 60:.0f} minutes"
            yield Finding(subject="tests", verdict=Verdict.FAIL, why=why)
            return
        report = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    last = next((line for line in reversed(done.stdout.splitlines()) if line.strip()), "pytest said nothing")
    yield Finding(subject="tests", verdict=Verdict.FAIL if done.returncode else Verdict.PASS, why=last.strip("= "))
    if not report:
        why = "no test inherits a contract, such as `ChannelContract`: see docs/plugins/conformance.md"
        yield Finding(subject="contract", verdict=Verdict.WARN, why=why)
    for place, capabilities in report.items():
        for capability, outcome in capabilities.items():
            subject = f"{place.rpartition('::')[2]}: {capability}"
            yield Finding(subject=subject, verdict=Verdict(outcome["outcome"]), why="; ".join(outcome["notes"]))
