"""What `nanoclaw doctor` says of the folders that agents see."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from nanoclaw_core.builtins.checks import mounts
from nanoclaw_core.builtins.mount_allowlist import allow_root, allowlist_path
from nanoclaw_core.models import AgentMount
from nanoclaw_core.store.mounts import add_mount, note_told
from tests.checks.conftest import context_on
from tests.house import House, open_house


@pytest.fixture
def land(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    land = tmp_path.resolve() / "land"
    land.mkdir()
    return land


async def lines(home: Path) -> list[tuple[str, str]]:
    return [(line.status.value, line.reason) async for line in mounts.check(context_on(home))]


async def give(house: House, source: Path, notice: str = "") -> None:
    mount = AgentMount(id="m1", agent_group_id=house.agent.id, source=source, name="land")
    await house.database.write(partial(add_mount, mount=mount, now=1.0))
    await house.database.write(partial(note_told, mount_id="m1", notice=notice))


async def test_who_gives_nothing_hears_nothing(nanoclaw_home: Path, land: Path) -> None:
    assert await lines(nanoclaw_home) == []


async def test_what_is_well_is_counted(nanoclaw_home: Path, land: Path) -> None:
    allow_root(allowlist_path(), land, writable=False, description="")
    async with open_house(nanoclaw_home) as house:
        await give(house, land)
    assert await lines(nanoclaw_home) == [("ok", f"{allowlist_path()}: 1 root, 1 given to agents")]


async def test_mounts_without_an_allowlist_fail(nanoclaw_home: Path, land: Path) -> None:
    async with open_house(nanoclaw_home) as house:
        await give(house, land)
    ((status, reason),) = await lines(nanoclaw_home)
    assert (status, "is not there" in reason) == ("fail", True)


async def test_an_allowlist_that_others_can_write_fails(nanoclaw_home: Path, land: Path) -> None:
    allow_root(allowlist_path(), land, writable=False, description="")
    allowlist_path().chmod(0o666)
    ((status, reason),) = await lines(nanoclaw_home)
    assert (status, "others can write it" in reason) == ("fail", True)


async def test_a_root_that_allows_nothing_is_named(nanoclaw_home: Path, land: Path) -> None:
    gone = land / "gone"
    gone.mkdir()
    allow_root(allowlist_path(), gone, writable=False, description="")
    gone.rmdir()
    ((status, reason),) = await lines(nanoclaw_home)
    assert (status, str(gone) in reason) == ("warn", True)


async def test_what_an_agent_does_without_is_said(nanoclaw_home: Path, land: Path) -> None:
    allow_root(allowlist_path(), land, writable=False, description="")
    async with open_house(nanoclaw_home) as house:
        await give(house, land, "without its folder land: it holds '.env'")
    assert ("warn", "Andy works without its folder land: it holds '.env'") in await lines(nanoclaw_home)
