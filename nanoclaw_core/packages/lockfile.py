"""Reads and writes `plugins.lock` and the wheels that it names, and lets one change it at a time."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from nanoclaw_core.errors import HomeUnusable, InstallRefused
from nanoclaw_core.installed import one_line
from nanoclaw_core.packages.records import Lock, Package
from nanoclaw_core.replacement import replace_file

_KEPT: Final = 3  # previous sets, with their wheels


def lock_path(home: Path) -> Path:
    return home / "plugins.lock"


def read_lock(home: Path) -> Lock | None:
    """The lock; None while there is none.

    Raises:
        HomeUnusable: the file is there and says something else.
    """
    try:
        return msgspec.json.decode(lock_path(home).read_bytes(), type=Lock)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError, RecursionError) as error:
        advice = "move it away, and the next `nanoclaw plugin list` records what is installed"
        raise HomeUnusable(home, f"its plugins.lock cannot be read ({one_line(error)}): {advice}") from error


def write_lock(home: Path, lock: Lock) -> None:
    """Replace the lock as a whole; forget the sets that are too old, and their wheels.

    Raises:
        HomeUnusable: it cannot be written.
    """
    lock = replace(lock, previous=lock.previous[:_KEPT])
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(lock_path(home), msgspec.json.format(msgspec.json.encode(lock), indent=2) + b"\n")
        _forget_wheels(home, {package.sha256 for each in (lock.current, *lock.previous) for package in each.packages})
    except OSError as error:
        raise HomeUnusable(home, f"its plugins.lock cannot be written ({one_line(error)})") from error


# --- wheels ---------------------------------------------------------------------------------------------------------------


def wheel_path(home: Path, package: Package) -> Path | None:
    """The kept wheel of `package`, in a folder named after its content; None where it is not there."""
    path = _wheels(home) / package.sha256 / package.wheel
    return path if package.sha256 and path.is_file() else None


def keep_wheel(home: Path, file: Path, sha256: str) -> None:
    """Copy a wheel to the kept ones, whole or not at all.

    Raises:
        HomeUnusable: it cannot be written.
    """
    kept = _wheels(home) / sha256 / file.name
    try:
        kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        unfinished = kept.with_name(f"{kept.name}.part")
        shutil.copyfile(file, unfinished)
        unfinished.replace(kept)
    except OSError as error:
        raise HomeUnusable(home, f"{kept.relative_to(home)} cannot be written ({one_line(error)})") from error


def _wheels(home: Path) -> Path:
    return home / "plugins" / "wheels"


def _forget_wheels(home: Path, wanted: set[str]) -> None:
    folder = _wheels(home)
    for kept in folder.iterdir() if folder.is_dir() else ():
        if kept.name not in wanted:
            shutil.rmtree(kept)


# --- one at a time ----------------------------------------------------------------------------------------------------------


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Keep other commands from changing the plugins of this home meanwhile.

    Raises:
        InstallRefused: another one does just now. HomeUnusable: the home cannot be written.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (home / "plugins").mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(home / "plugins" / "change.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise HomeUnusable(home, error.strerror or str(error)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise InstallRefused("another command changes the plugins just now; wait for its end") from error
    finally:
        os.close(descriptor)
