"""What of a home is in its backup, and how the restored home begins."""

from __future__ import annotations

import io
import os
import sqlite3
import stat
import tarfile
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio import from_thread, to_thread

from nanoclaw_core.backup import making, packer
from nanoclaw_core.backup.verifying import verify
from nanoclaw_core.errors import (
    BackupFailed,
    BackupTooNew,
    BackupUnusable,
    ContainerFailed,
    DatabaseBroken,
    HomeUnusable,
    HostRunning,
)
from nanoclaw_core.home import own_home
from nanoclaw_core.mailbox import snapshot
from nanoclaw_core.sandbox.spec import worker_user
from nanoclaw_core.store import workers
from nanoclaw_core.store.inspection import Condition
from nanoclaw_core.store.installation import known_id
from nanoclaw_core.store.snapshot import Moment, copy_database
from nanoclaw_core.testing import FakeRuntime
from tests.backup.shop import CHATS, back_up, open_shop, restored


@pytest.fixture
def folder(nanoclaw_home: Path) -> Path:
    return nanoclaw_home


@pytest.fixture
async def home(folder: Path) -> Path:
    """A home with one conversation, in which everything has been answered."""
    async with open_shop(folder / "old", chats=CHATS[:1]) as shop:
        await shop.say(CHATS[0], "first")
        await shop.run()
    return folder / "old"


async def session_of(home: Path) -> Path:
    async with open_shop(home, chats=()) as shop:
        (session,) = await shop.sessions()
        return home / session.folder


def names(file: Path) -> set[str]:
    with tarfile.open(file) as tar:
        return {name.removeprefix("home/") for name in tar.getnames() if name.startswith("home/")}


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# --- what is in it ----------------------------------------------------------------------------------------------------------


async def test_the_home_is_in_it_and_what_belongs_to_a_running_host_is_not(home: Path, folder: Path) -> None:
    session = await session_of(home)
    for name in (".env", "plugins.json", "chat-history", "telegram/state.json"):
        put(home / name)
    for name in ("host.lock", "workers/w1/x", "logs/host.log", "backups/old.db", "nanoclaw-20260101-000000.tar.gz"):
        put(home / name)
    put(session / "inbox" / "row" / "message.txt")
    put(session / "outbox" / "a-file-that-waits")
    put(session / "state" / "memory")
    put(home / "groups" / "main" / "notes")
    await back_up(home, folder / "backup")
    own = session.relative_to(home).as_posix()
    files = {".env", "plugins.json", "chat-history", "telegram", "telegram/state.json", "nanoclaw.db"}
    mailbox = {
        own,
        f"{own}/inbound.db",
        f"{own}/outbound.db",
        f"{own}/inbox",
        f"{own}/inbox/row",
        f"{own}/inbox/row/message.txt",
        f"{own}/outbox",
        f"{own}/outbox/a-file-that-waits",
    }
    assert names(folder / "backup") == files | mailbox | {"sessions", "sessions/main"}


async def test_secrets_can_be_left_out_and_logs_taken_along(home: Path, folder: Path) -> None:
    put(home / ".env")
    put(home / "logs" / "host.log")
    await back_up(home, folder / "backup", secrets=False, logs=True)
    assert ".env" not in names(folder / "backup")
    assert "logs/host.log" in names(folder / "backup")


async def test_a_database_of_a_plugin_is_copied_as_one_while_it_is_open(home: Path, folder: Path) -> None:
    (home / "signal").mkdir()
    with closing(sqlite3.connect(home / "signal" / "keys.db", isolation_level=None)) as plugin:
        plugin.execute("PRAGMA journal_mode=WAL")
        plugin.execute("CREATE TABLE keys (name)")
        plugin.execute("INSERT INTO keys VALUES ('one')")  # which is in keys.db-wal only
        await back_up(home, folder / "backup")
    assert "signal/keys.db-wal" not in names(folder / "backup")
    await restored(folder / "backup", folder / "new")
    with closing(sqlite3.connect(folder / "new" / "signal" / "keys.db")) as found:
        assert found.execute("SELECT name FROM keys").fetchone() == ("one",)


def overwrite(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)


def spoil_a_page(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)


@pytest.mark.parametrize("damage", [overwrite, spoil_a_page, Path.unlink])
async def test_a_damaged_mailbox_keeps_nobody_from_a_backup_and_its_session_begins_anew(
    home: Path, folder: Path, damage: Callable[[Path], object]
) -> None:
    session = await session_of(home)
    damage(session / "outbound.db")
    broken = [path.read_bytes() for path in session.glob("outbound.db")]
    made = await back_up(home, folder / "backup")
    assert made.damaged == [session.relative_to(home).as_posix()]
    await to_thread.run_sync(verify, folder / "backup")
    await restored(folder / "backup", folder / "new")
    kept = (folder / "new" / session.relative_to(home)).glob("outbound.db.damaged")
    assert [path.read_bytes() for path in kept] == broken
    async with open_shop(folder / "new") as shop:
        await shop.say(CHATS[0], "second")
        await shop.run()
        assert shop.told == ["second"]


async def test_a_folder_without_a_database_is_no_home_to_back_up(folder: Path) -> None:
    with pytest.raises(HomeUnusable, match="nothing to back up"):
        await back_up(folder, folder / "backup")


async def test_a_full_disk_is_an_error_and_the_home_is_as_it_was(home: Path) -> None:
    from nanoclaw_core.backup.making import Backup, Wanted
    from nanoclaw_core.testing import FakeClock

    class Full(io.BytesIO):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        await Backup(home=home, clock=FakeClock(), wanted=Wanted(workspaces=None)).write(Full())
    async with open_shop(home) as shop:
        assert await shop.is_idle()


async def test_a_cancelled_backup_ends_at_once(home: Path, folder: Path) -> None:
    put(home / "large", "x" * 10_000_000)
    with anyio.CancelScope() as scope:
        await back_up(home, folder / "backup", between=lambda: from_thread.run_sync(scope.cancel))
    assert scope.cancelled_caught
    with pytest.raises(BackupUnusable):
        await to_thread.run_sync(verify, folder / "backup")


# --- folders that containers write ------------------------------------------------------------------------------------------


@pytest.fixture
async def workspaces(home: Path) -> Path:
    """An agent's folder, with what an agent may think of, and a state."""
    main = home / "groups" / "main"
    put(main / "notes", "remember")
    put(main / "deep" / "er" / "x")
    os.mkfifo(main / "pipe")
    (main / "shadow").symlink_to("/etc/shadow")
    (main / "up").symlink_to("../..")
    (main / os.fsdecode(b"new\nline \xff")).write_text("odd")
    with (main / "holes").open("wb") as file:
        file.truncate(1 << 40)
        file.seek(1 << 20)
        file.write(b"abc")
    put(await session_of(home) / "state" / "memory", "of the conversation")
    return main


async def test_they_come_back_whatever_is_in_them(home: Path, workspaces: Path, folder: Path) -> None:
    async with FakeRuntime() as runtime:
        made = await back_up(home, folder / "backup", runtime)
    assert made.left_out == [("groups/main/pipe", "a named pipe")]
    await restored(folder / "backup", folder / "new")
    main = folder / "new" / "groups" / "main"
    assert (main / "notes").read_text() == "remember"
    assert (main / os.fsdecode(b"new\nline \xff")).read_text() == "odd"
    assert [(main / name).readlink() for name in ("shadow", "up")] == [Path("/etc/shadow"), Path("../..")]
    assert (main / "holes").stat().st_size == 1 << 40
    assert (await session_of(folder / "new") / "state" / "memory").read_text() == "of the conversation"


async def test_they_are_read_in_a_container_with_all_walls_and_nothing_else(home: Path, workspaces: Path, folder: Path) -> None:
    async with FakeRuntime() as runtime:
        await back_up(home, folder / "backup", runtime)
        (spec,) = runtime.read_specs
    async with open_shop(home) as shop:
        assert spec.user == worker_user(await shop.database.read(known_id))
    assert all(mount.read_only for mount in spec.mounts)
    state = await session_of(home) / "state"
    assert [(mount.source, mount.target) for mount in spec.mounts] == [(workspaces, "/backup/0"), (state, "/backup/1")]
    assert "nanoclaw.installation" not in spec.labels  # a host that starts meanwhile would clear it away


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
async def test_they_belong_to_the_workers_of_the_restored_home(home: Path, workspaces: Path, folder: Path) -> None:
    async with FakeRuntime() as runtime:
        await back_up(home, folder / "backup", runtime)
    await restored(folder / "backup", folder / "new")
    async with open_shop(folder / "new") as shop:
        user = worker_user(await shop.database.read(known_id))
    main = folder / "new" / "groups" / "main"
    for path in (main, main / "notes", main / "shadow", main / "deep" / "er", await session_of(folder / "new") / "state"):
        assert f"{path.lstat().st_uid}:{path.lstat().st_gid}" == user
    assert (folder / "new" / "nanoclaw.db").stat().st_uid == 0


async def test_a_container_that_fails_in_the_middle_is_an_error(
    home: Path, workspaces: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = put(folder / "program.py", "import sys; sys.stdout.write('x' * 100); sys.exit('it broke')")
    monkeypatch.setattr(packer, "__file__", str(program))
    async with FakeRuntime() as runtime:
        with pytest.raises(ContainerFailed, match="it broke"):
            await back_up(home, folder / "backup", runtime)


WICKED = """
import io, sys, tarfile
with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
    entry = tarfile.TarInfo({name!r})
    entry.type, entry.linkname = {kind!r}, "/etc/shadow"
    tar.addfile(entry)
    entry = tarfile.TarInfo("left-out.json")
    entry.size = 2
    tar.addfile(entry, io.BytesIO(b"[]"))
"""


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("0/../../nanoclaw.db", tarfile.REGTYPE),
        ("9/x", tarfile.REGTYPE),
        ("nanoclaw.db", tarfile.REGTYPE),
        ("0/x", tarfile.CHRTYPE),
        ("0/x", tarfile.LNKTYPE),
    ],
)
async def test_what_comes_out_of_the_container_is_not_believed(
    home: Path, workspaces: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: bytes
) -> None:
    program = put(folder / "program.py", WICKED.format(name=name, kind=kind))
    monkeypatch.setattr(packer, "__file__", str(program))
    async with FakeRuntime() as runtime:
        with pytest.raises(ContainerFailed, match="not to be believed"):
            await back_up(home, folder / "backup", runtime)


def test_a_file_that_changes_while_it_is_read_has_the_size_that_was_announced(tmp_path: Path) -> None:
    path = put(tmp_path / "grows", "12345")
    with path.open("rb") as file:
        info, pieces = packer.packed(file.fileno(), "grows", os.fstat(file.fileno()))
        path.write_text("1234567890")
        assert (info.size, b"".join(pieces)) == (5, b"12345")
        path.write_text("1")
        assert b"".join(packer.stored(file.fileno(), 5, None)) == b"1\0\0\0\0"


def test_folders_that_are_too_deep_are_left_out(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(150):
        deep = deep / "d"
    deep.mkdir(parents=True)
    out = io.BytesIO()
    packer.pack([str(tmp_path)], out)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as tar:
        assert b"too deep" in (tar.extractfile("left-out.json") or io.BytesIO()).read()


# --- how it begins ----------------------------------------------------------------------------------------------------------


async def claims(home: Path) -> tuple[str, list[str]]:
    async with open_shop(home) as shop:
        alive = await shop.database.read(workers.live_workers)
        return await shop.database.read(known_id), [record.id for record in alive]


@pytest.fixture
async def with_worker(home: Path) -> Path:
    async with open_shop(home) as shop:
        (session,) = await shop.sessions()
        claim = partial(workers.claim_worker, worker_id="w1", session_id=session.id, secret_hash="", image="", now=1.0)
        await shop.database.write(claim)
    return home


async def test_a_restored_home_is_another_installation_without_workers(with_worker: Path, folder: Path) -> None:
    before, _ = await claims(with_worker)
    await back_up(with_worker, folder / "backup")
    await restored(folder / "backup", folder / "new")
    after, alive = await claims(folder / "new")
    assert before != after
    assert alive == []
    assert (await claims(with_worker)) == (before, ["w1"])  # who goes on as if nothing had been


async def test_one_that_replaces_its_home_is_the_same_and_the_old_one_is_kept(with_worker: Path, folder: Path) -> None:
    before, _ = await claims(with_worker)
    await back_up(with_worker, folder / "backup")
    put(with_worker / "later")
    aside = await restored(folder / "backup", with_worker, replace=True)
    assert await claims(with_worker) == (before, [])
    assert aside is not None
    assert (aside / "later").exists()
    assert not (with_worker / "later").exists()


async def test_a_home_that_is_not_empty_is_left_alone(home: Path, folder: Path) -> None:
    await back_up(home, folder / "backup")
    with pytest.raises(HomeUnusable, match="--replace"):
        await restored(folder / "backup", home)
    put(folder / "other" / "thesis")
    with pytest.raises(HomeUnusable, match="something else"):
        await restored(folder / "backup", folder / "other", replace=True)
    assert listing(folder / "other") == ["thesis"]
    assert listing(folder) == ["backup", "old", "other"]


async def test_an_empty_home_is_taken(home: Path, folder: Path) -> None:
    await back_up(home, folder / "backup")
    (folder / "new").mkdir(mode=0o755)
    await restored(folder / "backup", folder / "new")
    assert stat.S_IMODE((folder / "new").stat().st_mode) == 0o700


@pytest.mark.parametrize("replace", [False, True])
async def test_the_home_of_a_running_host_is_refused(home: Path, folder: Path, replace: bool) -> None:
    await back_up(home, folder / "backup")
    with own_home(home), pytest.raises(HostRunning):
        await restored(folder / "backup", home, replace=replace)


async def test_what_a_killed_restore_left_is_cleared_away(home: Path, folder: Path) -> None:
    await back_up(home, folder / "backup")
    put(folder / "new.restoring" / "groups" / "main" / "half")
    await restored(folder / "backup", folder / "new")
    assert not (folder / "new" / "groups").exists()
    assert not (folder / "new.restoring").exists()


async def test_an_interrupted_restore_leaves_nothing(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await back_up(home, folder / "backup")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nanoclaw_core.backup.restoring.begin_anew", interrupted)
    with pytest.raises(KeyboardInterrupt):
        await restored(folder / "backup", folder / "new")
    assert listing(folder) == ["backup", "old"]


async def test_a_damaged_central_database_is_not_backed_up(home: Path, folder: Path) -> None:
    spoil_a_page(home / "nanoclaw.db")
    with pytest.raises(DatabaseBroken):
        await back_up(home, folder / "backup")


async def test_a_full_disk_for_copies_is_not_taken_for_damage(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(sqlite3.Connection):
        def backup(self, *_: object, **__: object) -> None:
            full = sqlite3.OperationalError("database or disk is full")
            full.sqlite_errorcode = sqlite3.SQLITE_FULL
            raise full

    def opened(path: Path) -> closing[sqlite3.Connection]:
        return closing(sqlite3.connect(path, isolation_level=None, factory=Full))

    monkeypatch.setattr(snapshot, "_open", opened)
    with pytest.raises(BackupFailed, match="disk is full"):
        await back_up(home, folder / "backup")


async def test_a_damaged_central_database_is_not_restored(home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoilt(path: Path, into: Path, since: Moment) -> None:
        copy_database(path, into, since)
        spoil_a_page(into)

    monkeypatch.setattr(making, "copy_database", spoilt)
    monkeypatch.setattr(making, "examine", lambda _: Condition(revision="", is_newer=False, written_by="", fault=""))
    await back_up(home, folder / "backup")
    with pytest.raises(BackupUnusable, match="central database is damaged"):
        await to_thread.run_sync(verify, folder / "backup")
    with pytest.raises(BackupUnusable, match="central database is damaged"):
        await restored(folder / "backup", folder / "new")


async def test_databases_of_a_later_version_are_refused_with_the_version_to_install(home: Path, folder: Path) -> None:
    session = await session_of(home)
    with closing(sqlite3.connect(session / "inbound.db")) as inbound:
        inbound.execute("PRAGMA user_version=99")
    await back_up(home, folder / "backup")
    with pytest.raises(BackupTooNew, match="nanoclaw-core>="):
        await to_thread.run_sync(verify, folder / "backup")
    with pytest.raises(BackupTooNew):
        await restored(folder / "backup", folder / "new")
