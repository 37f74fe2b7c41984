"""The tag of the worker image says everything that is in it, and a missing image is built once."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from nanoclaw_core.errors import ImageBuildFailed
from nanoclaw_core.sandbox import image as image_module
from nanoclaw_core.sandbox.base import ensure_base
from nanoclaw_core.sandbox.image import WorkerImage, build_context, container_files, found_ca_bundle, image_tag
from tests.sandbox.fakes import ListedRuntime, PullingLists

BASE = "debian:bookworm-slim"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    root = tmp_path / "container"
    for name in ("runner/nanoclaw_runner/__main__.py", "runner/stand_ins/mcp/__init__.py", "runner/tests/test_runner.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"# {name}\n")
    for name in ("Dockerfile", "requirements.txt", "PROTOCOL.md"):
        (root / name).write_text(f"# {name}\n")
    (root / "base.sh").write_text('printf "made" > "$1"; echo done\n')
    return root


@pytest.mark.parametrize(
    "name",
    [
        "Dockerfile",
        "requirements.txt",
        "base.sh",
        "runner/nanoclaw_runner/__main__.py",
        "runner/nanoclaw_runner/added.py",
        "runner/stand_ins/mcp/__init__.py",
    ],
)
def test_a_change_of_what_goes_in_changes_the_tag(files: Path, name: str) -> None:
    before = image_tag(files, BASE)
    (files / name).write_text("changed")
    assert image_tag(files, BASE) != before


@pytest.mark.parametrize(
    "name", ["PROTOCOL.md", "runner/tests/test_runner.py", "runner/nanoclaw_runner/__pycache__/__main__.cpython-311.pyc"]
)
def test_a_change_of_what_stays_out_leaves_the_tag(files: Path, name: str) -> None:
    before = image_tag(files, BASE)
    (files / name).parent.mkdir(exist_ok=True)
    (files / name).write_text("changed")
    assert image_tag(files, BASE) == before


def test_a_moved_line_between_two_files_changes_the_tag(files: Path) -> None:
    runner = files / "runner/nanoclaw_runner"
    (runner / "a.py").write_text("xy")
    (runner / "b.py").write_text("z")
    before = image_tag(files, BASE)
    (runner / "a.py").write_text("x")
    (runner / "b.py").write_text("yz")
    assert image_tag(files, BASE) != before


def test_another_base_changes_the_tag(files: Path) -> None:
    assert image_tag(files, BASE) != image_tag(files, "debian:trixie-slim")


def test_another_protocol_changes_the_tag(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = image_tag(files, BASE)
    monkeypatch.setattr(image_module, "PROTOCOL", 2)
    assert image_tag(files, BASE) != before


def test_a_tag_is_twelve_hexadecimal_digits(files: Path) -> None:
    name, digits = image_tag(files, BASE).split(":")
    assert name == "nanoclaw-worker"
    assert len(digits) == 12
    assert int(digits, 16) >= 0


def test_the_same_files_give_the_same_bytes_whenever_they_were_written(files: Path) -> None:
    before = build_context(files, "t:1", BASE, None).archive
    (files / "Dockerfile").touch()
    (files / "Dockerfile").chmod(0o600)
    assert build_context(files, "t:1", BASE, None).archive == before


def test_certificates_go_into_the_build(files: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "corporate.pem"
    bundle.write_text("CERT")
    archive = build_context(files, "t:1", BASE, bundle).archive
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.extractfile("ca-bundle.pem")
        assert member is not None
        assert member.read() == b"CERT"


async def test_certificates_leave_the_tag_alone(files: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "corporate.pem"
    bundle.write_text("CERT")
    runtime = ListedRuntime()
    assert await WorkerImage(runtime, files=files, ca_bundle=bundle).tag() == await WorkerImage(runtime, files=files).tag()


def test_tests_and_compiled_code_stay_out_of_the_build(files: Path) -> None:
    (files / "runner/nanoclaw_runner/__pycache__").mkdir()
    (files / "runner/nanoclaw_runner/__pycache__/x.pyc").write_bytes(b"")
    with tarfile.open(fileobj=io.BytesIO(build_context(files, "t:1", BASE, None).archive)) as tar:
        assert sorted(tar.getnames()) == [
            "Dockerfile",
            "requirements.txt",
            "runner/nanoclaw_runner/__main__.py",
            "runner/stand_ins/mcp/__init__.py",
        ]


def test_a_checkout_has_its_container_files() -> None:
    assert (container_files() / "Dockerfile").is_file()


def test_certificates_are_found_where_the_usual_variables_name_a_file(tmp_path: Path) -> None:
    bundle = tmp_path / "ca.pem"
    bundle.write_text("CERT")
    assert found_ca_bundle({"SSL_CERT_FILE": "/nowhere.pem", "REQUESTS_CA_BUNDLE": str(bundle)}) == bundle


def test_without_such_a_variable_it_is_the_systems_own() -> None:
    assert found_ca_bundle({}) == found_ca_bundle({"SSL_CERT_FILE": ""})
    found = found_ca_bundle({})
    assert found is None or "BEGIN CERTIFICATE" in found.read_text()


async def test_an_image_that_is_there_is_not_built_again(files: Path) -> None:
    runtime = ListedRuntime(images={image_tag(files, BASE)})
    await WorkerImage(runtime, files=files).ensure(print)
    assert runtime.built == []


async def test_several_callers_wait_for_one_build(files: Path) -> None:
    runtime = ListedRuntime(images={BASE})
    image = WorkerImage(runtime, files=files)
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(image.ensure, print)
    assert len(runtime.built) == 1


async def test_a_runner_changed_since_the_last_worker_is_built_anew(files: Path) -> None:
    runtime = ListedRuntime(images={BASE})
    image = WorkerImage(runtime, files=files)
    before = await image.ensure(print)
    (files / "runner/nanoclaw_runner/__main__.py").write_text("changed")
    assert await image.ensure(print) != before
    assert len(runtime.built) == 2


async def test_a_base_that_is_here_is_taken(files: Path) -> None:
    assert await ensure_base(ListedRuntime(images={BASE}), BASE, files / "base.sh", print) == BASE


async def test_a_base_that_the_registry_has_is_fetched(files: Path) -> None:
    runtime = PullingLists(registry={BASE})
    assert await ensure_base(runtime, BASE, files / "base.sh", print) == BASE


async def test_without_a_registry_a_base_is_made_of_packages_and_said_so(files: Path) -> None:
    runtime, lines = PullingLists(), list[str]()
    tag = await ensure_base(runtime, BASE, files / "base.sh", lines.append)
    assert runtime.imported == [(tag, b"made")]
    assert "no such host" in lines[0]
    assert lines[-1] == "done"


async def test_the_worker_image_is_built_on_the_substitute(files: Path) -> None:
    runtime = PullingLists()
    await WorkerImage(runtime, files=files).ensure(print)
    assert runtime.built[0].arguments == {"BASE_IMAGE": runtime.imported[0][0]}


async def test_a_substitute_is_made_only_once(files: Path) -> None:
    runtime = PullingLists()
    first = await ensure_base(runtime, BASE, files / "base.sh", print)
    assert await ensure_base(runtime, BASE, files / "base.sh", print) == first
    assert len(runtime.imported) == 1


async def test_another_package_list_makes_another_substitute(files: Path) -> None:
    runtime = PullingLists()
    first = await ensure_base(runtime, BASE, files / "base.sh", print)
    (files / "base.sh").write_text('printf "more" > "$1"\n')
    assert await ensure_base(runtime, BASE, files / "base.sh", print) != first


async def test_a_base_that_somebody_chose_has_no_substitute(files: Path) -> None:
    with pytest.raises(ImageBuildFailed, match=r"corp/base:1.*no such host"):
        await ensure_base(PullingLists(), "corp/base:1", files / "base.sh", print)


async def test_a_substitute_that_cannot_be_made_says_why(files: Path) -> None:
    (files / "base.sh").write_text("echo working; echo 'mmdebstrap is missing' >&2; exit 4\n")
    with pytest.raises(ImageBuildFailed, match="mmdebstrap is missing"):
        await ensure_base(PullingLists(), BASE, files / "base.sh", print)


class Silent(PullingLists):
    async def pull_image(self, tag: str, report: Callable[[str], None]) -> str | None:
        await anyio.sleep_forever()
        raise AssertionError


async def test_a_registry_that_says_nothing_is_given_up(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nanoclaw_core.sandbox.base._SILENCE", 0.01)
    lines: list[str] = []
    with anyio.fail_after(30):
        await ensure_base(Silent(), BASE, files / "base.sh", lines.append)
    assert "the registry does not answer" in lines[0]
