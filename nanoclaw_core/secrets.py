"""The secret store: credentials of the host, a file each in `secrets/` in the home, for their owner alone.

They are variables like those of the environment, which wins over them; they win over `.env` files. Never are they in the
database, in a log, or in the sight of a worker.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from nanoclaw_core.errors import HomeUnusable, UnknownName, ValueRefused
from nanoclaw_core.replacement import replace_file, sync_folder

FOLDER: Final = "secrets"
#: Bytes of UTF-8: more than any key or certificate needs, less than a file that was meant for something else.
LONGEST: Final = 64 * 1024
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_OWN: Final = "NANOCLAW_"
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_BINARY: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def stored(home: Path) -> dict[str, str]:
    """All secrets by name; none where there is no store. Files with other names, such as a half-written one, are none.

    Raises:
        HomeUnusable: one of them cannot be read.
    """
    found = {path.name: _read(path) for path in _files(home)}
    return {name: value for name, value in found.items() if value is not None}


def set_times(home: Path) -> dict[str, float]:
    """When each secret was set, in seconds since the epoch."""
    return {path.name: path.stat().st_mtime for path in _files(home) if path.exists()}


def put(home: Path, name: str, value: str) -> list[Path]:
    """Keep a secret, in the place of one that has the name; return what others could get at until now.

    Raises:
        ValueRefused: a name or a value that cannot be kept. HomeUnusable: it cannot be written.
    """
    require_name(name)
    require_value(name, value)
    with _changing(home) as folder:
        mended = mend(home)
        replace_file(folder / name, value.encode())
        return mended


def remove(home: Path, name: str) -> None:
    """Forget a secret.

    Raises:
        UnknownName: there is none with this name. HomeUnusable: it cannot be removed.
    """
    names = {path.name for path in _files(home)}
    if name not in names:
        raise UnknownName("secret", name, names)
    with _changing(home) as folder:
        mend(home)
        (folder / name).unlink(missing_ok=True)
        sync_folder(folder)


def exposed(home: Path) -> list[Path]:
    """What of the store other users have rights on: the folder, or files in it. Where a link leads to is not ours to judge."""
    paths = [path for path in (home / FOLDER, *_files(home)) if path.exists() and not path.is_symlink()]
    return [path for path in paths if path.stat().st_mode & _OTHERS]


def mend(home: Path) -> list[Path]:
    """Take the rights of others on the store; return on what there were any.

    Raises:
        HomeUnusable: it belongs to another user.
    """
    found = exposed(home)
    for path in found:
        try:
            path.chmod(0o700 if path.is_dir() else 0o600)
        except OSError as error:
            raise _unusable(path, error) from error
    return found


def require_name(name: str) -> None:
    """Raises ValueRefused for a name that no secret can have."""
    if not _NAME.fullmatch(name):
        raise ValueRefused(name, "a name is a letter, then letters, digits and '_', like TELEGRAM_TOKEN")
    if name.upper().startswith(_OWN):
        raise ValueRefused(name, "variables that begin with NANOCLAW_ are settings and no secrets; they belong into .env")


def require_value(name: str, value: str) -> None:
    """Raises ValueRefused for a value that no secret can have. Several lines are fine: keys have them."""
    if not value.strip():
        raise ValueRefused(name, "it is empty")
    if _BINARY.search(value):
        raise ValueRefused(name, "it has NUL or other control characters in it; a secret is text")
    if len(value.encode("utf-8", "surrogatepass")) > LONGEST:
        raise ValueRefused(name, f"it is longer than {LONGEST:,} bytes")


def text_of(name: str, data: bytes) -> str:
    """What somebody handed in as a secret, without the line end that programs add.

    >>> text_of("TOKEN", b"123:abc\\n")
    '123:abc'

    Raises:
        ValueRefused: it is no text.
    """
    try:
        return data.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise ValueRefused(name, "it is no UTF-8 text; encode what is binary, as with base64") from error


def _files(home: Path) -> list[Path]:
    try:
        return sorted(path for path in (home / FOLDER).iterdir() if _NAME.fullmatch(path.name))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _unusable(home / FOLDER, error) from error


def _read(path: Path) -> str | None:
    """The secret; None where it was removed in this moment."""
    try:
        if path.exists() and not path.is_file():  # reading a pipe would wait for ever
            raise HomeUnusable(path.parent.parent, f"{FOLDER}/{path.name} is no file; remove it")
        return path.read_bytes().decode()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, error) from error


@contextmanager
def _changing(home: Path) -> Iterator[Path]:
    """The folder (0700), made if it is missing, and nobody else changes anything in it; what a crash left there is gone."""
    folder = home / FOLDER
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for left in folder.glob(".*"):
                left.unlink()
            yield folder
        finally:
            os.close(lock)
    except OSError as error:
        raise _unusable(folder, error) from error


def _unusable(path: Path, error: OSError | UnicodeDecodeError) -> HomeUnusable:
    home = path.parent if path.name == FOLDER else path.parent.parent
    reason = (error.strerror or str(error)) if isinstance(error, OSError) else "it is no UTF-8 text"
    return HomeUnusable(home, f"{path.relative_to(home)} cannot be read or written ({reason})")
