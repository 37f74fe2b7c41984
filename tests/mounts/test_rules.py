"""What may never be mounted, whatever a policy says, and what of a writable folder stays read-only."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest

from nanoclaw_core.errors import MountRefused
from nanoclaw_core.models import MountDecision, MountVerdict
from nanoclaw_core.sandbox import sources
from nanoclaw_core.sandbox.mounts import MountRules, default_name
from nanoclaw_core.sandbox.sources import held, look_through
from tests.mounts.conftest import MAIN, OTHER, Land, mount

ALLOWED = {"everything": MountVerdict(decision=MountDecision.ALLOW)}


@pytest.fixture
def lax(land: Land, monkeypatch: pytest.MonkeyPatch) -> Land:
    """Its policy allows everything: what is refused here is refused by NanoClaw itself."""
    monkeypatch.setattr(Land, "rules", property(lambda self: MountRules(home=self.home, judge=lambda _: ALLOWED)))
    return land


def bound(path: Path) -> Path:
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.close()
    return path


def device(path: Path) -> Path:
    try:
        os.mknod(path, 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("this user may make no device")
    return path


def pipe(path: Path) -> Path:
    os.mkfifo(path)
    return path


# --- the path ---------------------------------------------------------------------------------------------------------------


def test_a_folder_and_a_plain_file_may_be_mounted(lax: Land) -> None:
    file = lax.root / "a.txt"
    file.touch()
    for source in (lax.folder("notes"), file):
        (seen,) = lax.judged(source).mounts
        assert (seen.mount.source, seen.mount.target, seen.mount.read_only) == (source, "/workspace-extra/it", True)
        assert seen.identity == (source.stat().st_dev, source.stat().st_ino)


@pytest.mark.parametrize("text", ["relative", "/srv/../etc", "/srv/no/such/folder", "/srv/a\nb", "/srv/\udcff"])
def test_a_path_that_is_not_plain_or_not_there_is_refused(lax: Land, text: str) -> None:
    judgement = lax.judged(Path(text))
    assert judgement.refusal
    assert judgement.mounts == ()


def test_names_that_mean_something_to_others_are_harmless(lax: Land) -> None:
    source = lax.folder("a:b,c ro=1")
    (seen,) = lax.judged(source).mounts
    assert seen.mount.source == source


def test_a_link_is_refused_wherever_it_is_in_the_path(lax: Land) -> None:
    lax.folder("place/inner")
    (lax.root / "link").symlink_to(lax.root / "place")
    for source in (lax.root / "link", lax.root / "link" / "inner"):
        assert "'link' in its path is a link" in lax.judged(source).refusal


@pytest.mark.parametrize("make", [bound, pipe, device])
def test_sockets_pipes_and_devices_are_refused_also_below(lax: Land, make: Callable[[Path], Path]) -> None:
    folder = lax.folder("notes/deep")
    special = make(folder / "it")
    assert "neither a folder nor a plain file" in lax.judged(special).refusal
    assert "it holds a socket, a pipe or a device: 'deep/it'" in lax.judged(folder.parent).refusal


def test_a_link_in_a_folder_is_no_reason_to_refuse_it_and_is_not_followed(lax: Land) -> None:
    folder = lax.folder("notes")
    (folder / "out").symlink_to("/proc")
    assert lax.judged(folder).mounts


# --- the place ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/proc", "/proc/self/fd", "/sys", "/dev", "/dev/shm", "/run"])  # noqa: S108
def test_places_of_the_system_are_refused(lax: Land, path: str) -> None:
    source = Path(path).resolve()
    if not source.exists():
        pytest.skip(f"{path} is not there")
    assert lax.judged(source).refusal


def test_the_home_folder_is_refused_and_everything_above_it_but_not_what_is_in_it(lax: Land) -> None:
    assert "it is your home folder" in lax.judged(lax.person).refusal
    assert "it holds your home folder" in lax.judged(lax.person.parent).refusal
    assert lax.judged(lax.folder("notes")).mounts


def test_nanoclaws_own_folders_are_refused_with_all_above_and_in_them(lax: Land) -> None:
    (lax.home / "groups").mkdir()
    for source in (lax.home, lax.home / "groups", lax.policies, lax.policies.parent):
        assert lax.judged(source).refusal
    inner = lax.folder("around/home")
    moved = MountRules(home=inner, judge=lambda _: ALLOWED)
    _, wish = mount(inner.parent)
    assert "it holds NanoClaw's own home" in moved.judged(MAIN, wish, []).refusal


def test_the_socket_of_the_engine_is_refused_wherever_it_is(lax: Land, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = lax.folder("engine")
    monkeypatch.setenv("DOCKER_HOST", f"unix://{bound(folder / 'docker.sock')}")
    assert "it holds a place of the container engine" in lax.judged(folder).refusal


def test_what_a_place_is_counts_not_what_it_is_called(lax: Land) -> None:
    """A bind mount is another name of the same folder, as another spelling is where case does not count."""
    alias = lax.folder("alias")
    done = subprocess.run(["mount", "--bind", str(lax.home), str(alias)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
    try:
        assert "it is NanoClaw's own home" in lax.judged(alias).refusal
        assert "another file system is mounted in it" in lax.judged(alias.parent).refusal
    finally:
        subprocess.run(["umount", "--lazy", str(alias)], check=True)


# --- other mounts -------------------------------------------------------------------------------------------------------------


def test_an_agent_sees_nothing_twice(lax: Land) -> None:
    outer, inner = lax.folder("outer"), lax.folder("outer/inner")
    for source, other in ((outer, outer), (outer, inner), (inner, outer)):
        assert "of the same agent" in lax.judged(source, mount(other)).refusal


@pytest.mark.parametrize("name", ["it", "IT"])
def test_a_name_is_given_once_to_an_agent(lax: Land, name: str) -> None:
    taken = lax.folder("taken")
    assert "already" in lax.judged(lax.folder("free"), mount(taken, name)).refusal
    assert lax.judged(lax.root / "free", mount(taken, name, agent=OTHER)).mounts


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a:b", "a,b", "a\nb", "-x", "é", "x" * 65])
def test_a_name_that_could_mean_something_else_is_refused(lax: Land, name: str) -> None:
    assert "cannot be its name" in lax.judged(lax.folder("notes"), name=name).refusal


def test_nothing_lies_in_what_another_agent_can_write(lax: Land) -> None:
    """It could put a link in the place of a part of the path."""
    outer, inner = lax.folder("outer"), lax.folder("outer/inner")
    assert "the outer one is writable" in lax.judged(inner, mount(outer, agent=OTHER, read_only=False)).refusal
    assert "the outer one is writable" in lax.judged(outer, mount(inner, agent=OTHER), read_only=False).refusal
    assert lax.judged(inner, mount(outer, agent=OTHER)).mounts
    assert lax.judged(outer, mount(outer, agent=OTHER, read_only=False), read_only=False).mounts


# --- looking through


def test_what_is_too_large_too_deep_or_too_slow_is_refused(lax: Land, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1000):
        (lax.root / str(number)).touch()
    with held(lax.root) as source:
        with pytest.raises(MountRefused, match="too large"):
            look_through(source, most=999)
        with pytest.raises(MountRefused, match="too large"):
            look_through(source, now=count(step=20).__next__)
        assert len(look_through(source).names) == 1000
    monkeypatch.setattr(sources, "MOST_DEPTH", 3)
    lax.folder("a/b/c/d/e")
    assert "too deep" in lax.judged(lax.root).refusal


def test_looking_through_leaves_nothing_open(lax: Land) -> None:
    lax.folder("a/b/c")
    before = sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208  # names, not paths
    assert lax.judged(lax.root).mounts
    assert lax.judged(Path("/proc/self")).refusal
    assert sorted(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# --- policies -----------------------------------------------------------------------------------------------------------------


def test_the_policies_are_told_what_is_in_the_folder(land: Land) -> None:
    (land.folder("notes/deep") / "Id_Rsa").touch()
    judgement = land.judged(land.root / "notes")
    assert "it holds 'deep/Id_Rsa', a name that is blocked" in judgement.refusal
    assert [(each.rule, each.passed) for each in judgement.findings][-1] == ("mount-allowlist", False)


def test_without_any_policy_nothing_is_allowed(land: Land) -> None:
    _, wish = mount(land.root)
    assert MountRules(home=land.home, judge=lambda _: {}).judged(MAIN, wish, []).refusal == "no policy allows it"


def test_a_policy_narrows(land: Land) -> None:
    judgement = land.judged(land.root, agent=OTHER, read_only=False)
    assert judgement.read_only
    assert "nonMainReadOnly" in judgement.narrowed


# --- writing ------------------------------------------------------------------------------------------------------------------


def test_in_a_writable_folder_stays_read_only_what_programs_of_the_owner_run(lax: Land) -> None:
    for name in (".git/hooks", ".Vscode", "src"):
        lax.folder(name)
    (lax.root / ".envrc").touch()
    whole, *masks = lax.judged(lax.root, read_only=False).mounts
    assert not whole.mount.read_only
    assert [(each.mount.source, each.mount.target, each.mount.read_only) for each in masks] == [
        (lax.root / name, f"/workspace-extra/it/{name}", True) for name in (".Vscode", ".envrc", ".git")
    ]
    assert masks[1].identity == ((lax.root / ".envrc").stat().st_dev, (lax.root / ".envrc").stat().st_ino)


def test_a_folder_with_a_repository_further_below_is_read_only(lax: Land) -> None:
    lax.folder("code/site/.git")
    judgement = lax.judged(lax.root, read_only=False)
    assert judgement.read_only
    assert "'code/site'" in judgement.narrowed
    assert len(judgement.mounts) == 1


def test_a_guarded_name_that_is_a_link_makes_the_folder_read_only(lax: Land) -> None:
    (lax.root / ".vscode").symlink_to(lax.folder("elsewhere"))
    judgement = lax.judged(lax.root, read_only=False)
    assert judgement.read_only
    assert "'.vscode' in it is a link" in judgement.narrowed


def test_the_program_of_the_host_is_never_writable(lax: Land, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", str(lax.folder("project/.venv")))
    judgement = lax.judged(lax.root / "project", read_only=False)
    assert judgement.read_only
    assert "the program of this host" in judgement.narrowed


@pytest.mark.parametrize(
    ("mode", "read_only", "words"),
    [(0o755, True, ""), (0o700, True, "no right to read"), (0o755, False, "no right to write"), (0o777, False, "")],
)
def test_a_folder_that_is_closed_to_the_workers_user_is_mounted_and_that_is_said(
    lax: Land, mode: int, read_only: bool, words: str
) -> None:
    folder = lax.folder("notes")
    folder.chmod(mode)
    _, wish = mount(folder, read_only=read_only)
    judgement = replace(lax.rules, user="70001:70001").judged(MAIN, wish, [])
    assert judgement.mounts
    assert words in judgement.narrowed
    assert bool(judgement.narrowed) is bool(words)


@pytest.mark.parametrize(
    ("path", "name"), [("/srv/notes", "notes"), ("/srv/.hidden", "hidden"), ("/srv/a b:c", "a-b-c"), ("/srv/…", "folder")]
)
def test_a_folder_is_called_as_it_is_where_nobody_says(path: str, name: str) -> None:
    assert default_name(Path(path)) == name
