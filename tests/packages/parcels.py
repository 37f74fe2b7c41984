"""Wheels made on the fly, and an environment of its own into which they are installed by the commands of a user."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

from nanoclaw_core import installed

CORE = ("nanoclaw-core>=0.1,<0.2",)

CHANNEL = """
from nanoclaw_core import ChannelFactory, Manifest, SetupField, hookimpl

@hookimpl
def nanoclaw_channels():
    field = SetupField(variable="PARROT_TOKEN", label="Token")
    return [ChannelFactory(name="parrot", summary="", create=print, manifest=Manifest(fields=(field,)))]
"""
EAR = """
from nanoclaw_core import hookimpl

@hookimpl
def nanoclaw_event(event):
    pass
"""


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    *,
    requires: tuple[str, ...] = (),
    plugin: str = "",
    code: str = "",
    licence: str = "MIT",
    files: dict[str, str] | None = None,
) -> Path:
    """A wheel of the module `name` with underscores; `plugin` makes it one."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    needs = [f"Requires-Dist: {each}" for each in requires]
    head = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", f"License-Expression: {licence}", *needs]
    contents = {
        f"{module}/__init__.py": code,
        f"{info}/METADATA": "\n".join(head) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **({f"{info}/entry_points.txt": f"[nanoclaw]\n{plugin} = {module}\n"} if plugin else {}),
        **(files or {}),
    }
    digests = {path: hashlib.sha256(text.encode()).digest() for path, text in contents.items()}
    lines = [
        f"{path},sha256={base64.urlsafe_b64encode(digests[path]).rstrip(b'=').decode()},{len(text.encode())}"
        for path, text in contents.items()
    ]
    folder.mkdir(exist_ok=True)
    file = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in {**contents, f"{info}/RECORD": "\n".join([*lines, f"{info}/RECORD,,\n"])}.items():
            archive.writestr(path, text)
    return file


def spoil(wheel: Path, text: bytes) -> None:
    """Change a file inside, so that it lists and describes itself as before, and cannot be unpacked."""
    content = wheel.read_bytes()
    assert content.count(text) == 1
    wheel.write_bytes(content.replace(text, text[::-1]))


class Environment:
    """A virtual environment with nanoclaw-core from its wheel, an index of its own, and a home.

    What the core needs is taken from the environment of these tests; `nanoclaw` and pip do not see any other index.
    """

    def __init__(self, folder: Path, template: Path, home: Path) -> None:
        shutil.copytree(template, folder / "venv", symlinks=True)
        self.python = folder / "venv" / "bin" / "python"
        (self.site,) = (folder / "venv").glob("lib/python*/site-packages")
        self.index, self.home = folder / "index", home
        self.index.mkdir()
        self.variables = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PIP_")},
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.index),
            "PIP_NO_BUILD_ISOLATION": "0",  # read by pip as: do not isolate
            "NANOCLAW_HOME": str(home),
        }

    def pip(self, *arguments: str | Path) -> None:
        """What a user does without NanoClaw."""
        ran = self._run(self.python, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments)
        assert ran.returncode == 0, ran.stderr

    def nanoclaw(self, *words: str | Path, code: int = 0) -> str:
        """All that the command says."""
        ran = self._run(self.python, "-m", "nanoclaw_core.cli", *words)
        assert ran.returncode == code, ran.stdout + ran.stderr
        return " ".join((ran.stdout + ran.stderr).split())

    def plugin(self, name: str) -> dict[str, Any]:
        """Its line in the list."""
        listed: list[dict[str, Any]] = json.loads(self.nanoclaw("plugin", "list", "--json"))
        return next((line for line in listed if line["name"] == name), {})

    def versions(self, *names: str) -> dict[str, str]:
        """The versions of these distributions, those that are installed."""
        there = {each.name: each.version for each in metadata.distributions(path=[str(self.site)])}
        return {name: there[name] for name in names if name in there}

    @property
    def lock(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.home / "plugins.lock").read_text())
        return found

    @property
    def enabled(self) -> list[str]:
        return installed.enabled(self.home)

    def locked(self) -> dict[str, tuple[str, str]]:
        """The version and the source of each package of the current set."""
        return {each["name"]: (each["version"], each["source"]) for each in self.lock["current"]["packages"]}

    def _run(self, *argv: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            argv, env=self.variables, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL
        )


def _beside(folder: Path) -> Path:
    """Everything that is installed beside these tests, but for NanoClaw and its plugins."""
    beside = folder / "beside"
    beside.mkdir()
    for path in Path(sysconfig.get_path("purelib")).iterdir():
        if path.suffix != ".pth" and not path.name.lstrip("_").startswith(("nanoclaw", "editable")):
            (beside / path.name).symlink_to(path)
    return beside


def make_template(folder: Path) -> Path:
    """The virtual environment that all others are copies of: nanoclaw-core as it is released, and a way to what it needs."""
    root = Path(__file__).parents[2]
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(root)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    (core,) = folder.glob("*.whl")
    venv.create(folder / "venv", symlinks=True)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    (site / "beside.pth").write_text(f"{_beside(folder)}\n")
    python = str(folder / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", str(core)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    return folder / "venv"


# --- a plugin with two releases ---------------------------------------------------------------------------------------------


def stock(environment: Environment) -> None:
    """A plugin, and two releases of a library of which it wants the first."""
    for version in ("1.0", "2.0"):
        make_wheel(environment.index, "lib-seed", version, licence="BSD-3-Clause")
    make_wheel(environment.index, "nanoclaw-parrot", "1.0", requires=(*CORE, "lib-seed<2"), plugin="parrot", code=CHANNEL)


def release(environment: Environment) -> None:
    """The plugin's next version, which wants the second."""
    make_wheel(environment.index, "nanoclaw-parrot", "2.0", requires=(*CORE, "lib-seed>=2"), plugin="parrot", code=CHANNEL)


def parrot(environment: Environment) -> dict[str, str]:
    """What is installed of both."""
    return environment.versions("nanoclaw-parrot", "lib-seed")
