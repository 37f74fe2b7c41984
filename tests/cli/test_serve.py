"""`nanoclaw serve` as a process: ready without a container runtime, and gone when asked, with the exit code that says how."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def serving(home: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    variables = {**os.environ, "NANOCLAW_HOME": str(home), "DOCKER_HOST": f"unix://{home}/no-docker.sock"}
    argv = [sys.executable, "-m", "nanoclaw_core.cli", "serve", *options]
    with subprocess.Popen(argv, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def ready(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)], ids=["SIGTERM", "ctrl-C"])
def test_a_signal_ends_it_gracefully(nanoclaw_home: Path, number: int, code: int) -> None:
    with serving(nanoclaw_home) as process:
        assert ready(process).endswith(f"is ready on {nanoclaw_home} (pid {process.pid}).\n")
        process.send_signal(number)
        _, log = process.communicate(timeout=30)
    assert process.returncode == code
    assert json.loads(log.splitlines()[-1])["event"] == "host.stopped"
    assert not (nanoclaw_home / "control.sock").exists()


def test_a_second_host_on_the_same_home_refuses_and_names_the_first(nanoclaw_home: Path) -> None:
    with serving(nanoclaw_home) as first:
        ready(first)
        with serving(nanoclaw_home) as second:
            printed, complaint = second.communicate(timeout=30)
    assert (second.returncode, printed) == (5, "")
    assert f"pid {first.pid}" in complaint.splitlines()[-1]


def test_the_log_goes_to_the_file_asked_for(nanoclaw_home: Path) -> None:
    log = nanoclaw_home / "logs" / "mine.log"
    with serving(nanoclaw_home, "--log-file", str(log)) as process:
        ready(process)
        process.terminate()
        _, complaint = process.communicate(timeout=30)
    assert complaint == ""
    assert "host.stopped" in {json.loads(line)["event"] for line in log.read_text().splitlines()}


def test_who_started_it_may_have_left_before_it_is_ready(nanoclaw_home: Path) -> None:
    with serving(nanoclaw_home) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        for line in process.stderr:
            if "runtime" in line:
                break
        process.terminate()
        assert process.wait(timeout=30) == 0


def test_ctrl_c_while_chat_starts_the_host_ends_both(nanoclaw_home: Path) -> None:
    variables = {**os.environ, "NANOCLAW_HOME": str(nanoclaw_home), "DOCKER_HOST": f"unix://{nanoclaw_home}/no-docker.sock"}
    argv = [sys.executable, "-m", "nanoclaw_core.cli", "chat", "--once", "hello"]
    with subprocess.Popen(argv, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("Starting the host")
        process.send_signal(signal.SIGINT)
        printed, complaint = process.communicate(timeout=30)
    assert (process.returncode, printed, complaint.strip()) == (130, "", "")
    with own_home_within(30, nanoclaw_home):
        pass  # the host has let go of it


@contextmanager
def own_home_within(seconds: float, home: Path) -> Iterator[None]:
    """Own the home as soon as its last owner has ended; the kernel wakes us."""
    with (home / "host.lock").open("a+") as lock:
        signal.alarm(int(seconds))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            signal.alarm(0)


HEAPS = """
import ctypes, sys, threading
from nanoclaw_core.cli import serve

if sys.argv[2:]:
    serve.keep_memory_together()
all_are_there = threading.Barrier(9)
def hold():
    held = bytearray(50_000)
    all_are_there.wait()
    all_are_there.wait()
threads = [threading.Thread(target=hold) for _ in range(8)]
for thread in threads:
    thread.start()
all_are_there.wait()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
file = ctypes.c_void_p(libc.fopen(sys.argv[1].encode(), b"w"))
libc.malloc_info(0, file)
libc.fclose(file)
all_are_there.wait()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such heaps")
def test_the_threads_of_a_host_allocate_from_one_heap(tmp_path: Path) -> None:
    """Else what each of them has freed stays in a heap of its own, and a host seems to grow."""
    found = []
    for words in ([], ["together"]):
        subprocess.run([sys.executable, "-c", HEAPS, str(tmp_path / "heaps"), *words], check=True, timeout=60)
        found.append((tmp_path / "heaps").read_text().count("<heap nr="))
    assert found[0] > 1
    assert found[1] == 1
