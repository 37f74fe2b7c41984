"""A backup file from a stranger: whatever is in it, nothing is believed, and nothing is written outside the new home."""

from __future__ import annotations

import gzip
import io
import json
import os
import stat
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core.backup.reader import read
from nanoclaw_core.backup.records import FORMAT, Header, Kind, Manifest, Member
from nanoclaw_core.backup.restoring import restore
from nanoclaw_core.backup.verifying import verify
from nanoclaw_core.backup.writer import Writer, new_file
from nanoclaw_core.errors import BackupTooNew, BackupUnusable, HomeUnusable
from nanoclaw_core.testing import FakeClock
from tests.house import _template

HEADER = Header(format=FORMAT, version="0.1.0", created_at=1.0, installation="a" * 32, workspaces=True, secrets=True)


def manifest(digest: str, members: int = 0, **changes: Any) -> Manifest:  # Any: as diverse as its fields
    values = {"format": FORMAT, "version": "0.1.0", "created_at": 1.0, "finished_at": 2.0, "schemas": {}, "bytes": 0}
    return Manifest(**{**values, "members": members, "sha256": digest, "left_out": [], "damaged": [], **changes})


def written(path: Path, members: list[tuple[Member, bytes]], header: Header = HEADER) -> Path:
    """A backup of these members and of a database, whole and with the right checksums."""
    database = _template().read_bytes()
    members = [(Member(name="nanoclaw.db", kind=Kind.FILE, size=len(database)), database), *members]
    with path.open("wb") as out, Writer(out, lambda: None) as writer:
        writer.begin(header)
        for member, content in members:
            writer.add(member, [content])
        writer.end(lambda digest: manifest(digest, writer.members))
    return path


def of_file(name: str, content: bytes = b"x", **changes: Any) -> tuple[Member, bytes]:  # Any: see `Member`
    return Member(name=name, kind=Kind.FILE, size=len(content), **changes), content


def of_folder(name: str, mode: int = 0o700) -> tuple[Member, bytes]:
    return Member(name=name, kind=Kind.FOLDER, mode=mode), b""


def of_link(name: str, target: str) -> tuple[Member, bytes]:
    return Member(name=name, kind=Kind.LINK, target=target), b""


GROUPS = [of_folder("groups"), of_folder("groups/main")]


class Ignoring:
    def begin(self, header: Header) -> None:
        pass

    def take(self, member: Member, pieces: object) -> None:
        pass


def reason(file: Path, fails: Callable[[Path], object] = verify) -> str:
    with pytest.raises(BackupUnusable) as refused:
        fails(file)
    return refused.value.reason


def refusal(tmp_path: Path, members: list[tuple[Member, bytes]]) -> str:
    """Why a backup of these members is not restored; nothing is there afterwards."""
    file = written(tmp_path / "backup", members)
    found = reason(file, lambda path: restore(path, tmp_path / "home", FakeClock(), replace=False))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup"]
    return found


# --- what a file can be -----------------------------------------------------------------------------------------------------


def test_a_whole_one_is_verified_and_says_what_it_is(tmp_path: Path) -> None:
    found = verify(written(tmp_path / "backup", [*GROUPS, of_file("groups/main/notes", b"hello")]))
    assert (found.members, found.version) == (4, "0.1.0")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.99])
def test_a_file_that_was_cut_says_that_its_end_is_missing(tmp_path: Path, share: float) -> None:
    content = written(tmp_path / "backup", [of_file("notes", os.urandom(100_000))]).read_bytes()
    (tmp_path / "backup").write_bytes(content[: int(len(content) * share)])
    assert "its end is missing" in reason(tmp_path / "backup")


def is_same(content: bytes, other: bytes) -> bool:
    """Whether both are compressed from the same: zeros can be taken from many places."""
    try:
        return gzip.decompress(content) == gzip.decompress(other)
    except (OSError, EOFError, zlib.error):
        return False


def test_every_flipped_bit_that_changes_anything_is_found(tmp_path: Path) -> None:
    content = written(tmp_path / "backup", [of_file("notes", os.urandom(2000))]).read_bytes()
    for place in range(10, len(content), 29):
        flipped = bytearray(content)
        flipped[place] ^= 0x10
        (tmp_path / "flipped").write_bytes(flipped)
        assert is_same(content, bytes(flipped)) or reason(tmp_path / "flipped")


def test_a_changed_member_is_named(tmp_path: Path) -> None:
    file = written(tmp_path / "backup", [of_file("one", b"hello"), of_file("two", b"world")])
    changed = gzip.decompress(file.read_bytes()).replace(b"world", b"words")
    file.write_bytes(gzip.compress(changed))
    assert "'two'" in reason(file)


def test_a_member_that_was_taken_out_is_missed(tmp_path: Path) -> None:
    file = written(tmp_path / "backup", [of_file("one"), of_file("two")])
    plain = gzip.decompress(file.read_bytes())
    begin = plain.index(b"home/two\0")
    file.write_bytes(gzip.compress(plain[:begin] + plain[begin + 1024 :]))
    assert "missing" in reason(file)


def test_what_follows_the_end_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "backup", [])
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()) + bytes(8 * 1024 * 1024)))
    assert "follows its end" in reason(file)


def test_garbage_behind_the_end_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "backup", [])
    file.write_bytes(file.read_bytes() + b"garbage")
    assert "damaged" in reason(file)


@pytest.mark.parametrize("content", [b"", b"hello", gzip.compress(b"hello", mtime=0), gzip.compress(bytes(10240), mtime=0)])
def test_something_else_is_no_backup(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    assert "no backup" in reason(tmp_path / "file")


def test_another_tar_is_no_backup(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "file", "w:gz") as tar:
        tar.add(__file__, "notes")
    assert "no backup" in reason(tmp_path / "file")


def test_a_later_format_is_refused_with_the_version_to_install(tmp_path: Path) -> None:
    header = Header(format=FORMAT + 1, version="3.0", created_at=1.0, installation="", workspaces=True, secrets=True)
    with pytest.raises(BackupTooNew, match=r"nanoclaw-core>=3\.0"):
        verify(written(tmp_path / "backup", [], header))


def test_one_without_a_database_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "backup").open("wb") as out, Writer(out, lambda: None) as writer:
        writer.begin(HEADER)
        writer.end(lambda digest: manifest(digest))
    assert read(tmp_path / "backup", Ignoring()).members == 0
    assert "no nanoclaw.db" in reason(tmp_path / "backup")


# --- members that may not be in it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../x", "/x", "a/../../x", "a//b", ".", "a/.", "groups/" + "x" * 256, "x/" * 2500 + "x"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    assert "may not be in it" in refusal(tmp_path, [of_file(name)])


@pytest.mark.parametrize("name", ["host.lock", "control.sock", "workers/w1"])
def test_what_belongs_to_a_running_host_is_refused(tmp_path: Path, name: str) -> None:
    assert "running host" in refusal(tmp_path, [of_file(name)])


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    outside = tmp_path.with_name(f"{tmp_path.name}-outside")
    outside.mkdir()
    found = refusal(tmp_path, [*GROUPS, of_link("groups/main/out", str(outside)), of_file("groups/main/out/x")])
    assert "may not be in it" in found
    assert list(outside.iterdir()) == []


def test_a_file_does_not_take_the_place_of_a_link(tmp_path: Path) -> None:
    found = refusal(tmp_path, [*GROUPS, of_link("groups/main/x", "/etc/passwd"), of_file("groups/main/x")])
    assert "File exists" in found


@pytest.mark.parametrize("name", [".env", "sessions/main/s1/inbox/x", "groups"])
def test_a_link_where_only_the_host_writes_is_refused(tmp_path: Path, name: str) -> None:
    assert "a link where none may be" in refusal(tmp_path, [of_link(name, "/etc/passwd")])


def raw(path: Path, entry: tarfile.TarInfo, content: bytes = b"") -> Path:
    """A file whose first member of the home is `entry`, as no honest writer writes it."""
    with tarfile.open(path, "w:gz") as tar:
        header = tarfile.TarInfo("backup.json")
        values = {name: getattr(HEADER, name) for name in HEADER.__struct_fields__}
        text = json.dumps(values).encode()
        header.size = len(text)
        tar.addfile(header, io.BytesIO(text))
        tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.LNKTYPE, tarfile.CONTTYPE])
def test_devices_pipes_and_hard_links_are_refused(tmp_path: Path, kind: bytes) -> None:
    entry = tarfile.TarInfo("home/groups/main/x")
    entry.type, entry.linkname = kind, "home/nanoclaw.db"
    assert "neither a file, a folder nor a link" in reason(raw(tmp_path / "backup", entry))


def test_a_member_outside_of_the_home_is_refused(tmp_path: Path) -> None:
    assert "not of the home" in reason(raw(tmp_path / "backup", tarfile.TarInfo("etc/passwd")))


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    entry = tarfile.TarInfo("home/x")
    entry.type, entry.size = tarfile.XHDTYPE, 1 << 20
    assert "absurd size" in reason(raw(tmp_path / "backup", entry, bytes(1 << 20)))


@pytest.mark.parametrize("content", [b"7" * 512, b"9\n1\n".ljust(512, b"\0"), b"many\n".ljust(512, b"\0"), b"-5\n".ljust(512)])
def test_a_map_of_holes_that_is_cut_or_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    entry = tarfile.TarInfo("home/x")
    entry.size = len(content)
    entry.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9"}
    assert reason(raw(tmp_path / "backup", entry, content))


def test_a_file_with_absurd_holes_is_refused(tmp_path: Path) -> None:
    holes = Member(name="x", kind=Kind.FILE, size=1 << 50, segments=((0, 1),))
    assert "size is absurd" in refusal(tmp_path, [(holes, b"x")])
    crossed = Member(name="x", kind=Kind.FILE, size=9, segments=((5, 1), (0, 1)))
    assert "size is absurd" in refusal(tmp_path, [(crossed, b"xy")])


def test_a_backup_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "backup", [of_file("notes")])
    monkeypatch.setattr("nanoclaw_core.backup.restoring.free_bytes", lambda _: 1000)
    with pytest.raises(HomeUnusable, match="no room"):
        restore(file, tmp_path / "home", FakeClock(), replace=False)
    assert [path.name for path in tmp_path.iterdir()] == ["backup"]


# --- what is restored as it was ---------------------------------------------------------------------------------------------


def test_holes_links_modes_and_odd_names_come_back(tmp_path: Path) -> None:
    odd = os.fsdecode(b"new\nline \xff")
    members = [
        *GROUPS,
        of_folder("groups/main/closed", 0o500),
        of_file(f"groups/main/closed/{odd}", b"odd", mode=0o640, mtime=1234),
        of_link("groups/main/link", "/etc/shadow"),
        (Member(name="groups/main/holes", kind=Kind.FILE, size=1 << 40, segments=((1 << 30, 3),)), b"abc"),
    ]
    file = written(tmp_path / "backup", members)
    assert verify(file).members == 7
    restore(file, tmp_path / "home", FakeClock(), replace=False)
    main = tmp_path / "home" / "groups" / "main"
    found = (main / "closed" / odd).stat()
    assert (stat.S_IMODE(found.st_mode), found.st_mtime) == (0o640, 1234)
    assert stat.S_IMODE((main / "closed").stat().st_mode) == 0o500
    assert (main / "link").readlink() == Path("/etc/shadow")
    with (main / "holes").open("rb") as holes:
        holes.seek((1 << 30) - 1)
        assert holes.read(5) == b"\0abc\0"
        assert os.fstat(holes.fileno()).st_size == 1 << 40
        assert os.fstat(holes.fileno()).st_blocks < 1000


# --- a file that is being written ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_file_that_could_not_be_finished_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def begin() -> None:
        with new_file(tmp_path / "backup", force=False) as out:
            out.write(b"begun")
            assert (tmp_path / "backup.part").exists()
            raise error

    with pytest.raises(type(error)):
        begin()
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_for_its_owner_alone_and_none_is_overwritten_unasked(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    (tmp_path / "backup.part").write_text("of one that was killed")
    with new_file(path, force=False) as out:
        out.write(b"one")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError), new_file(path, force=False):
        pass
    with new_file(path, force=True) as out:
        out.write(b"two")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("backup", b"two")]
