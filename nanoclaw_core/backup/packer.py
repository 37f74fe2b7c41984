"""Packs folders into a tar, whatever is in them and whoever changes them meanwhile.

This text also runs alone, inside a throw-away container: what a container can write, the host does not open. So it imports
nothing of NanoClaw. No link is followed, nothing but folders and regular files is opened, and each file has as many bytes as
its header says.
"""

from __future__ import annotations

import io
import json
import os
import stat
import sys
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from typing import BinaryIO, Final, TypeAlias

Segments: TypeAlias = Sequence[tuple[int, int]]
LeftOut: TypeAlias = "list[tuple[str, str]]"

CHUNK: Final = 64 * 1024
LEFT_OUT: Final = "left-out.json"
MOST_LEFT_OUT: Final = 1000
_DEEPEST: Final = 100
_MOST_SEGMENTS: Final = 50_000
_SPARSE_LIMIT: Final = 8 * 1024**3  # beyond it `tarfile` loses its place in a file with holes
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ODD: Final = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def entries(folder: int, name: str, left_out: LeftOut, depth: int = 0) -> Iterator[tuple[tarfile.TarInfo, Iterable[bytes]]]:
    """The open `folder` and everything below it, a folder before what is in it, each with the bytes that are stored of it.

    The bytes must be read before the next entry is asked for. What cannot be packed is added to `left_out`, with the reason.
    """
    yield header(name, os.fstat(folder), tarfile.DIRTYPE), ()
    with os.scandir(folder) as listing:
        names = [entry.name for entry in listing]
    for each in names:
        path = f"{name}/{each}"
        try:
            yield from _entry(folder, each, path, left_out, depth)
        except FileNotFoundError:  # deleted meanwhile
            continue
        except PermissionError:
            left_out.append((path, "its permissions forbid reading it"))


def _entry(
    parent: int, name: str, path: str, left_out: LeftOut, depth: int
) -> Iterator[tuple[tarfile.TarInfo, Iterable[bytes]]]:
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    if stat.S_ISLNK(found.st_mode):
        link = header(path, found, tarfile.SYMTYPE)
        link.linkname = os.readlink(name, dir_fd=parent)
        yield link, ()
    elif stat.S_ISDIR(found.st_mode) and depth < _DEEPEST:
        with _opened(name, _FOLDER, parent) as folder:
            yield from entries(folder.fileno, path, left_out, depth + 1)
    elif stat.S_ISREG(found.st_mode):
        with _opened(name, _FILE, parent) as file:
            found = os.fstat(file.fileno)
            if stat.S_ISREG(found.st_mode):
                yield packed(file.fileno, path, found)
    else:
        left_out.append((path, _ODD.get(stat.S_IFMT(found.st_mode), "too deep below other folders")))


class _opened:  # noqa: N801  # used as a function
    """A descriptor that is closed at the end of the block."""

    def __init__(self, name: str, flags: int, parent: int | None = None) -> None:
        self.fileno = os.open(name, flags, dir_fd=parent)

    def __enter__(self) -> _opened:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.fileno)


def header(name: str, found: os.stat_result, kind: bytes) -> tarfile.TarInfo:
    """What the tar says of an entry: neither its owner nor any right beyond the ordinary nine."""
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, found.st_mode & 0o777, int(found.st_mtime)
    return info


def packed(
    file: int, name: str, found: os.stat_result, *, may_have_holes: bool = True
) -> tuple[tarfile.TarInfo, Iterable[bytes]]:
    """A regular file that is open, as large as it is now."""
    segments = _segments(file, found) if may_have_holes else None
    info = header(name, found, tarfile.REGTYPE)
    announce(info, found.st_size, segments)
    return info, stored(file, found.st_size, segments)


def announce(info: tarfile.TarInfo, size: int, segments: Segments | None) -> None:
    """Set the size; a file with holes is stored as GNU tar does it (sparse format 1.0): a map, then what is in its segments."""
    info.size = size
    if segments is not None:
        sparse = {"major": "1", "minor": "0", "name": info.name, "realsize": str(size)}
        info.pax_headers = {f"GNU.sparse.{key}": value for key, value in sparse.items()}
        info.size = len(sparse_map(segments)) + sum(length for _, length in segments)


def sparse_map(segments: Segments) -> bytes:
    """Where a file with holes has bytes, as text in whole blocks."""
    text = "".join(f"{number}\n" for number in [len(segments), *(number for segment in segments for number in segment)])
    return text.encode().ljust(-(-len(text) // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE, b"\0")


def stored(file: int, size: int, segments: Segments | None) -> Iterator[bytes]:
    """The bytes that go into the tar: as many as announced, also when the file has grown or shrunk since."""
    if segments is not None:
        yield sparse_map(segments)
    for offset, length in [(0, size)] if segments is None else segments:
        end = offset + length
        while offset < end:
            data = os.pread(file, min(end - offset, CHUNK), offset) or bytes(min(end - offset, CHUNK))
            yield data
            offset += len(data)


def _segments(file: int, found: os.stat_result) -> Segments | None:
    """Where the file has bytes; None for one that is best stored whole."""
    if found.st_blocks * 512 >= found.st_size:
        return None
    segments: list[tuple[int, int]] = []
    end = 0
    while end < found.st_size and len(segments) <= _MOST_SEGMENTS:
        try:
            begin = os.lseek(file, end, os.SEEK_DATA)
            end = min(os.lseek(file, begin, os.SEEK_HOLE), found.st_size)
        except OSError:  # nothing but a hole is left
            break
        if begin < end:
            segments.append((begin, end - begin))
    is_fit = len(segments) <= _MOST_SEGMENTS and sum(length for _, length in segments) < _SPARSE_LIMIT
    return segments if is_fit else None


class Chunks:
    """Bytes that come in pieces, as the file that `tarfile` reads from."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def read(self, count: int) -> bytes:
        while len(self._rest) < count and (piece := next(self._pieces, None)) is not None:
            self._rest += piece
        data, self._rest = self._rest[:count], self._rest[count:]
        return data


def open_tar(out: BinaryIO) -> tarfile.TarFile:
    """A tar that is written to `out` as it comes, with names of any bytes."""
    settings = {"format": tarfile.PAX_FORMAT, "encoding": "utf-8", "errors": "surrogateescape", "copybufsize": CHUNK}
    return tarfile.open(fileobj=out, mode="w|", bufsize=CHUNK, **settings)  # type: ignore[call-overload,no-any-return]


def add(tar: tarfile.TarFile, info: tarfile.TarInfo, pieces: Iterable[bytes]) -> None:
    """Write one entry, and forget it: `tarfile` would remember them all."""
    tar.addfile(info, Chunks(pieces) if info.isreg() else None)  # type: ignore[arg-type]  # it reads, and nothing else
    tar.members.clear()  # type: ignore[attr-defined]  # the stubs leave it out


def pack(folders: Sequence[str], out: BinaryIO) -> None:
    """Pack `folders`, called 0, 1, 2 …, and at the end what was left out of them."""
    left_out: LeftOut = []
    with open_tar(out) as tar:
        for number, path in enumerate(folders):
            try:
                with _opened(path, _FOLDER) as folder:
                    for info, pieces in entries(folder.fileno, str(number), left_out):
                        add(tar, info, pieces)
            except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
                left_out.append((str(number), str(error.strerror)))
        text = json.dumps(left_out[:MOST_LEFT_OUT]).encode()
        last = tarfile.TarInfo(LEFT_OUT)
        last.size = len(text)
        tar.addfile(last, io.BytesIO(text))


if __name__ == "__main__":
    pack(sys.argv[1:], sys.stdout.buffer)
