"""The lock: read whole or refused, replaced whole, its wheels kept as long as it names them; and what else it remembers."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from nanoclaw_core import installed as plugins_file
from nanoclaw_core.errors import HomeUnusable, InstallRefused
from nanoclaw_core.host import open_host
from nanoclaw_core.packages import leftovers as leftovers_module
from nanoclaw_core.packages import notice as notice_module
from nanoclaw_core.packages.environment import Distribution
from nanoclaw_core.packages.leftovers import leftovers
from nanoclaw_core.packages.lockfile import alone, keep_wheel, lock_path, read_lock, wheel_path, write_lock
from nanoclaw_core.packages.notice import compare, notice, remember
from nanoclaw_core.packages.records import Lock, Package, PluginSet, Remains
from nanoclaw_core.settings import read
from nanoclaw_core.store.inspection import ChannelData
from nanoclaw_core.testing import FakeRuntime


def plugin_set(*versions: str) -> PluginSet:
    packages = [Package(name="nanoclaw-parrot", version=each, source="index", sha256=each, wheel="x.whl") for each in versions]
    return PluginSet(packages=tuple(packages))


def test_what_was_written_is_read(nanoclaw_home: Path) -> None:
    assert read_lock(nanoclaw_home) is None
    remembered = {"parrot": Remains(distribution="nanoclaw-parrot", channels=("parrot",), variables=("PARROT_TOKEN",))}
    lock = Lock(current=plugin_set("2"), previous=(plugin_set("1"),), remembered=remembered, unfinished=plugin_set("3"))
    write_lock(nanoclaw_home, lock)
    assert read_lock(nanoclaw_home) == lock


def test_a_full_disk_leaves_no_half_files_in_the_home(nanoclaw_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", no_room)
    monkeypatch.setattr(plugins_file, "discover", lambda: [SimpleNamespace(name="parrot")])
    with pytest.raises(HomeUnusable, match=r"plugins\.lock cannot be written"):
        write_lock(nanoclaw_home, Lock())
    with pytest.raises(HomeUnusable, match=r"plugins\.json cannot be written"):
        plugins_file.enable(nanoclaw_home, "parrot")
    assert list(nanoclaw_home.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"format": 2}', b'{"current": {"packages": [{"name": "x"}]}}', b"\xff", b"[" * 100_000],
    ids=["empty", "cut off", "a list", "a later format", "half a package", "no UTF-8", "too deep"],
)
def test_a_damaged_lock_is_an_error_that_says_what_to_do(nanoclaw_home: Path, content: bytes) -> None:
    lock_path(nanoclaw_home).write_bytes(content)
    with pytest.raises(HomeUnusable, match=r"move it away, and the next `nanoclaw plugin list`"):
        read_lock(nanoclaw_home)


async def test_a_damaged_lock_keeps_no_host_from_starting(nanoclaw_home: Path) -> None:
    lock_path(nanoclaw_home).write_text("{")
    with capture_logs() as logs:
        async with open_host(read(nanoclaw_home, {}), runtime=FakeRuntime()):
            pass
    assert "plugins.lock_unusable" in [entry["event"] for entry in logs]
    assert lock_path(nanoclaw_home).read_text() == "{"


def test_three_previous_sets_are_kept_and_the_wheels_of_all(nanoclaw_home: Path, tmp_path: Path) -> None:
    file = tmp_path / "x.whl"
    file.write_text("wheel")
    lock = Lock()
    for number in ("1", "2", "3", "4", "5"):
        keep_wheel(nanoclaw_home, file, number)
        lock = Lock(current=plugin_set(number), previous=(lock.current, *lock.previous))
        write_lock(nanoclaw_home, lock)
    kept = read_lock(nanoclaw_home)
    assert kept is not None
    assert [each.packages[0].version for each in (kept.current, *kept.previous)] == ["5", "4", "3", "2"]
    assert [bool(wheel_path(nanoclaw_home, plugin_set(number).packages[0])) for number in "12345"] == [False, *[True] * 4]


def test_only_one_command_changes_the_plugins_at_a_time(nanoclaw_home: Path) -> None:
    with alone(nanoclaw_home), pytest.raises(InstallRefused, match="another command"), alone(nanoclaw_home):
        pass
    with alone(nanoclaw_home):
        pass


# --- noticing ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> dict[str, Distribution]:
    """What is installed, as far as the lock can know."""
    there: dict[str, Distribution] = {}
    monkeypatch.setattr(notice_module, "installed", lambda: there)
    monkeypatch.setattr(plugins_file, "discover", lambda: list(there.values()))
    return there


def parrot(version: str = "1.0", record: str = "a") -> dict[str, Distribution]:
    one = Distribution(name="nanoclaw-parrot", version=version, plugins=("parrot",), requires=("lib-a",), record=record)
    return {"nanoclaw-parrot": one, "lib-a": Distribution(name="lib-a", version="1.0")}


def test_each_thing_that_pip_can_do_is_noticed_once(nanoclaw_home: Path, world: dict[str, Distribution]) -> None:
    assert notice(nanoclaw_home, 1.0) == []
    assert read_lock(nanoclaw_home) is None
    world.update(parrot())
    assert notice(nanoclaw_home, 2.0) == ["lib-a 1.0 was installed with pip", "nanoclaw-parrot 1.0 was installed with pip"]
    assert notice(nanoclaw_home, 3.0) == []
    world.update(parrot(version="2.0"))
    assert notice(nanoclaw_home, 4.0) == ["nanoclaw-parrot was changed from 1.0 to 2.0 with pip"]
    world.update(parrot(version="2.0", record="b"))
    assert notice(nanoclaw_home, 5.0) == ["nanoclaw-parrot 2.0 was installed anew with pip"]
    world.clear()
    assert [line.partition(" was ")[2] for line in notice(nanoclaw_home, 6.0)] == ["uninstalled with pip"] * 2
    lock = read_lock(nanoclaw_home)
    assert lock is not None
    assert [each.made_at for each in (lock.current, *lock.previous)] == [6.0, 5.0, 4.0, 2.0]


def test_looking_records_nothing(nanoclaw_home: Path, world: dict[str, Distribution]) -> None:
    world.update(parrot())
    assert len(compare(nanoclaw_home).differences) == 2
    assert list(nanoclaw_home.iterdir()) == []


def test_while_a_change_is_unfinished_the_lock_stays_what_should_be_there(
    nanoclaw_home: Path, world: dict[str, Distribution]
) -> None:
    world.update(parrot())
    write_lock(nanoclaw_home, Lock(unfinished=PluginSet(made_by="install x")))
    assert notice(nanoclaw_home, 1.0) == []


# --- what is left -----------------------------------------------------------------------------------------------------------


def test_only_the_data_of_plugins_that_are_gone_is_left_over(nanoclaw_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = {name: ChannelData(chats=2, wired=1, messages=7) for name in ("terminal", "parrot", "crow", "old", "here")}
    monkeypatch.setattr(leftovers_module, "data_of_channels", lambda path: data)
    write_lock(nanoclaw_home, Lock())
    remember(
        nanoclaw_home,
        {
            "birds": Remains(distribution="nanoclaw-birds", channels=("parrot", "crow"), variables=("BIRD_TOKEN", "BIRD_NAME")),
            "asleep": Remains(distribution="nanoclaw-asleep", channels=("here",), variables=("ASLEEP_TOKEN",)),
            "traceless": Remains(distribution="nanoclaw-traceless", channels=("none",), variables=("NO_TOKEN",)),
        },
    )
    birds, old = leftovers(nanoclaw_home, ["terminal", "asleep"], ["terminal"], ["BIRD_TOKEN", "ASLEEP_TOKEN"])
    counts = "2 chats (1 wired), 7 messages"
    assert (birds.name, birds.words) == ("birds", f"channel parrot: {counts}; channel crow: {counts}; settings BIRD_TOKEN")
    assert (old.name, old.distribution, old.words) == ("old", "", f"channel old: {counts}")


def test_what_a_plugin_would_leave_is_remembered_after_it_is_gone(nanoclaw_home: Path) -> None:
    birds = Remains(distribution="nanoclaw-birds", channels=("parrot",))
    write_lock(nanoclaw_home, Lock())
    remember(nanoclaw_home, {"birds": birds})
    remember(nanoclaw_home, {})
    lock = read_lock(nanoclaw_home)
    assert lock == replace(Lock(), remembered={"birds": birds})
