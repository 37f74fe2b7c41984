"""Conversations as they were before Claude Code shortened them: kept whole in the session's state, out of the workspace."""

from __future__ import annotations

import os
import shutil
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from anyio import to_thread

if TYPE_CHECKING:
    from claude_agent_sdk import HookMatcher

KEPT: Final = 20  # transcripts of a session


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
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = folder / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{os.urandom(2).hex()}-{transcript.name}"
        shutil.copyfile(transcript, target)
        for old in sorted(folder.iterdir())[:-KEPT]:
            old.unlink()
    except OSError as error:
        os.write(2, f"the transcript could not be archived: {error}\n".encode())
