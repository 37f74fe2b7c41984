"""Reads a backup file once, from its beginning to its end, and believes nothing in it: anybody may have written it."""

from __future__ import annotations

import gzip
import hashlib
import json
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final, Protocol, Self, TypeVar

import msgspec

from nanoclaw_core.backup.packer import CHUNK, sparse_map
from nanoclaw_core.backup.records import FORMAT, HEADER, HOME, LISTING, MANIFEST, Header, Kind, Manifest, Member, objection
from nanoclaw_core.errors import BackupTooNew, BackupUnusable

T = TypeVar("T", Header, Manifest)

_KINDS: Final = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.DIRTYPE: Kind.FOLDER,
    tarfile.SYMTYPE: Kind.LINK,
}
_EXTENSIONS: Final = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)
_LARGEST_EXTENSION: Final = 64 * 1024
_LARGEST_MAP: Final = 4 * 1024 * 1024
_LARGEST_RECORD: Final = 4 * 1024 * 1024
_PADDING: Final = 1024 * 1024
NO_BACKUP: Final = "it is no backup of NanoClaw"
INCOMPLETE: Final = "it is incomplete: its end is missing"


class Sink(Protocol):
    """Takes what is read."""

    def begin(self, header: Header) -> None:
        """What the file says of itself, before anything else."""

    def take(self, member: Member, pieces: Iterator[bytes]) -> None:
        """The next member, and its bytes as they are stored. Those that are not read are checked all the same."""


class Entry(tarfile.TarInfo):
    """A header of a tar, refused where `tarfile` would believe it and use up the memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        entry = super().frombuf(buf, encoding, errors)
        if entry.size < 0 or (entry.type in _EXTENSIONS and entry.size > _LARGEST_EXTENSION):
            raise tarfile.ReadError("a header has an absurd size")
        return entry

    # Any: as `tarfile` calls it, whose own would look for the end of a map for ever, and hold one of any length.
    def _proc_gnusparse_10(self, next: Any, _headers: Any, tar: Any) -> None:  # noqa: A002
        text, lines, wanted = bytearray(), 0, 1
        while lines < wanted:
            block = tar.fileobj.read(tarfile.BLOCKSIZE)
            if len(block) < tarfile.BLOCKSIZE or len(text) > _LARGEST_MAP:
                raise tarfile.ReadError("a map of holes is cut, or absurd")
            text += block
            lines += block.count(b"\n")
            if lines and wanted == 1:
                wanted = 1 + 2 * int(text.partition(b"\n")[0])
        numbers = [int(number) for number in text.split(b"\n")[1:wanted]]
        next.offset_data = tar.fileobj.tell()
        next.sparse = list(zip(numbers[::2], numbers[1::2], strict=True))


class Readable(Protocol):
    """What `tarfile` needs of a file."""

    def read(self, count: int, /) -> bytes:
        """Up to `count` bytes; none at the end."""


def open_members(stream: Readable) -> tarfile.TarFile:
    """A tar that is read as it comes."""
    settings = {"tarinfo": Entry, "encoding": "utf-8", "errors": "surrogateescape"}
    return tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK, **settings)  # type: ignore[call-overload,no-any-return]


def next_member(tar: tarfile.TarFile) -> tarfile.TarInfo | None:
    """The next entry, which `tarfile` then forgets; None at the end."""
    try:
        entry = tar.next()
    except (ValueError, LookupError, OverflowError) as error:  # what `tarfile` makes of numbers that are none
        raise tarfile.ReadError(str(error)) from error
    tar.members.clear()  # type: ignore[attr-defined]  # the stubs leave it out
    if entry is not None and entry.size < 0:
        raise tarfile.ReadError("a header has an absurd size")
    return entry


def member_of(entry: tarfile.TarInfo, name: str) -> Member:
    """What an entry is, under this name.

    Raises:
        ValueError: it is nothing that may be in a backup.
    """
    kind = _KINDS.get(entry.type)
    if kind is None:
        raise ValueError("it is neither a file, a folder nor a link")
    sparse: Any = entry.sparse  # pairs of numbers, which the stubs do not know
    member = Member(
        name=name,
        kind=kind,
        mode=entry.mode & 0o777,
        mtime=max(0, int(entry.mtime)),
        size=entry.size if kind is Kind.FILE else 0,
        target=entry.linkname if kind is Kind.LINK else "",
        segments=None if sparse is None else tuple((offset, length) for offset, length in sparse if length),
    )
    if reason := objection(member):
        raise ValueError(reason)
    return member


def pieces_of(tar: tarfile.TarFile, member: Member) -> Iterator[bytes]:
    """The bytes of a file, without its holes."""
    stream: Any = tar.fileobj  # which stands where the bytes begin, and knows no way back
    left = member.stored_size
    while left:
        if not (piece := stream.read(min(left, CHUNK))):
            raise tarfile.ReadError("a member ends too early")
        left -= len(piece)
        yield piece


def read(path: Path, sink: Sink) -> Manifest:
    """Hand everything to `sink`; return the manifest once all checksums have been found right.

    Raises:
        BackupUnusable: what is wrong with the file. BackupTooNew: which version reads it.
    """
    try:
        with path.open("rb") as file, tempfile.TemporaryFile() as seen:
            return _Reading(path, _Unzipped(path, file), sink, seen).run()
    except OSError as error:
        if error.filename != str(path):
            raise
        raise BackupUnusable(path, error.strerror or str(error)) from error


class _Unzipped:
    """The tar in a compressed file, as the file that `tarfile` reads from."""

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path = path
        self._zipped = gzip.GzipFile(fileobj=file, mode="rb")
        self._begun = False

    def read(self, count: int) -> bytes:
        try:
            piece = self._zipped.read(count)
        except EOFError as error:
            raise BackupUnusable(self._path, INCOMPLETE) from error
        except gzip.BadGzipFile as error:
            raise BackupUnusable(self._path, f"it is damaged ({error})" if self._begun else NO_BACKUP) from error
        except zlib.error as error:
            raise BackupUnusable(self._path, f"it is damaged ({error})") from error
        self._begun = True
        return piece


class _Reading:
    """One pass over a file. `seen` gets the list of members as they were found."""

    def __init__(self, path: Path, stream: _Unzipped, sink: Sink, seen: BinaryIO) -> None:
        self._path = path
        self._stream = stream
        try:
            self._tar = open_members(stream)
        except tarfile.TarError as error:
            raise BackupUnusable(path, NO_BACKUP) from error
        self._sink = sink
        self._seen = seen
        self._sum = hashlib.sha256()
        self._count = 0

    def run(self) -> Manifest:
        try:
            return self._run()
        except tarfile.TarError as error:
            raise BackupUnusable(self._path, f"it is damaged ({error})") from error

    def _run(self) -> Manifest:
        header = self._record(next_member(self._tar), HEADER, Header, NO_BACKUP)
        self._sink.begin(header)
        while (entry := next_member(self._tar)) is not None and entry.name != LISTING:
            self._take(entry)
        culprit = self._first_difference(entry)
        manifest = self._record(next_member(self._tar), MANIFEST, Manifest, INCOMPLETE)
        if manifest.sha256 != self._sum.hexdigest() or manifest.members != self._count or culprit:
            raise BackupUnusable(self._path, f"it is damaged: {culprit or 'its list of members'} is not what was backed up")
        self._require_end()
        return manifest

    def _require_end(self) -> None:
        """Read what `tarfile` leaves unread, at whose end the checksum of the compression is compared."""
        is_more, padding = next_member(self._tar) is not None, 0
        while not is_more and (piece := self._stream.read(CHUNK)):
            padding += len(piece)
            is_more = padding > _PADDING
        if is_more:
            raise BackupUnusable(self._path, "something follows its end")

    def _take(self, entry: tarfile.TarInfo) -> None:
        name = entry.name.removeprefix(HOME)
        try:
            if name == entry.name:
                raise ValueError("it is not of the home")
            member = member_of(entry, name)
        except ValueError as error:
            raise BackupUnusable(self._path, f"{entry.name!r} may not be in it: {error}") from error
        digest = hashlib.sha256(member.target.encode(errors="surrogateescape"))
        digest.update(b"" if member.segments is None else sparse_map(member.segments))

        def heard() -> Iterator[bytes]:
            for piece in pieces_of(self._tar, member):
                digest.update(piece)
                yield piece

        pieces = heard()
        self._sink.take(member, pieces)
        for _ in pieces:
            pass
        line = member.line(digest.hexdigest())
        self._seen.write(line)
        self._sum.update(line)
        self._count += 1

    def _first_difference(self, listing: tarfile.TarInfo | None) -> str:
        """The name of the first member that is not as the list says; '' if all are."""
        if listing is None or not listing.isreg() or (file := self._tar.extractfile(listing)) is None:
            raise BackupUnusable(self._path, INCOMPLETE)
        self._seen.seek(0)
        for line in self._seen:
            if line != file.readline(_LARGEST_EXTENSION):
                return repr(str(json.loads(line)["name"]))
        return "a member that is missing" if file.read(1) else ""

    def _record(self, entry: tarfile.TarInfo | None, name: str, kind: type[T], otherwise: str) -> T:
        if entry is None or entry.name != name or not entry.isreg() or entry.size > _LARGEST_RECORD:
            raise BackupUnusable(self._path, otherwise)
        file = self._tar.extractfile(entry)
        try:
            values = json.loads(file.read() if file else b"")
            if values["format"] > FORMAT:
                raise BackupTooNew(self._path, str(values["version"]))
            return msgspec.convert(values, kind)
        except (ValueError, KeyError, TypeError) as error:  # msgspec's own error is a ValueError
            raise BackupUnusable(self._path, otherwise) from error
