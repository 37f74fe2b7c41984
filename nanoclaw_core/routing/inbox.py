"""What lies in a session's inbox: long texts and files, where its container can read them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from nanoclaw_core.filenames import bare_name
from nanoclaw_core.models import FileKind, InboundFile, KeptFile

_DEFAULT_NAMES: Final = {
    FileKind.PHOTO: "photo.jpg",
    FileKind.VIDEO: "video.mp4",
    FileKind.VOICE: "voice.ogg",
    FileKind.AUDIO: "audio.mp3",
    FileKind.STICKER: "sticker.webp",
    FileKind.FILE: "file",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A file that was fetched, in the host's own folder, or why it was not."""

    name: str
    kind: FileKind
    path: Path | None = None
    problem: str = ""


def names_for(files: Sequence[InboundFile]) -> list[str]:
    """A name for each file, fit for a folder of its own: bare, visible, short, and given once.

    >>> [*names_for([InboundFile(name=name, reference="1") for name in ("../../.bashrc", "a.txt", "A.txt", "")])]
    ['bashrc', 'a.txt', 'A-2.txt', 'file']
    """
    names: list[str] = []
    for file in files:
        name = bare_name(file.name) or _DEFAULT_NAMES[file.kind]
        stem, dot, end = name.rpartition(".")
        count = 1
        while name.casefold() in (known.casefold() for known in names):
            count += 1
            name = f"{stem or end}-{count}{dot}{end}" if stem else f"{end}-{count}"
        names.append(name)
    return names


def keep_text(path: Path, text: str) -> None:
    """Write `text` where the container can read it: the folder above is mounted read-only and nobody else writes there."""

    def write(file: BinaryIO) -> None:
        file.write(text.encode("utf-8"))

    _keep(path, write)


def keep_files(inbox: Path, row: str, files: Sequence[InboundFile], arrived: Sequence[Arrived]) -> tuple[KeptFile, ...]:
    """Put the files of the row `row` into its folder; one that another life of the session put there already is taken as it is.

    `arrived` holds one entry for each file, or none at all.
    """
    if not arrived:
        arrived = [
            Arrived(name=name, kind=file.kind, problem="it is lost") for name, file in zip(names_for(files), files, strict=True)
        ]
    kept = []
    for each in arrived:
        place = inbox / row / each.name
        if each.path is not None and not place.exists():
            _link(each.path, place)
        found = place.exists()
        path = f"{row}/{each.name}" if found else ""
        kept.append(KeptFile(name=each.name, kind=each.kind, path=path, problem="" if found else each.problem))
    return tuple(kept)


def _link(source: Path, place: Path) -> None:
    """Several sessions may hear of one file: it is on the disk once."""
    _open_folders(place)
    try:
        os.link(source, place)
    except OSError:  # not on this file system
        with source.open("rb") as content:
            _keep(place, lambda file: shutil.copyfileobj(content, file))


def _keep(path: Path, write: Callable[[BinaryIO], object]) -> None:
    _open_folders(path)
    unfinished = path.with_name(f".{path.name[:60]}.part")
    with unfinished.open("wb") as file:
        os.fchmod(file.fileno(), 0o644)
        write(file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)


def _open_folders(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    for folder in (path.parent, path.parent.parent):
        with suppress(PermissionError):
            folder.chmod(0o755)
