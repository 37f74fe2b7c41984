"""A package of each kind, made by the command, installed, tested, loaded and judged as its author would do it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from nanoclaw_core.scaffold import KINDS
from tests.scaffold.scratch import Environment

OFFERS = {
    "channel": "channel a-channel",
    "provider": "provider a-provider",
    "action": "action a_action",
    "mount-policy": "mount-policy a-mount-policy",
}


@dataclass(frozen=True, kw_only=True)
class Made:
    folder: Path
    commands: list[str]


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("scratch") / "venv")


@pytest.fixture(scope="module")
def packages(environment: Environment, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Made]:
    """One of each kind, with the commands that were printed; all are installed by one pip, which is what takes long."""
    folder = tmp_path_factory.mktemp("packages")
    made = {}
    for kind in KINDS:
        printed = environment.run(f"nanoclaw plugin new {kind} a-{kind}", folder)
        made[kind] = Made(folder=folder / f"nanoclaw-a-{kind}", commands=re.findall(r"^  (.*)$", printed, re.MULTILINE))
    places = [each.commands[0].partition(" --editable ")[2] for each in made.values()]
    environment.run("python -m pip install --editable " + " --editable ".join(places), folder)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_the_commands_that_are_printed_work(kind: str, packages: Mapping[str, Made], environment: Environment) -> None:
    install, test, enable = packages[kind].commands
    name = f"nanoclaw-a-{kind}"
    assert install == f"python -m pip install --editable ./{name} pytest"
    assert " passed" in environment.run(test, packages[kind].folder.parent)
    environment.run(enable, packages[kind].folder.parent)
    listed = json.loads(environment.run("nanoclaw plugin list --json", packages[kind].folder.parent))
    (plugin,) = [each for each in listed if each["name"] == f"a-{kind}"]
    assert (plugin["state"], plugin["offers"], plugin["distribution"]) == ("enabled", [OFFERS[kind]], name)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_found_wrong_with_it(kind: str, packages: Mapping[str, Made], environment: Environment) -> None:
    judgement = json.loads(environment.run("nanoclaw plugin check . --json", packages[kind].folder))
    assert [finding for finding in judgement["findings"] if finding["verdict"] not in ("pass", "not claimed")] == []
    assert len(judgement["findings"]) > 5


@pytest.mark.parametrize("kind", KINDS)
def test_the_readme_is_true(kind: str, packages: Mapping[str, Made], environment: Environment) -> None:
    """What it says about developing is run as it stands there, but for what the tests above have done."""
    readme = (packages[kind].folder / "README.md").read_text()
    develop = readme.partition("## Develop")[2].partition("```sh\n")[2].partition("```")[0].splitlines()
    done = ("python -m pip ", "python -m pytest", "nanoclaw plugin check .")
    assert [word for word in done if not any(command.startswith(word) for command in develop)] == []
    for command in [command for command in develop if not command.startswith(done)]:
        environment.run(command, packages[kind].folder)


def test_the_readme_says_how_to_install_it(packages: Mapping[str, Made], environment: Environment) -> None:
    folder = packages["channel"].folder
    assert "\nnanoclaw plugin install ./\n" in (folder / "README.md").read_text()
    assert "nanoclaw-a-channel" in environment.run("nanoclaw plugin install ./ --dry-run", folder)


def test_a_name_that_an_installed_plugin_has_is_warned_of(packages: Mapping[str, Made], environment: Environment) -> None:
    elsewhere = packages["action"].folder.parent / "elsewhere"
    command = f"nanoclaw plugin new action a-action --folder {elsewhere} 2>&1"
    printed = environment.run(command, elsewhere.parent)
    assert "Warning: nanoclaw-a-action 0.1.0 is installed and is the plugin a-action, too: yours takes its place" in printed
    assert (elsewhere / "nanoclaw-a-action" / "README.md").exists()


@pytest.mark.parametrize(("kind", "name"), [("channel", "terminal"), ("provider", "demo"), ("action", "send-message")])
def test_a_name_of_something_built_in_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "nanoclaw_core.cli", "plugin", "new", kind, name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 3
    assert f"Choose another, such as 'my-{name}'." in ran.stderr
    assert list(tmp_path.iterdir()) == []
