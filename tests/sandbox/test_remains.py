"""What dead and forgotten containers leave: bounded logs, and nothing else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nanoclaw_core.models import ContainerState
from nanoclaw_core.sandbox.logs import KEPT_BYTES, KEPT_FILES, keep_output
from nanoclaw_core.sandbox.orphans import sweep
from tests.sandbox.fakes import ListedRuntime


def container(name: str, *, installation: str = "home-1", running: bool = True) -> ContainerState:
    labels = {"nanoclaw.installation": installation, "nanoclaw.worker": name}
    return ContainerState(id=f"id-{name}", name=name, labels=labels, running=running)


async def test_the_end_of_the_output_is_kept_under_the_containers_name(tmp_path: Path) -> None:
    runtime = ListedRuntime(written=b"x" * KEPT_BYTES + b"the last words")
    path = await keep_output(runtime, container("nanoclaw-andy-w1"), tmp_path / "logs")
    assert path.name == "nanoclaw-andy-w1.log"
    assert path.read_bytes().endswith(b"the last words")
    assert path.stat().st_size == KEPT_BYTES


async def test_a_log_is_for_its_owners_eyes(tmp_path: Path) -> None:
    path = await keep_output(ListedRuntime(), container("w1"), tmp_path / "logs")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


async def test_only_the_newest_logs_stay(tmp_path: Path) -> None:
    for age in range(KEPT_FILES + 10):
        old = tmp_path / f"old-{age}.log"
        old.touch()
        os.utime(old, (1_000_000 - age, 1_000_000 - age))
    await keep_output(ListedRuntime(), container("new"), tmp_path)
    left = {path.name for path in tmp_path.iterdir()}  # noqa: ASYNC240
    assert left == {"new.log", *(f"old-{age}.log" for age in range(KEPT_FILES - 1))}


async def test_a_sweep_takes_the_containers_whose_worker_nobody_knows(tmp_path: Path) -> None:
    runtime = ListedRuntime(listed=[container("mine"), container("lost"), container("dead", running=False)])
    swept = await sweep(runtime, "home-1", {"mine"}, tmp_path)
    assert [state.name for state in swept] == ["lost", "dead"]
    assert runtime.removed == ["id-lost", "id-dead"]


async def test_the_last_words_of_what_is_swept_are_kept(tmp_path: Path) -> None:
    runtime = ListedRuntime(listed=[container("lost")], written=b"the last words")
    await sweep(runtime, "home-1", (), tmp_path)
    assert (tmp_path / "lost.log").read_bytes() == b"the last words"


async def test_a_sweep_stops_only_what_runs(tmp_path: Path) -> None:
    runtime = ListedRuntime(listed=[container("lost"), container("dead", running=False)])
    await sweep(runtime, "home-1", (), tmp_path)
    assert runtime.stopped == ["id-lost"]


async def test_a_sweep_leaves_other_installations_alone(tmp_path: Path) -> None:
    runtime = ListedRuntime(listed=[container("theirs", installation="home-2")])
    await sweep(runtime, "home-1", (), tmp_path)
    assert runtime.removed == []
