"""What a worker's container is given, and what it is not."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from nanoclaw_core.errors import HomeUnusable
from nanoclaw_core.models import AgentGroup, ContainerSpec, Limits, WorkerIdentity
from nanoclaw_core.sandbox.spec import WorkerPlace, container_name, prepare_folder, worker_spec, worker_user


def spec_of(agent: str = "Andy") -> ContainerSpec:
    group = AgentGroup(id="g1", name=agent, folder="main")
    return worker_spec(
        WorkerPlace(
            identity=WorkerIdentity(worker_id="w5f3a", session_id="s1", agent_group=group, secret_hash="5ec4e7"),
            installation_id="home-1",
            image="nanoclaw-worker:abc",
            user="70001:70001",
            sockets=Path("/h/workers/w5f3a"),
            inbox=Path("/h/sessions/g1/s1/inbox"),
            workspace=Path("/h/groups/main"),
            state=Path("/h/sessions/g1/s1/state"),
            limits=Limits(memory=2**31, cpus=2, pids=512, tmp=2**28),
            timezone="Europe/Berlin",
        )
    )


def test_only_the_workspace_and_the_state_can_be_written() -> None:
    assert {mount.target for mount in spec_of().mounts if not mount.read_only} == {"/workspace", "/home/agent"}


def test_the_mounts_are_the_four_folders_of_the_protocol() -> None:
    assert {mount.target: str(mount.source) for mount in spec_of().mounts} == {
        "/nanoclaw/sockets": "/h/workers/w5f3a",
        "/nanoclaw/inbox": "/h/sessions/g1/s1/inbox",
        "/workspace": "/h/groups/main",
        "/home/agent": "/h/sessions/g1/s1/state",
    }


def test_the_environment_is_words_about_the_place_and_nothing_of_the_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-secret")
    assert spec_of().environment == {
        "TZ": "Europe/Berlin",
        "LANG": "C.UTF-8",
        "HOME": "/home/agent",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def test_labels_say_whose_container_it_is() -> None:
    assert spec_of().labels == {
        "nanoclaw.installation": "home-1",
        "nanoclaw.worker": "w5f3a",
        "nanoclaw.session": "s1",
        "nanoclaw.protocol": "1",
    }


def test_nothing_in_a_spec_holds_the_hash_of_the_secret() -> None:
    assert "5ec4e7" not in repr(spec_of())


@pytest.mark.parametrize(
    ("agent", "name"),
    [
        ("Andy", "nanoclaw-andy-w1"),
        ("Family Chat", "nanoclaw-family-chat-w1"),
        ("../../etc; rm -rf", "nanoclaw-etc-rm-rf-w1"),
        ("🤖", "nanoclaw-agent-w1"),
        ("x" * 200, f"nanoclaw-{'x' * 32}-w1"),
    ],
)
def test_a_name_is_readable_and_in_the_letters_that_docker_allows(agent: str, name: str) -> None:
    assert container_name(agent, "w1") == name


def test_workers_of_a_root_host_get_a_user_without_a_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    uid, gid = map(int, worker_user("home-1").split(":"))
    assert uid >= 64000
    assert uid == gid
    with pytest.raises(KeyError):
        pwd.getpwuid(uid)


def test_the_user_stays_the_same_for_an_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert worker_user("home-1") == worker_user("home-1")


def test_a_user_that_somebody_logs_in_as_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    first = int(worker_user("home-1").split(":")[0])
    root = pwd.getpwuid(0)

    def lookup(uid: int) -> pwd.struct_passwd:
        if uid == first:
            return root
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", lookup)
    assert worker_user("home-1") != f"{first}:{first}"


def test_another_host_runs_workers_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1234)
    monkeypatch.setattr(os, "getgid", lambda: 5678)
    assert worker_user("home-1") == "1234:5678"


def test_a_folder_is_made_for_its_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    prepare_folder(folder, os.getuid(), os.getgid())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives folders away")
def test_a_folder_is_given_to_the_workers_user_and_keeps_what_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "workspace"
    folder.mkdir(mode=0o755)
    memory = folder / "CLAUDE.md"
    memory.write_text("remember")
    prepare_folder(folder, 70001, 70001)
    assert (folder.stat().st_uid, stat.S_IMODE(folder.stat().st_mode)) == (70001, 0o700)
    assert memory.stat().st_uid == os.getuid()


def test_a_link_in_a_folders_place_is_refused_and_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir(mode=0o755)
    link = tmp_path / "workspace"
    link.symlink_to(precious)
    with pytest.raises(HomeUnusable, match="workspace"):
        prepare_folder(link, os.getuid(), os.getgid())
    assert stat.S_IMODE(precious.stat().st_mode) == 0o755


def test_a_file_in_a_folders_place_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "workspace"
    place.write_text("a file")
    with pytest.raises(HomeUnusable, match="workspace"):
        prepare_folder(place, os.getuid(), os.getgid())
