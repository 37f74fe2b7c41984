"""The launch document: the one line on standard input that tells the runner who it is."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nanoclaw_runner.frames import PROTOCOLS
from nanoclaw_runner.records import Misfit, record

MAX_DOCUMENT: Final = 2**20  # bytes


class LaunchRefused(ValueError):
    """There is no usable launch document; the text says what is wrong with it."""


class MountExchanged(Exception):
    """Something else was mounted than the host had allowed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRules:
    """Which parameters of the host's actions are files: lists of names, by the action's name. One has at most `most_bytes`."""

    parameters: dict[str, Any]  # whoever reads it bears with anything
    most_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenMount:
    """A folder or file of the owner's, and what the host saw there when it allowed it."""

    path: str
    device: int
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchDocument:
    """Who this worker is, where its things are, and which engine it runs. `options` belongs to the engine."""

    protocol: int
    worker: str
    secret: str = field(repr=False)
    socket: str
    workspace: str
    state: str
    engine: str
    options: dict[str, Any]  # checked by the engine
    files: FileRules | None = None
    mounts: tuple[SeenMount, ...] = ()


def read_launch(fd: int) -> LaunchDocument:
    """Read the document from `fd`, to the end of the line or of the file.

    Raises:
        LaunchRefused: it is too long, no JSON, or not what the protocol says.
    """
    line = b""
    while b"\n" not in line and len(line) <= MAX_DOCUMENT and (chunk := os.read(fd, 65536)):
        line += chunk
    if len(line) > MAX_DOCUMENT:
        raise LaunchRefused(f"it is longer than {MAX_DOCUMENT:,} bytes")
    return parse_launch(line.partition(b"\n")[0])


def parse_launch(line: bytes) -> LaunchDocument:
    """Check the document.

    Raises:
        LaunchRefused: it is no JSON, or not what the protocol says.
    """
    try:
        document = record(LaunchDocument, json.loads(line))
    except Misfit as misfit:
        raise LaunchRefused(str(misfit)) from misfit
    except ValueError as error:
        raise LaunchRefused(f"it is no JSON: {error}" if line.strip() else "it is empty") from error
    if document.protocol not in PROTOCOLS:
        raise LaunchRefused(f"its protocol is {document.protocol}, this runner speaks {', '.join(map(str, PROTOCOLS))}")
    if not all((document.worker, document.secret, document.socket, document.workspace, document.state)):
        raise LaunchRefused("worker, secret, socket, workspace and state must not be empty")
    return document


def check_mounts(mounts: tuple[SeenMount, ...]) -> None:
    """Compare what was mounted with what the host had looked at; nothing of the agent runs yet.

    Raises:
        MountExchanged: it is something else.
    """
    for mount in mounts:
        try:
            found = Path(mount.path).lstat()
        except OSError as error:
            raise MountExchanged(f"{mount.path} cannot be seen: {error.strerror}") from error
        if (found.st_dev, found.st_ino) != (mount.device, mount.inode):
            raise MountExchanged(f"{mount.path} is not what was checked: it was exchanged while it was being mounted")
