"""Which processes are the agent's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from nanoclaw_runner.processes import is_stranger, processes, strangers


@pytest.mark.parametrize(
    ("pid", "parent", "is_one"),
    [
        pytest.param(1, 0, False, id="init"),
        pytest.param(7, 1, False, id="the runner"),
        pytest.param(12, 7, False, id="the engine"),
        pytest.param(40, 12, True, id="a command of the engine"),
        pytest.param(41, 1, True, id="a command whose parent has ended"),
        pytest.param(50, 0, False, id="somebody who looks in from outside"),
    ],
)
def test_what_the_agent_started_is_a_stranger(pid: int, parent: int, is_one: bool) -> None:
    assert is_stranger(pid, parent, me=7) is is_one


def test_the_dead_do_not_count_and_names_cannot_confuse(tmp_path: Path) -> None:
    for pid, stat in ((1, "(tini) S 0 1"), (40, "(a) Z 1 (b) S 12 40"), (41, "(sleep) Z 1 41"), (42, None)):
        (tmp_path / str(pid)).mkdir()
        if stat:
            (tmp_path / str(pid) / "stat").write_text(f"{pid} {stat}")
    (tmp_path / "self").mkdir()
    assert dict(processes(tmp_path)) == {1: 0, 40: 12}


def test_outside_of_a_container_nobody_is_a_stranger() -> None:
    assert strangers() is False
