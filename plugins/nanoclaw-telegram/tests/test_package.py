"""The package as others install it: its wheel is whole and works beside nanoclaw-core alone; unused, it costs nothing."""

from __future__ import annotations

import doctest
import json
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import requires
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nanoclaw_core import Manifest
from nanoclaw_telegram import ids, nanoclaw_channels, words
from tests.peers.telegram import TelegramPeer
from tests.peers.telegram_chats import HOME

PACKAGE = Path(__file__).parent.parent
ROOT = PACKAGE.parent.parent

SEND = """
import anyio, json, os, sys
from nanoclaw_core import Address, ChannelContext, OutboundMessage
import nanoclaw_telegram
(factory,) = nanoclaw_telegram.nanoclaw_channels()
early = "telegram" in sys.modules
channel = factory.create(ChannelContext(settings=dict(os.environ), wake=print))
to = Address(channel="telegram", chat=sys.argv[1])
receipt = anyio.run(channel.send, OutboundMessage(to=to, text="**hello**", key="1"))
print(json.dumps({"early": early, "receipt": receipt.message_id, "from": nanoclaw_telegram.__file__}))
"""

HOST = """
import sys
from pathlib import Path
from nanoclaw_core.installed import enabled
from nanoclaw_core.plugins import load
import nanoclaw_core.host
plugins = load(enabled(Path(sys.argv[1])), [])
print([(status.name, status.state.value) for status in plugins.statuses if status.name == "telegram"])
print([name for name in ("telegram", "nanoclaw_telegram", "httpx") if name in sys.modules])
"""


def call(*argv: str | Path, **environment: str) -> str:
    ran = subprocess.run(argv, capture_output=True, text=True, check=False, env=environment or None, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, built the way it is published."""
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(PACKAGE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {f"nanoclaw_telegram/{path.name}" for path in (PACKAGE / "nanoclaw_telegram").glob("*.py")}
    assert modules | {"nanoclaw_telegram/py.typed"} == {name for name in names if ".dist-info/" not in name}
    assert {"LICENSE", "METADATA", "entry_points.txt"} <= {name.rpartition("/")[2] for name in names}


def needed(*names: str) -> set[str]:
    """The distributions that these need, and those that they need, without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        asked = [Requirement(line) for line in requires(name) or ()]
        waiting += [item.name for item in asked if item.marker is None or item.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture
def environment(wheel: Path, tmp_path: Path) -> Path:
    """The interpreter of an environment with the wheel, nanoclaw-core, what they say they need, and nothing else."""
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    call(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "--disable-pip-version-check",
        "install",
        "--no-index",
        "--no-deps",
        wheel,
    )
    shutil.copytree(ROOT / "nanoclaw_core", site / "nanoclaw_core", ignore=shutil.ignore_patterns("__pycache__"))
    everything = Path(sysconfig.get_path("purelib"))
    for metadata in everything.glob("*.dist-info"):
        if canonicalize_name(metadata.name.partition("-")[0]) in needed("nanoclaw-telegram") - {
            "nanoclaw-core",
            "nanoclaw-telegram",
        }:
            for line in (metadata / "RECORD").read_text().splitlines():
                first = line.partition("/")[0].partition(",")[0].strip('"')
                if first not in ("..", "") and not (site / first).exists() and (everything / first).exists():
                    (site / first).symlink_to(everything / first)
    return python


async def test_it_works_with_what_it_says_it_needs_and_imports_its_library_late(
    environment: Path, platform: TelegramPeer
) -> None:
    values = {"TELEGRAM_BOT_TOKEN": platform.token, "TELEGRAM_API_URL": platform.url}
    ran = await anyio.run_process([str(environment), "-I", "-W", "error", "-c", SEND, str(HOME["id"])], env=values, stderr=None)
    report: dict[str, Any] = json.loads(ran.stdout)
    assert not report["early"]
    assert report["from"].startswith(str(environment.parent.parent))
    assert platform.chats.messages[HOME["id"], int(report["receipt"])]["text"] == "hello"


def test_a_host_that_has_it_installed_but_not_enabled_imports_nothing_of_it(nanoclaw_home: Path) -> None:
    listed, imported = call(sys.executable, "-c", HOST, nanoclaw_home).splitlines()
    assert listed == "[('telegram', 'available')]"
    assert imported == "[]"


def test_the_manifest_says_what_a_person_has_to_supply() -> None:
    (factory,) = nanoclaw_channels()
    assert isinstance(factory.manifest, Manifest)
    token, url = factory.manifest.fields
    assert (token.variable, token.secret, token.required) == ("TELEGRAM_BOT_TOKEN", True, True)
    assert (url.variable, url.secret, url.required) == ("TELEGRAM_API_URL", False, False)
    assert "BotFather" in token.where
    assert factory.manifest.pairs


def test_the_readme_names_every_variable_and_the_changelog_this_version() -> None:
    readme = (PACKAGE / "README.md").read_text(encoding="utf-8")
    (factory,) = nanoclaw_channels()
    assert [field.variable for field in factory.manifest.fields if field.variable not in readme] == []
    version = re.search(r'^version = "(.+)"', (PACKAGE / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert f"## {version[1]} " in (PACKAGE / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("module", [ids, words], ids=lambda module: module.__name__)
def test_the_examples_in_its_docstrings_hold(module: ModuleType) -> None:
    found = doctest.testmod(module)
    assert (found.failed, found.attempted > 0) == (0, True)
