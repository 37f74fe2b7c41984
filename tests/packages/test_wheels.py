"""A wheel is read without running it, and what is installed becomes a wheel again."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from nanoclaw_core.errors import InstallRefused
from nanoclaw_core.packages.wheels import licence_of, look_into, repack, sha256_of
from tests.packages.parcels import CHANNEL, EAR, make_wheel, spoil


def test_what_a_wheel_says_of_itself_is_read_and_nothing_of_it_runs(tmp_path: Path) -> None:
    wheel = make_wheel(
        tmp_path, "nanoclaw-unheard", "1.0", requires=("lib-a<2",), plugin="Parrot", code=CHANNEL + EAR + "raise SystemExit"
    )
    content = look_into(wheel)
    assert (content.name, content.version, content.licence) == ("nanoclaw-unheard", "1.0", "MIT")
    assert content.requires == ("lib-a<2",)
    assert content.hooks == {"Parrot": ("nanoclaw_channels", "nanoclaw_event")}
    assert content.sha256 == sha256_of(wheel)
    assert "nanoclaw_unheard" not in sys.modules


@pytest.mark.parametrize(
    "code", ["def broken(:", "", "hooks = make_them()"], ids=["a syntax error", "nothing", "made as it runs"]
)
def test_hooks_that_cannot_be_read_are_none(tmp_path: Path, code: str) -> None:
    assert look_into(make_wheel(tmp_path, "nanoclaw-parrot", "1.0", plugin="parrot", code=code)).hooks == {"parrot": ()}


def test_a_library_has_no_plugins(tmp_path: Path) -> None:
    assert look_into(make_wheel(tmp_path, "lib-a", "1.0")).hooks == {}


@pytest.mark.parametrize("kind", ["another file", "cut off", "no metadata", "a spoilt module", "another name"])
def test_what_is_no_wheel_is_refused(tmp_path: Path, kind: str) -> None:
    wheel = make_wheel(tmp_path, "nanoclaw-parrot", "1.0", plugin="parrot", code=EAR)
    if kind == "another file":
        wheel.write_text("no zip")
    elif kind == "cut off":
        wheel.write_bytes(wheel.read_bytes()[:-50])
    elif kind == "no metadata":
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("nanoclaw_parrot.py", "")
    elif kind == "a spoilt module":
        spoil(wheel, b"nanoclaw_core import hookimpl")
    else:
        wheel = wheel.rename(tmp_path / "parrot.whl")
    with pytest.raises(InstallRefused, match="is no wheel that can be read"):
        look_into(wheel)


@pytest.mark.parametrize(
    ("fields", "licence"),
    [
        ({"License-Expression": "Apache-2.0", "License": "old"}, "Apache-2.0"),
        ({"License": "LGPL-3.0"}, "LGPL-3.0"),
        ({"License": "The whole text\nof it", "Classifier": "License :: OSI Approved :: MIT License"}, "MIT License"),
        ({"License": "The whole text\nof it"}, "see its text"),
        ({"Classifier": "Topic :: Chat"}, "not stated"),
    ],
)
def test_the_licence_is_what_the_newest_field_states(fields: dict[str, str], licence: str) -> None:
    head = Message()
    for name, value in fields.items():
        head[name] = value
    assert licence_of(head) == licence


INSPECT = """
import sys
from pathlib import Path
from nanoclaw_core.packages.wheels import repack
print(repack("lib-tool", Path(sys.argv[1])))
"""


def test_what_was_repacked_installs_as_before(template: Path, tmp_path: Path, nanoclaw_home: Path) -> None:
    from tests.packages.parcels import Environment

    environment = Environment(tmp_path, template, nanoclaw_home)
    make_wheel(
        environment.index,
        "lib-tool",
        "1.0",
        files={
            "lib_tool-1.0.dist-info/entry_points.txt": "[console_scripts]\nlib-tool = lib_tool:main\n",
            "lib_tool-1.0.data/data/share/lib-tool/words.txt": "words",
            "lib_tool-1.0.data/scripts/lib-script": "#!python\nprint('script')\n",
        },
        code="def main(): print('main')\n",
    )
    environment.pip("install", "lib-tool")
    root = environment.python.parents[1]
    files = ["bin/lib-tool", "bin/lib-script", "share/lib-tool/words.txt"]
    before = {name: ((root / name).read_bytes(), (root / name).stat().st_mode) for name in files}

    ran = subprocess.run([environment.python, "-c", INSPECT, tmp_path], capture_output=True, text=True, check=True)
    wheel = Path(ran.stdout.strip())
    environment.pip("uninstall", "--yes", "lib-tool")
    assert not any((root / name).exists() for name in files)
    environment.pip("install", wheel)
    assert {name: ((root / name).read_bytes(), (root / name).stat().st_mode) for name in files} == before
    assert environment.versions("lib-tool") == {"lib-tool": "1.0"}


def test_the_same_installation_makes_the_same_wheel(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    assert sha256_of(repack("pluggy", tmp_path / "one")) == sha256_of(repack("pluggy", tmp_path / "two"))
