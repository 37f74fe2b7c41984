"""The script that finds, starts or installs Docker, with every program that it calls played by a stub."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from nanoclaw_core.sandbox.image import container_files

Stub = Callable[..., None]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """All that is on the PATH: a few harmless programs, and `id` that says root."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "nohup", "setsid", "touch", "cat", "chmod", "env"):
        (folder / name).symlink_to(shutil.which(name) or name)
    return folder


@pytest.fixture
def stub(programs: Path) -> Stub:
    def stub(name: str, script: str) -> None:
        (programs / name).write_text(f"#!/bin/sh\n{script}\n")
        (programs / name).chmod(0o755)

    stub("id", "echo 0")
    stub("uname", "echo Linux")
    stub("sleep", "exit 0")
    return stub


def ensure(programs: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": str(programs), "UP": str(programs / "up"), "DOCKERD_LOG": str(programs / "log"), **variables}
    script = container_files() / "ensure-runtime"
    return subprocess.run(
        [script], env=environment, capture_output=True, text=True, timeout=30, check=False, stdin=subprocess.DEVNULL
    )


WHEN_UP = 'test -e "$UP"'


def test_nothing_is_said_when_docker_answers(programs: Path, stub: Stub) -> None:
    stub("docker", "exit 0")
    done = ensure(programs)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_daemon_that_no_service_starts_is_started_itself(programs: Path, stub: Stub) -> None:
    stub("docker", WHEN_UP)
    stub("dockerd", 'touch "$UP"')
    done = ensure(programs)
    assert done.returncode == 0
    assert "running dockerd in the background" in done.stdout


def test_docker_is_installed_where_it_is_missing(programs: Path, stub: Stub) -> None:
    stub("apt-cache", "exit 1")
    stub(
        "apt-get",
        f"printf '#!/bin/sh\\n{WHEN_UP}\\n' > {programs}/docker; chmod +x {programs}/docker; touch \"$UP\"; echo noise",
    )
    done = ensure(programs)
    assert done.returncode == 0
    assert done.stdout == "ensure-runtime: installing Docker (apt-get install docker.io iptables)\n"


def test_docker_desktop_is_opened_on_a_mac(programs: Path, stub: Stub) -> None:
    stub("uname", "echo Darwin")
    stub("docker", WHEN_UP)
    stub("open", 'touch "$UP"')
    done = ensure(programs)
    assert (done.returncode, done.stdout) == (0, "ensure-runtime: starting Docker Desktop\n")


def test_a_daemon_that_never_answers_is_a_failure_that_names_the_log(programs: Path, stub: Stub) -> None:
    stub("docker", "exit 1")
    stub("dockerd", "exit 1")
    done = ensure(programs)
    assert done.returncode == 4
    assert "Look at its log" in done.stderr


def test_a_system_without_apt_is_told_what_to_install(programs: Path, stub: Stub) -> None:
    done = ensure(programs)
    assert done.returncode == 4
    assert "Install it" in done.stderr


def test_a_user_who_cannot_become_root_is_told_what_root_must_do(programs: Path, stub: Stub) -> None:
    stub("id", "echo 1000")
    done = ensure(programs)
    assert done.returncode == 4
    assert len(done.stderr.splitlines()) <= 2


def test_the_number_that_a_killed_daemon_left_is_forgotten(programs: Path, stub: Stub, tmp_path: Path) -> None:
    """Docker would take whoever has that number now for its own daemon, and not start."""
    (programs / "rm").symlink_to(shutil.which("rm") or "rm")
    remembered = tmp_path / "docker" / "containerd" / "containerd.pid"
    remembered.parent.mkdir(parents=True)
    for file in (tmp_path / "docker.pid", remembered):
        file.write_text(f"{os.getpid()}\n")
    stub("docker", WHEN_UP)
    stub("dockerd", 'touch "$UP"')
    assert ensure(programs, DOCKER_RUN=str(tmp_path)).returncode == 0
    assert not (tmp_path / "docker.pid").exists()
    assert not remembered.exists()
