"""A host that a command starts in the background: it is ready, or its last words are shown; nothing hangs."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from nanoclaw_core.cli import launch
from nanoclaw_core.cli.launch import HostFailed, ensure_host
from nanoclaw_core.errors import HomeUnusable, HostNotRunning
from nanoclaw_core.settings import Settings
from tests.cli.fake_host import FakeHost


@pytest.fixture
def settings(nanoclaw_home: Path) -> Settings:
    return Settings(home=nanoclaw_home, variables={})


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """The processes that were started; they are awaited at once, as init would do."""
    processes: list[subprocess.Popen[bytes]] = []
    start = launch._start

    def noting(log: Path) -> tuple[subprocess.Popen[bytes], int]:
        process, ready = start(log)
        processes.append(process)
        return process, ready

    monkeypatch.setattr(launch, "_start", noting)
    return processes


def serves(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    monkeypatch.setattr(launch, "_command", lambda log: [sys.executable, "-c", code])


async def test_a_host_that_runs_is_used(settings: Settings, started: list[object], capsys: pytest.CaptureFixture[str]) -> None:
    async with FakeHost().serving(settings.home):
        await ensure_host(settings)
    assert started == []
    assert capsys.readouterr().err == ""


async def test_a_host_that_gets_ready_is_left_running(
    settings: Settings,
    started: list[subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serves(monkeypatch, "import time; print('ready', flush=True); time.sleep(60)")
    with anyio.fail_after(30):
        await ensure_host(settings)
    (process,) = started
    assert process.poll() is None
    process.kill()
    process.wait()
    assert capsys.readouterr().err.count("\n") == 1


async def test_the_last_words_and_the_exit_code_of_a_host_that_dies_are_shown(
    settings: Settings, started: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    serves(
        monkeypatch,
        "import sys; print('nanoclaw: The disk is full.', file=sys.stderr); print('noise', file=sys.stderr); sys.exit(3)",
    )
    with anyio.fail_after(30), pytest.raises(HostFailed, match="The host did not start: The disk is full") as caught:
        await ensure_host(settings)
    assert caught.value.exit_code == 3


async def test_words_of_an_earlier_start_are_not_shown(
    settings: Settings, started: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.home / "logs").mkdir()
    (settings.home / "logs" / "host.log").write_text("nanoclaw: old\n")
    serves(monkeypatch, "raise SystemExit(1)")
    with anyio.fail_after(30), pytest.raises(HostFailed, match="it wrote nothing"):
        await ensure_host(settings)


async def test_a_host_that_somebody_else_starts_meanwhile_is_used(
    settings: Settings, started: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    serves(monkeypatch, "raise SystemExit(5)")

    async def other(*, task_status: anyio.abc.TaskStatus[None]) -> None:
        task_status.started()
        while not started:  # noqa: ASYNC110 (a list is all that the fixture has)
            await anyio.sleep(0.01)
        async with FakeHost().serving(settings.home):
            await done.wait()

    done = anyio.Event()
    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            await tasks.start(other)
            await ensure_host(settings)
            done.set()


async def test_nobody_waits_for_ever_for_somebody_elses_host(
    settings: Settings, started: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    serves(monkeypatch, "raise SystemExit(5)")
    monkeypatch.setattr(launch, "_OTHER_START", 0.01)
    with anyio.fail_after(30), pytest.raises(HostNotRunning):
        await ensure_host(settings)


@pytest.mark.parametrize("way", ["it takes too long", "ctrl-C"])
async def test_a_host_that_does_not_get_ready_is_ended(
    settings: Settings, started: list[subprocess.Popen[bytes]], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    serves(monkeypatch, "import time; time.sleep(60)")
    with anyio.fail_after(30):
        if way == "ctrl-C":
            with anyio.move_on_after(0.05):
                await ensure_host(settings)
        else:
            monkeypatch.setattr(launch, "_START", 0.01)
            with pytest.raises(HostFailed, match="not ready within"):
                await ensure_host(settings)
        (process,) = started
        assert await anyio.to_thread.run_sync(process.wait) == -signal.SIGTERM


async def test_a_home_where_no_log_can_be_written_is_named(nanoclaw_home: Path) -> None:
    (nanoclaw_home / "file").touch()
    with pytest.raises(HomeUnusable):
        await ensure_host(Settings(home=nanoclaw_home / "file", variables={}))
