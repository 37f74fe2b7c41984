"""Folders of the owner's, from the command to the worker, and what becomes of a host whose agents hold too much."""

from __future__ import annotations

from pathlib import Path

import pytest
from anyio import to_thread

from nanoclaw_core.builtins.mount_allowlist import allow_root, allowlist_path
from nanoclaw_core.first_start import MAIN_FOLDER
from nanoclaw_core.host import Host
from nanoclaw_core.models import ContainerSpec, Mount
from nanoclaw_core.store.mounts import all_mounts
from tests.spine.spine import Spine, until


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that may be given to agents."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    notes = tmp_path.resolve() / "land" / "notes"
    notes.mkdir(parents=True)
    allow_root(allowlist_path(), notes.parent, writable=True, description="")
    return notes


async def give(host: Host, path: Path) -> None:
    await host.operations["mount.add"]({"path": str(path), "read_only": False})


def fill(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * 2 * 1024 * 1024)
    return path


def mounts_of(spine: Spine) -> list[Mount]:
    """What of the owner's the newest worker was given."""
    return [mount for mount in spine.runtime.specs[-1].mounts if mount.target.startswith("/workspace-extra/")]


async def test_a_worker_gets_what_its_agent_was_given_and_the_agent_is_told(spine: Spine, notes: Path) -> None:
    (notes / ".vscode").mkdir()
    async with spine.host() as host:
        await give(host, notes)
        await spine.chat.say("hello")
        await spine.settled()
    assert mounts_of(spine) == [
        Mount(source=notes, target="/workspace-extra/notes", read_only=False),
        Mount(source=notes / ".vscode", target="/workspace-extra/notes/.vscode"),
    ]
    (document,) = spine.runtime.documents
    assert "you may read and change it, except .vscode" in document["options"]["instructions"]


async def test_a_folder_that_is_given_reaches_an_agent_whose_worker_rests(spine: Spine, notes: Path) -> None:
    async with spine.host() as host:
        await spine.chat.say("hello")
        await spine.settled()
        assert mounts_of(spine) == []
        await give(host, notes)
        await until(lambda: not host.pool.shifts)
        await spine.chat.say("and now?")
        await spine.settled(2)
    assert [mount.source for mount in mounts_of(spine)] == [notes]


async def test_a_refused_folder_is_left_out_and_its_owner_told(spine: Spine, notes: Path) -> None:
    async with spine.host() as host:
        await give(host, notes)
        (notes / "id_rsa").touch()
        await spine.chat.say("hello")
        await spine.settled()
        assert mounts_of(spine) == []
        status = [each.notice for _, each in await host.database.read(all_mounts)]
        assert status == ["without its folder notes: it holds 'id_rsa', a name that is blocked (id_rsa*)"]


async def test_a_folder_that_is_exchanged_after_the_check_costs_that_worker_its_life(
    spine: Spine, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was put in its place is never seen by an agent: the runner looks before it starts anything."""
    start = spine.runtime.start

    def exchange() -> None:
        notes.rename(notes.with_name("aside"))
        notes.mkdir()

    async def exchange_and_start(spec: ContainerSpec, first_line: bytes) -> str:
        if not spine.runtime.specs:
            exchange()
        return await start(spec, first_line)

    async with spine.host() as host, spine.no_pauses(host):
        await give(host, notes)
        monkeypatch.setattr(spine.runtime, "start", exchange_and_start)
        await spine.chat.say("hello")
        await spine.settled()
    logs = spine.home / "logs" / "workers"
    assert len(spine.runtime.documents) == 2  # the second was given what is there now, and judged
    last_words = await to_thread.run_sync(lambda: [path.read_text() for path in logs.iterdir()])
    assert sum("/notes is not what was checked" in words for words in last_words) == 1


async def test_an_agent_whose_folder_is_full_begins_no_turn_until_there_is_room(spine: Spine) -> None:
    workspace = spine.home / "groups" / MAIN_FOLDER
    async with spine.host(max_workspace=1) as host, spine.no_pauses(host):
        large = await to_thread.run_sync(fill, workspace / "large")
        await spine.chat.say("hello")
        (notice,) = await spine.texts(1)
        assert "NANOCLAW_MAX_WORKSPACE" in notice
        assert spine.runtime.documents == []
        large.unlink()
        await spine.settled()
    assert spine.chat.outbox[-1].text == "You said: hello"
