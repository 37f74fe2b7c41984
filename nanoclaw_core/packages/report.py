"""pip's report on what it would install, as far as it is needed here (pip's own page "Installation Report" has the format)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec
from packaging.utils import canonicalize_name

from nanoclaw_core.errors import InstallRefused
from nanoclaw_core.installed import one_line


@dataclass(frozen=True, slots=True)
class _Archive:
    hashes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Download:
    url: str
    archive_info: _Archive | None = None


@dataclass(frozen=True, slots=True)
class _Metadata:
    name: str
    version: str


@dataclass(frozen=True, slots=True)
class _Item:
    download_info: _Download
    metadata: _Metadata
    is_direct: bool = False


@dataclass(frozen=True, slots=True)
class _Report:
    version: str
    install: list[_Item]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolved:
    """A distribution that pip would install from `url`. `is_direct` says that the requirement itself named that place."""

    name: str
    version: str
    sha256: str
    url: str
    is_direct: bool = False

    @property
    def line(self) -> str:
        """Its line in a requirements file."""
        wish = f"{self.name} @ {self.url}" if self.is_direct else f"{self.name}=={self.version}"
        return f"{wish} --hash=sha256:{self.sha256}"

    @property
    def file(self) -> Path | None:
        """The wheel, where it lies on this machine already."""
        place = urlsplit(self.url)
        return Path(unquote(place.path)) if place.scheme == "file" and place.path.endswith(".whl") else None


def read_report(report: bytes) -> list[Resolved]:
    """What pip would install.

    Raises:
        InstallRefused: this pip writes another format, or something would come from a place that has no hash.
    """
    try:
        read = msgspec.json.decode(report, type=_Report)
    except msgspec.MsgspecError as error:
        raise InstallRefused(f"pip's report cannot be read ({one_line(error)}); `pip install --upgrade pip`") from error
    if read.version != "1":
        raise InstallRefused(f"this pip writes reports of format {read.version}, and 1 is known; upgrade pip, or nanoclaw-core")
    return [_resolved(item) for item in read.install]


def _resolved(item: _Item) -> Resolved:
    name, archive = canonicalize_name(item.metadata.name), item.download_info.archive_info
    digest = archive.hashes.get("sha256", "") if archive else ""
    if not digest:
        raise InstallRefused(
            f"{name} {item.metadata.version} would come from a folder or a repository, which nothing can vouch for; "
            "install that one first, with pip"
        )
    url = item.download_info.url
    return Resolved(name=name, version=item.metadata.version, sha256=digest, url=url, is_direct=item.is_direct)
