"""`nanoclaw backup` as its user meets it: what it prints, what it refuses, and the exit codes."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from tests.backup.shop import CHATS, open_shop
from tests.cli.test_commands import run
from tests.cli.test_doctor import dead_docker


@pytest.fixture
def home(nanoclaw_home: Path) -> Path:
    async def furnish() -> None:
        async with open_shop(nanoclaw_home / "home", chats=CHATS[:1]) as shop:
            await shop.say(CHATS[0], "first")
            await shop.run()

    anyio.run(furnish)
    (nanoclaw_home / "home" / ".env").write_text("TELEGRAM_TOKEN=hush\n")
    return nanoclaw_home / "home"


def made(home: Path, *words: str) -> Path:
    file = home.parent / "backup.tar.gz"
    ended = run("backup", "create", str(file), "--without-workspaces", *words, home=home)
    assert ended.returncode == 0, ended.stderr
    return file


def test_a_backup_is_made_verified_and_restored(home: Path) -> None:
    file = home.parent / "backup.tar.gz"
    ended = run("backup", "create", str(file), "--without-workspaces", home=home)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert f"{home} is backed up in {file}" in ended.stdout
    assert "It holds the credentials" in ended.stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    ended = run("backup", "verify", str(file), home=home)
    assert "is whole, and this version can restore it" in ended.stdout
    ended = run("backup", "restore", str(file), "--home", str(home.parent / "new"), home=home)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "an installation of its own" in ended.stdout
    assert f"NANOCLAW_HOME={home.parent / 'new'} nanoclaw serve" in ended.stdout
    assert (home.parent / "new" / ".env").read_text() == "TELEGRAM_TOKEN=hush\n"


def test_without_a_name_it_is_named_after_the_time_in_the_current_folder(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("backup", "create", "--without-workspaces", home=home).returncode == 0
    (file,) = tmp_path.iterdir()
    assert file.match("nanoclaw-????????-??????.tar.gz")


def test_what_was_made_and_found_can_be_read_by_a_program(home: Path) -> None:
    file = home.parent / "backup.tar.gz"
    ended = run("backup", "create", str(file), "--without-workspaces", "--json", home=home)
    report = json.loads(ended.stdout)
    assert report == json.loads(run("backup", "verify", str(file), "--json", home=home).stdout)
    assert (report["file"], report["size"], report["left_out"]) == (str(file), file.stat().st_size, [])


def test_a_backup_can_go_through_a_pipe(home: Path) -> None:
    argv = [sys.executable, "-m", "nanoclaw_core.cli", "backup", "create", "-", "--without-workspaces", "--without-secrets"]
    piped = subprocess.run(argv, env={**os.environ, "NANOCLAW_HOME": str(home)}, capture_output=True, check=True, timeout=60)
    assert b"credentials" not in piped.stderr
    (home.parent / "piped").write_bytes(piped.stdout)
    assert run("backup", "verify", str(home.parent / "piped"), home=home).returncode == 0
    assert b"hush" not in piped.stdout


def test_a_file_that_is_there_is_not_overwritten_unasked(home: Path) -> None:
    file = made(home)
    ended = run("backup", "create", str(file), "--without-workspaces", home=home)
    assert (ended.returncode, "--force" in ended.stderr) == (2, True)
    made(home, "--force")


def test_without_a_runtime_the_way_to_go_on_is_named(home: Path) -> None:
    file = home.parent / "backup.tar.gz"
    ended = run("backup", "create", str(file), home=home, DOCKER_HOST=dead_docker(home.parent))
    assert ended.returncode == 4
    assert "--without-workspaces" in ended.stderr
    assert not list(home.parent.glob("backup*"))


def test_a_disk_that_is_full_leaves_nothing_and_says_where_to_go_on(home: Path) -> None:
    (home / "large").write_bytes(os.urandom(1_000_000))

    def little_room() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, 600_000))

    file = home.parent / "backup.tar.gz"
    argv = [sys.executable, "-m", "nanoclaw_core.cli", "backup", "create", str(file), "--without-workspaces"]
    environment = {**os.environ, "NANOCLAW_HOME": str(home)}
    ended = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, preexec_fn=little_room)
    assert (ended.returncode, ended.stderr.count("\n")) == (3, 1)
    assert "File too large. Nothing of it is left" in ended.stderr
    assert not list(home.parent.glob("backup*"))


def test_ctrl_c_leaves_nothing(home: Path) -> None:
    file = home.parent / "backup.tar.gz"
    with (home / "endless").open("wb") as endless:
        endless.truncate(1 << 40)
    argv = [sys.executable, "-m", "nanoclaw_core.cli", "backup", "create", str(file), "--without-workspaces"]
    with subprocess.Popen(argv, env={**os.environ, "NANOCLAW_HOME": str(home)}, stderr=subprocess.PIPE) as process:
        while not (part := home.parent / "backup.tar.gz.part").exists() or not part.stat().st_size:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr is not None
        assert process.stderr.read().strip() == b""
    assert not list(home.parent.glob("backup*"))


def test_a_broken_file_is_one_line_and_a_restore_changes_nothing(home: Path) -> None:
    file = made(home)
    file.write_bytes(file.read_bytes()[:-200])
    for words in (("verify", str(file)), ("restore", str(file), "--home", str(home.parent / "new"))):
        ended = run("backup", *words, home=home)
        assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (3, "", 1)
        assert "its end is missing" in ended.stderr
    assert sorted(path.name for path in home.parent.iterdir()) == ["backup.tar.gz", "home"]


def test_a_home_that_is_there_is_replaced_only_when_asked(home: Path) -> None:
    file = made(home)
    ended = run("backup", "restore", str(file), home=home)
    assert (ended.returncode, "--replace" in ended.stderr) == (3, True)
    ended = run("backup", "restore", str(file), "--replace", home=home)
    assert ended.returncode == 0
    (aside,) = home.parent.glob("home.replaced-*")
    assert str(aside) in ended.stdout
    assert (aside / "nanoclaw.db").exists()
