"""What Claude Code's own transcript says about the pushes of earlier lives.

Claude Code keeps each conversation as JSON lines in `~/.claude/projects/*/ID.jsonl` (as of 2.1.329). A push is a line of the
type `user` with its uuid, or, when it came while a tool ran, an `attachment` that names it in `source_uuid`. Several that
waited together become one line, joined by line ends, which has the uuid of the last.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nanoclaw_runner.files import open_regular, set_aside
from nanoclaw_runner.frames import joined

MAX_TRANSCRIPT: Final = 256 * 2**20  # bytes; Claude Code would not survive a much longer one either
MAX_LINE: Final = 64 * 2**20  # bytes
MAX_TURNS: Final = 1000  # the last ones; no host waits for earlier ones

_INTERRUPTED: Final = "[Request interrupted by user"
_OPEN_ENDS: Final = frozenset({None, "tool_use", "pause_turn"})


@dataclass(slots=True, kw_only=True)
class Turn:
    """One prompt, what was folded into it, and how it ended: an answer, an error, an interruption, or not at all."""

    uuid: str
    prompt: str
    folded: list[str] = field(default_factory=list)
    answer: str | None = None
    error: str | None = None
    status: int | None = None
    interrupted: bool = False
    rerun: bool = False  # Claude Code will take it up again by itself
    told: set[str] = field(default_factory=set)  # uuids that were reported again in this life

    @property
    def members(self) -> tuple[str, ...]:
        """The uuids that the transcript names."""
        return joined((self.uuid, *self.folded))

    def holds(self, uuid: str, text: str) -> bool:
        """Whether a push is part of this turn, by its uuid or, where pushes were merged into one line, by its text.

        A whole prompt counts as the same push only when it is about to be run again: otherwise somebody wants it repeated.
        """
        if uuid in self.members:
            return True
        if text == self.prompt:
            return self.rerun
        return (self.rerun or self.answer is not None) and f"\n{text}\n" in f"\n{self.prompt}\n"


def find_transcript(state: Path, conversation: str) -> Path | None:
    """Where the transcript of `conversation` is, if there is one; what has its name and is none is set aside."""
    projects = (state / ".claude" / "projects").glob("*/")
    # The name is put on here: a glob that ends in it would pass over links that lead nowhere.
    return next((path for project in projects if _is_usable(path := project / f"{conversation}.jsonl")), None)


def _is_usable(path: Path) -> bool:
    fd = open_regular(path)
    if fd is None:
        return False
    size = os.fstat(fd).st_size
    os.close(fd)
    if size > MAX_TRANSCRIPT:
        set_aside(path, f"it has {size:,} bytes")
    return size <= MAX_TRANSCRIPT


def read_turns(path: Path, size: int, *, resume_interrupted: bool) -> list[Turn]:
    """The turns in the first `size` bytes of the transcript, in order; what was written later belongs to this life."""
    turns: deque[Turn] = deque(maxlen=MAX_TURNS)
    for entry in _entries(_lines(path, size)):
        try:
            _take(entry, turns)
        except (AttributeError, TypeError):
            continue  # not of Claude Code's making
    if turns and resume_interrupted:
        turns[-1].rerun = turns[-1].answer is None and not turns[-1].interrupted
    return list(turns)


def _lines(path: Path, size: int) -> Iterator[bytes]:
    fd = open_regular(path)
    if fd is None:
        return
    with os.fdopen(fd, "rb") as file:
        while size > 0 and (line := file.readline(min(size, MAX_LINE))):
            size -= len(line)
            yield line


def _entries(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:  # JSON objects of a format that is not ours
    for line in lines:
        if b'"type":"user"' in line or b'"type":"assistant"' in line or b'"queued_command"' in line:
            try:
                entry = json.loads(line)
            except (ValueError, RecursionError):
                continue  # the line that was being written when the power went
            if isinstance(entry, dict) and not entry.get("isSidechain"):
                yield entry


def _take(entry: dict[str, Any], turns: deque[Turn]) -> None:
    attachment = entry.get("attachment") or {}
    message = entry.get("message") or {}
    if entry.get("type") == "user":
        _take_user(entry, message, turns)
    elif turns and entry.get("type") == "assistant":
        _take_assistant(entry, message, turns[-1])
    elif turns and attachment.get("type") == "queued_command" and attachment.get("source_uuid"):
        turns[-1].folded.append(str(attachment["source_uuid"]))


def _take_user(entry: dict[str, Any], message: dict[str, Any], turns: deque[Turn]) -> None:
    content = message.get("content") or ""
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    text = "\n".join(block.get("text", "") for block in blocks if block.get("type") == "text")
    if any(block.get("type") == "tool_result" for block in blocks):
        if turns:
            turns[-1].answer = None
    elif text.startswith(_INTERRUPTED):
        if turns:
            turns[-1].interrupted = True
    elif not entry.get("isMeta") and not entry.get("isCompactSummary"):
        turns.append(Turn(uuid=str(entry.get("uuid", "")), prompt=text))


def _take_assistant(entry: dict[str, Any], message: dict[str, Any], turn: Turn) -> None:
    text = "".join(block.get("text", "") for block in message.get("content") or () if block.get("type") == "text")
    if entry.get("isApiErrorMessage"):
        status = entry.get("apiErrorStatus")
        turn.answer, turn.error, turn.status = None, text, status if isinstance(status, int) else None
    elif message.get("stop_reason") in _OPEN_ENDS:
        turn.answer = None
    elif text:
        turn.answer, turn.error = text, None
