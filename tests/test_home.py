"""The home folder: who may look into it, and that one host owns it at a time."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nanoclaw_core.errors import HomeUnusable, HostRunning
from nanoclaw_core.home import own_home

#: Another process that owns a home until it is killed.
OWNER = """
import sys
from pathlib import Path
from nanoclaw_core.home import own_home
with own_home(Path(sys.argv[1])):
    print("mine", flush=True)
    sys.stdin.read()
"""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_home_is_for_its_owner_alone(tmp_path: Path) -> None:
    home = tmp_path / "deep" / "home"
    with own_home(home):
        assert mode(home) == 0o700
        assert mode(home / "host.lock") == 0o600


def test_a_home_that_others_could_look_into_is_closed_to_them(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with own_home(tmp_path):
        assert mode(tmp_path) == 0o700


def test_a_second_host_is_refused_with_the_first_ones_pid_and_what_to_do(tmp_path: Path) -> None:
    with own_home(tmp_path), pytest.raises(HostRunning) as refused, own_home(tmp_path):
        pass
    assert refused.value.pid == os.getpid()
    assert f"pid {os.getpid()}" in str(refused.value)
    assert str(tmp_path) in str(refused.value)


def test_a_refused_host_takes_nothing_from_the_first(tmp_path: Path) -> None:
    with own_home(tmp_path):
        for _ in range(2):
            with pytest.raises(HostRunning), own_home(tmp_path):
                pass


def test_the_next_host_may_have_the_home(tmp_path: Path) -> None:
    for _ in range(2):
        with own_home(tmp_path):
            pass


def test_a_killed_host_owns_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"mine\n"
        with pytest.raises(HostRunning) as refused, own_home(tmp_path):
            pass
        assert refused.value.pid == other.pid
        other.send_signal(signal.SIGKILL)
        other.wait()
    with own_home(tmp_path):
        assert (tmp_path / "host.lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("name", ["file/home", "file"])
def test_a_home_at_or_below_a_file_is_refused_with_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(HomeUnusable, match=r"home folder .*file.* cannot be used: .*NANOCLAW_HOME"), own_home(tmp_path / name):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_a_home_where_nobody_can_write_is_refused() -> None:
    with pytest.raises(HomeUnusable, match="cannot be used"), own_home(Path("/proc/nanoclaw")):
        pass


def test_a_lock_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "host.lock").mkdir()
    with pytest.raises(HomeUnusable, match="Is a directory"), own_home(tmp_path):
        pass


def test_a_home_whose_lock_file_was_deleted_still_has_one_owner(tmp_path: Path) -> None:
    with own_home(tmp_path):
        (tmp_path / "host.lock").unlink()
        with pytest.raises(HostRunning), own_home(tmp_path):
            pass
