"""Looks into a wheel without running anything of it, and makes one of what is installed."""

from __future__ import annotations

import ast
import base64
import configparser
import csv
import hashlib
import io
import re
import shutil
import sys
import sysconfig
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesParser
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from nanoclaw_core.errors import InstallRefused
from nanoclaw_core.installed import GROUP, one_line

_LARGEST: Final = 8 * 1024 * 1024  # bytes of a text in a wheel that is looked at
_INSTALLERS: Final = ("INSTALLER", "REQUESTED", "RECORD", "direct_url.json")  # pip writes these, no wheel has them


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What a wheel says of itself. `hooks` are those that the modules of each plugin name implement, as far as one can read."""

    file: Path
    sha256: str
    name: str
    version: str
    requires: tuple[str, ...]
    licence: str
    hooks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def look_into(file: Path) -> Content:
    """Read a wheel's metadata, and the source of its plugins' modules.

    Raises:
        InstallRefused: it is no wheel.
    """
    try:
        parse_wheel_filename(file.name)
        with zipfile.ZipFile(file) as archive:
            (place,) = (name for name in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", name))
            head = BytesParser().parsebytes(_text(archive, place), headersonly=True)
            entries = _entries(archive, place.replace("METADATA", "entry_points.txt"))
            hooks = {name: tuple(_hooks(archive, value)) for name, value in entries.items()}
        digest = sha256_of(file)
    except (InvalidWheelFilename, zipfile.BadZipFile, ValueError, KeyError, configparser.Error, OSError) as error:
        raise InstallRefused(f"{file} is no wheel that can be read ({one_line(error)}); build it anew") from error
    return Content(
        file=file,
        sha256=digest,
        name=canonicalize_name(head["Name"] or ""),
        version=head["Version"] or "",
        requires=tuple(head.get_all("Requires-Dist") or ()),
        licence=licence_of(head),
        hooks=hooks,
    )


def licence_of(head: Message) -> str:
    """The licence that a distribution's metadata states, by its newest field first."""
    stated = (head["License-Expression"] or "").strip() or (head["License"] or "").strip()
    if not stated or "\n" in stated or len(stated) > 60:  # some put the whole text there
        known = [line for line in head.get_all("Classifier") or () if line.startswith("License ::")]
        stated = known[0].rpartition(" :: ")[2] if known else "see its text" if stated else "not stated"
    return stated


def sha256_of(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _text(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > _LARGEST:
        raise ValueError(f"{name} is too large")
    return archive.read(name)


def _entries(archive: zipfile.ZipFile, place: str) -> dict[str, str]:
    """Plugin names and what they point to."""
    if place not in archive.namelist():
        return {}
    parser = configparser.ConfigParser(delimiters="=", interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment]  # names of entry points keep their case
    parser.read_string(_text(archive, place).decode())
    return dict(parser.items(GROUP)) if parser.has_section(GROUP) else {}


def _hooks(archive: zipfile.ZipFile, value: str) -> Iterator[str]:
    """The hooks that a plugin's module defines; also those in classes, which `module:object` may point to."""
    module = value.partition(":")[0].strip().replace(".", "/")
    names = set(archive.namelist())
    place = next((name for name in (f"{module}/__init__.py", f"{module}.py") if name in names), None)
    if place is None:
        return
    try:
        tree = ast.parse(_text(archive, place))
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("nanoclaw_") and node.decorator_list:
            yield node.name


def clear_remnants(file: Path) -> None:
    """Remove what a failed installation of this wheel has written: it has no list of its files, so that pip cannot.

    Raises:
        OSError: it cannot be removed.
    """
    site = Path(sysconfig.get_path("purelib")).resolve()
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    info = site / next(name for name in names if name.endswith(".dist-info/METADATA")).partition("/")[0]
    if not info.is_dir() or (info / "RECORD").exists():
        return
    for path in (site / name for name in names):
        if path.resolve().is_relative_to(site):
            path.unlink(missing_ok=True)
    shutil.rmtree(info)


# --- making one -----------------------------------------------------------------------------------------------------------


def repack(name: str, into: Path) -> Path:
    """Make a wheel of an installed distribution, so that it can be put back.

    A file outside of the library folder goes where pip puts it from `.data/data`, relative to the environment. Not for editable
    installations: their files are elsewhere.

    Raises:
        InstallRefused: it has no list of its files, as what a system's package manager installed.
    """
    source = metadata.distribution(name)
    files = source.files or []
    info = next((file.parent for file in files if file.name == "METADATA" and file.parent.name.endswith(".dist-info")), None)
    if info is None:
        raise InstallRefused(f"{name} {source.version} was not installed by pip, and could not be put back; leave it as it is")
    made = {entry.name for entry in source.entry_points if entry.group in ("console_scripts", "gui_scripts")}
    stem = info.name.removesuffix(".dist-info")
    contents: dict[str, Path] = {}
    for file in files:
        path = Path(str(source.locate_file(file)))
        if file.suffix == ".pyc" or (file.parent == info and file.name in _INSTALLERS) or not path.is_file():
            continue
        if ".." not in file.parts:
            contents[str(file)] = path
        elif path.name not in made and path.resolve().is_relative_to(sys.prefix):
            contents[f"{stem}.data/data/{path.resolve().relative_to(sys.prefix)}"] = path
    target = into / _file_name(stem, contents[f"{info}/WHEEL"].read_bytes())
    _write_wheel(target, f"{info}/RECORD", contents)
    return target


def _file_name(stem: str, head: bytes) -> str:
    """A wheel's name from its tags: 'Tag: py3-none-any' lines, put together as far as their parts go."""
    tags = [line.split("-") for line in BytesParser().parsebytes(head).get_all("Tag") or ["py3-none-any"]]
    parts = [".".join(dict.fromkeys(tag[place] for tag in tags)) for place in range(3)]
    return f"{stem}-{'-'.join(parts)}.whl"


def _write_wheel(target: Path, record: str, contents: Mapping[str, Path]) -> None:
    """The same files make the same bytes, so that a wheel is not kept twice."""
    listed = io.StringIO()
    rows = csv.writer(listed, lineterminator="\n")
    with zipfile.ZipFile(target, "w") as archive:
        for name, path in contents.items():
            content = path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            rows.writerow((name, f"sha256={digest}", len(content)))
            _add(archive, name, content, path.stat().st_mode)
        rows.writerow((record, "", ""))
        _add(archive, record, listed.getvalue().encode(), 0o100644)


def _add(archive: zipfile.ZipFile, name: str, content: bytes, mode: int) -> None:
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.external_attr = (mode & 0xFFFF) << 16
    archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
