"""The wheel of nanoclaw-core holds everything that an installation needs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from nanoclaw_core.sandbox.image import container_files, image_tag

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def test_an_installed_package_builds_the_same_image_as_a_checkout(installed: Path) -> None:
    packed = installed / "nanoclaw_core" / "_container"
    assert image_tag(packed, "debian:bookworm-slim") == image_tag(container_files(), "debian:bookworm-slim")


def test_the_templates_of_new_plugins_are_all_there(installed: Path) -> None:
    there, packed = (place / "nanoclaw_core" / "scaffold" / "templates" for place in (ROOT, installed))
    names = {path.relative_to(there) for path in there.rglob("*") if path.is_file()}
    assert {path.relative_to(packed) for path in packed.rglob("*") if path.is_file()} == names


@pytest.mark.parametrize("name", ["py.typed", "store/migrations/versions", "store/migrations/env.py"])
def test_its_data_files_are_there(installed: Path, name: str) -> None:
    assert (installed / "nanoclaw_core" / name).exists()


def test_nothing_else_is_in_it(installed: Path) -> None:
    assert {path.name for path in installed.iterdir() if not path.name.endswith(".dist-info")} == {"nanoclaw_core"}
    assert not list(installed.rglob("tests"))
    assert not list(installed.rglob("*.pyc"))
