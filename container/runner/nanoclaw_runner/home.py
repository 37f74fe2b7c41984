"""The home folder, made safe before Claude Code starts in it: the agent of an earlier worker could write anything there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from nanoclaw_runner.files import clear, open_up, own_folder, set_aside


def settle(state: Path) -> None:
    """Leave Claude Code its folders, and nothing that configures it.

    Of what it keeps in the home, `~/.claude.json` and the files directly in `~/.claude` (settings, credentials, caches) can
    make it mute: by `env`, by garbage, by being a FIFO. It needs none of them from one worker to the next. Conversations
    and notes are in folders below `~/.claude`, which stay.

    Raises:
        OSError: the folders cannot be made.
    """
    open_up(state)
    own_folder(state / ".nanoclaw")
    _forget(state / ".claude.json")
    own_folder(state / ".claude")
    for path in _entries(state / ".claude"):
        if not stat.S_ISDIR(path.lstat().st_mode):
            path.unlink()
    own_folder(state / ".claude" / "projects")
    for path in _entries(state / ".claude" / "projects"):
        clear(path, stat.S_ISDIR)
        if path.is_dir():
            own_folder(path)


def _forget(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:
        set_aside(path, "it is a folder")


def _entries(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries]
