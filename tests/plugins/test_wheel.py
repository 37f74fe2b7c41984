"""A stranger's plugin through its whole life: built as a wheel, installed, enabled, used, disabled, uninstalled.

The host's side runs in a fresh interpreter of a scratch environment each time, as it does for users.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

SAMPLE = Path(__file__).parent.parent / "sample_plugins" / "nanoclaw-parrot"

HOST = """
import anyio, json, os, sys
from dataclasses import asdict
from pathlib import Path
from nanoclaw_core import ChannelContext, Event
from nanoclaw_core.installed import disable, enable, enabled
from nanoclaw_core.models import Address, OutboundMessage
from nanoclaw_core.plugins import load
import structlog

structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
home = Path(sys.argv[1])
{"enable": enable, "disable": disable}.get(sys.argv[2], lambda home, name: None)(home, "parrot")
plugins = load(enabled(home), [])
report = {"plugins": [asdict(status) for status in plugins.statuses], "imported": "nanoclaw_parrot" in sys.modules}
if report["imported"]:
    channel = plugins.choose("channel", "parrot").create(ChannelContext(settings={}, wake=print))
    message = OutboundMessage(to=Address(channel="parrot", chat="cage"), text="hello", key="1")
    report["receipt"] = anyio.run(channel.send, message).message_id
    action = plugins.choose("action", "roll_dice")
    report["rolled"] = anyio.run(action.handler, None, action.parameters(sides=2))
    plugins.tell(Event(name="turn.ended", at=0.0, data={}))
    report["heard"] = sys.modules["nanoclaw_parrot"].heard["turn.ended"]
print(json.dumps(report))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample plugin, built the way its author builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = shutil.copytree(SAMPLE, folder / "source")
    call(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, source)
    (built,) = folder.glob("*.whl")
    return built


class Environment:
    """A virtual environment of its own that also sees everything installed beside these tests."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, symlinks=True)
        self.python = folder / "bin" / "python"
        (self.site,) = folder.glob("lib/python*/site-packages")
        (self.site / "beside.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")

    def pip(self, *arguments: str | Path) -> None:
        call(sys.executable, "-m", "pip", "--python", self.python, "--disable-pip-version-check", *arguments)

    def host(self, home: Path, command: str = "list") -> dict[str, Any]:
        """Run the host's side once; `command` is list, enable or disable."""
        report: dict[str, Any] = json.loads(call(self.python, "-W", "error", "-c", HOST, home, command))
        report["parrot"] = next((line for line in report["plugins"] if line["name"] == "parrot"), None)
        return report


@pytest.fixture
def environment(wheel: Path, tmp_path: Path) -> Environment:
    """An environment into which the wheel was installed."""
    made = Environment(tmp_path / "venv")
    made.pip("install", "--no-index", "--no-deps", wheel)
    return made


def call(*argv: str | Path) -> str:
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_the_life_of_a_plugin(environment: Environment, nanoclaw_home: Path) -> None:
    found = environment.host(nanoclaw_home)
    assert found["parrot"]["state"] == "available"
    assert found["parrot"]["version"] == "1.2.0"
    assert not found["imported"]

    used = environment.host(nanoclaw_home, "enable")
    assert used["parrot"]["state"] == "enabled"
    assert used["parrot"]["offers"] == ["channel parrot", "action roll_dice", "events"]
    assert (used["receipt"], used["heard"]) == ("1", 1)
    assert used["rolled"].startswith("You rolled a")

    disabled = environment.host(nanoclaw_home, "disable")
    assert disabled["parrot"]["state"] == "available"
    assert not disabled["imported"]

    environment.host(nanoclaw_home, "enable")
    environment.pip("uninstall", "--yes", "nanoclaw-parrot")
    assert environment.host(nanoclaw_home)["parrot"]["state"] == "missing"


def test_a_broken_release_is_listed_and_the_host_goes_on(environment: Environment, nanoclaw_home: Path) -> None:
    (environment.site / "nanoclaw_parrot" / "__init__.py").write_text("raise SystemExit('this release is broken')")
    report = environment.host(nanoclaw_home, "enable")
    assert report["parrot"]["state"] == "broken"
    assert "this release is broken" in report["parrot"]["reason"]


def test_a_release_for_another_core_is_listed_with_the_range_it_wants(environment: Environment, nanoclaw_home: Path) -> None:
    (metadata,) = environment.site.glob("nanoclaw_parrot-*.dist-info/METADATA")
    metadata.write_text(metadata.read_text().replace("nanoclaw-core<0.2,>=0.1", "nanoclaw-core<9,>=8"))
    report = environment.host(nanoclaw_home, "enable")
    assert report["parrot"]["reason"].startswith("nanoclaw-parrot 1.2.0 needs nanoclaw-core<9,>=8, but ")
    assert not report["imported"]
