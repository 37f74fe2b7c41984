"""Conversations as they were before Claude Code shortened them: kept whole in the session's state, out of the workspace."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread

from nanoclaw_runner.files import open_regular, own_folder, report

if TYPE_CHECKING:
    from claude_agent_sdk import HookMatcher

KEPT: Final = 20  # transcripts of a session
PIECE: Final = 2**20  # bytes


def before_compaction(state: Path) -> dict[str, list[HookMatcher]]:
    """The hooks that archive a conversation whenever Claude Code is about to compact it."""
    from claude_agent_sdk import HookMatcher

    async def keep(event: Any, _tool_use_id: str | None, _context: Any) -> dict[str, Any]:  # the SDK's own union types
        await to_thread.run_sync(partial(archive, Path(event["transcript_path"]), archives(state)))
        return {}

    return {"PreCompact": [HookMatcher(hooks=[keep])]}  # type: ignore[list-item]  # its result type is a union of TypedDicts


def archives(state: Path) -> Path:
    """The folder of archived transcripts, newest last by name."""
    return state / ".nanoclaw" / "transcripts"


def archive(transcript: Path, folder: Path) -> None:
    """Copy a transcript; the oldest beyond 20 go. One that is missing, or a full disk, must not stop the compaction."""
    try:
        own_folder(folder)
        target = folder / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(2).hex()}-{transcript.name}"
        _copy(transcript, target)
        for old in sorted(folder.iterdir())[:-KEPT]:
            old.unlink()
    except OSError as error:
        report(f"the transcript could not be archived: {error}")


def _copy(source: Path, target: Path) -> None:
    """Copy a regular file, as long as it is now: one that is a link to `/dev/zero` by now would have no end."""
    fd = open_regular(source)
    if fd is None:
        return
    with os.fdopen(fd, "rb") as original, target.open("xb") as copy:
        left = os.fstat(fd).st_size
        while left > 0 and (piece := original.read(min(left, PIECE))):
            copy.write(piece)
            left -= len(piece)
