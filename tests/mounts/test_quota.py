"""A workspace that holds too much allows no new turn; measuring it follows no link and ends in time."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest

from nanoclaw_core.errors import WorkspaceFull
from nanoclaw_core.sandbox.quota import Quota, measured
from tests.mounts.conftest import MAIN

_MIB = 1024 * 1024


@pytest.fixture
def workspace(nanoclaw_home: Path) -> Path:
    folder = nanoclaw_home / "groups" / MAIN.folder
    folder.mkdir(parents=True)
    return folder


def fill(path: Path, size: int) -> None:
    path.write_bytes(b"x" * size)


async def test_a_workspace_with_room_lets_turns_begin_and_a_full_one_says_what_to_do(workspace: Path) -> None:
    now = [0.0]
    quota = Quota(home=workspace.parent.parent, most=1, now=lambda: now[0])
    await quota.check(MAIN)
    (workspace / "deep").mkdir()
    fill(workspace / "deep" / "file", 2 * _MIB)
    await quota.check(MAIN)  # it had room a moment ago
    now[0] = 601
    with pytest.raises(
        WorkspaceFull, match=r"Andy holds 2 MiB, and 1 are allowed\. Delete something in .*NANOCLAW_MAX_WORKSPACE"
    ):
        await quota.check(MAIN)
    (workspace / "deep" / "file").unlink()
    await quota.check(MAIN)


async def test_no_limit_measures_nothing(nanoclaw_home: Path) -> None:
    await Quota(home=nanoclaw_home, most=0).check(MAIN)


async def test_an_agent_without_a_folder_has_room(nanoclaw_home: Path) -> None:
    await Quota(home=nanoclaw_home, most=1).check(MAIN)


def test_links_are_not_followed(workspace: Path, tmp_path: Path) -> None:
    fill(tmp_path / "large", 2 * _MIB)
    (workspace / "file").symlink_to(tmp_path / "large")
    (workspace / "folder").symlink_to(tmp_path)
    used, is_whole = measured(workspace, _MIB)
    assert (used < 64 * 1024, is_whole) == (True, True)
    (workspace.parent / "link").symlink_to(tmp_path)
    assert measured(workspace.parent / "link", _MIB) == (0, True)


def test_a_hole_in_a_file_holds_nothing(workspace: Path) -> None:
    with (workspace / "sparse").open("wb") as file:
        file.truncate(100 * _MIB)
    assert measured(workspace, _MIB)[0] < _MIB


def test_measuring_ends_in_time(workspace: Path) -> None:
    for number in range(1500):
        (workspace / str(number)).touch()
    assert measured(workspace, _MIB, now=count(step=20).__next__)[1] is False
