"""What a backup file consists of: a header, the home's members, a list of them, and a manifest that closes it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

#: The format's number; what a later one means, this version cannot know.
FORMAT: Final = 1
HEADER: Final = "backup.json"
LISTING: Final = "members.jsonl"
MANIFEST: Final = "manifest.json"
HOME: Final = "home/"

DATABASE: Final = "nanoclaw.db"

#: What belongs to a running host, and to no backup.
RUNNING: Final = frozenset({"host.lock", "control.sock", "workers"})

_LONGEST_NAME: Final = 4000  # bytes
_LONGEST_PART: Final = 255
_LARGEST: Final = 1 << 44  # bytes; file systems end there, too


class Kind(StrEnum):
    """What a member is. There is nothing else in a backup: no device, no pipe, no hard link."""

    FILE = "file"
    FOLDER = "folder"
    LINK = "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """Something of the home, named as in it. `segments` says where a file with holes has bytes; `target` is a link's."""

    name: str
    kind: Kind
    mode: int = 0o700
    mtime: int = 0
    size: int = 0
    target: str = ""
    segments: Sequence[tuple[int, int]] | None = None

    @property
    def stored_size(self) -> int:
        """How many bytes of it are kept."""
        return self.size if self.segments is None else sum(length for _, length in self.segments)

    def line(self, digest: str) -> bytes:
        """Its line in the list of members."""
        values = {"name": self.name, "kind": self.kind.value, "size": self.size, "sha256": digest}
        return json.dumps(values).encode() + b"\n"


class Header(msgspec.Struct, frozen=True, kw_only=True):
    """The first member: what is needed before anything can be restored. `created_at` is when the first mailbox was copied."""

    format: int
    version: str
    created_at: float
    installation: str
    workspaces: bool
    secrets: bool


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The last member. `sha256` is that of the list of members, `schemas` the versions of the databases."""

    format: int
    version: str
    created_at: float
    finished_at: float
    schemas: dict[str, str]
    members: int
    bytes: int
    sha256: str
    left_out: list[tuple[str, str]]
    damaged: list[str]


def is_workspace(name: str) -> bool:
    """Whether a container can write there: an agent's folder, or a session's state.

    >>> [is_workspace(name) for name in ("groups/main", "sessions/main/1/state/x", "sessions/main/1/inbox", "groups")]
    [True, True, False, False]
    """
    parts = name.split("/")
    return (parts[0] == "groups" and len(parts) > 1) or (parts[0] == "sessions" and len(parts) > 3 and parts[3] == "state")


def is_mailbox(name: str) -> bool:
    """Whether it is a file of a mailbox."""
    parts = name.split("/")
    return parts[0] == "sessions" and len(parts) == 4 and parts[3] in ("inbound.db", "outbound.db")


def objection(member: Member) -> str:
    """Why a member may not be restored, whoever wrote the backup; '' if it may."""
    parts = member.name.split("/")
    sizes = [len(part.encode(errors="surrogateescape")) for part in parts]
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        return "its name leads out of the home"
    if max(sizes) > _LONGEST_PART or sum(sizes) + len(sizes) > _LONGEST_NAME:
        return "its name is too long"
    if parts[0] in RUNNING:
        return "it belongs to a running host"
    if member.kind is Kind.LINK and (not is_workspace(member.name) or not member.target or "\0" in member.target):
        return "it is a link where none may be"
    if not 0 <= member.size <= _LARGEST or not _are_in_order(member):
        return "its size is absurd"
    return ""


def _are_in_order(member: Member) -> bool:
    end = 0
    for offset, length in member.segments or ():
        if offset < end or length < 0:
            return False
        end = offset + length
    return end <= member.size


def to_json(record: Header | Manifest) -> bytes:
    """As it stands in the file: names that are no UTF-8 survive."""
    values: Any = msgspec.structs.asdict(record)  # JSON
    return json.dumps(values, indent=1).encode() + b"\n"
