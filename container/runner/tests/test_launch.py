"""The launch document is checked, and standard input is gone before anything else runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from miniature import Home
from nanoclaw_runner.launch import MAX_DOCUMENT, LaunchDocument, LaunchRefused, check_mounts, parse_launch

GOOD: dict[str, Any] = {
    "protocol": 1,
    "worker": "w1",
    "secret": "s3cret",
    "socket": "/nanoclaw/sockets/gateway.sock",
    "workspace": "/workspace",
    "state": "/home/agent",
    "engine": "claude",
    "options": {},
}


def run_runner(document: bytes) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Home.runner)}
    argv = [sys.executable, "-m", "nanoclaw_runner"]
    done = subprocess.run(argv, input=document, capture_output=True, env=environment, timeout=20, check=False)
    return subprocess.CompletedProcess(argv, done.returncode, done.stdout.decode(), done.stderr.decode())


def test_a_good_document_is_read() -> None:
    assert parse_launch(json.dumps({**GOOD, "later": 1}).encode()).worker == "w1"


def test_the_secret_is_not_shown() -> None:
    assert "s3cret" not in repr(LaunchDocument(**GOOD))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"protocol": 2}, "its protocol is 2"),
        ({"worker": None}, "worker must be str, not NoneType"),
        ({"options": []}, "options must be dict"),
        ({"secret": ""}, "must not be empty"),
    ],
)
def test_a_bad_document_is_refused_with_the_reason(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(LaunchRefused, match=reason):
        parse_launch(json.dumps({**GOOD, **changes}).encode())


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "it is empty"),
        (b"{nonsense\n", "it is no JSON"),
        (b"[1]\n", "LaunchDocument must be an object"),
        (b" " * (MAX_DOCUMENT + 1), "it is longer than"),
    ],
)
def test_the_runner_says_in_one_line_what_is_wrong_and_exits_2(document: bytes, reason: str) -> None:
    done = run_runner(document)
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_is_started_later_finds_an_empty_standard_input() -> None:
    probe = (
        "import subprocess, nanoclaw_runner.__main__ as m; from nanoclaw_runner.launch import read_launch;"
        "read_launch(0); m._close_standard_input(); m._hide_memory();"
        "print(repr(subprocess.run(['cat'], capture_output=True).stdout))"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Home.runner)}
    document = json.dumps(GOOD).encode() + b"\nmore that nobody may read\n"
    done = subprocess.run(
        [sys.executable, "-c", probe], input=document, capture_output=True, env=environment, timeout=20, check=False
    )
    assert done.stdout.startswith(b"b''"), done.stderr


def test_a_mount_that_is_not_what_was_checked_ends_the_runner_before_anything_starts(tmp_path: Path) -> None:
    found = tmp_path.stat()
    checked: dict[str, Any] = {"path": str(tmp_path), "device": found.st_dev, "inode": found.st_ino}
    check_mounts(parse_launch(json.dumps({**GOOD, "mounts": [checked]}).encode()).mounts)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    for wrong in ({**checked, "inode": 1}, {**checked, "path": str(link)}, {**checked, "path": str(tmp_path / "gone")}):
        done = run_runner(json.dumps({**GOOD, "mounts": [checked, wrong]}).encode())
        assert done.returncode == 77
        assert wrong["path"] in done.stderr
        assert done.stderr.count("\n") == 1
