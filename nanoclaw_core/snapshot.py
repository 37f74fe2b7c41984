"""Where a database's file can be read by those who only look: in its place, or in a copy."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory


@contextmanager
def where_readable(path: Path) -> Iterator[Path]:
    """The place of `path`, or of a copy of it with its log, for as long as the block lasts.

    SQLite makes an index beside a file before it reads it. Where it cannot, as on a disk that is mounted for reading only,
    nobody else writes there either, and a copy is whole.

    Raises:
        OSError: it cannot be read.
    """
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        yield path
        return
    with TemporaryDirectory(prefix="nanoclaw-") as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        with suppress(FileNotFoundError):
            shutil.copyfile(f"{path}-wal", f"{copy}-wal")
        yield copy
