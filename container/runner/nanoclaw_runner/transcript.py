"""What Claude Code's own transcript says about the pushes of earlier lives.

Claude Code keeps each conversation as JSON lines in `~/.claude/projects/*/ID.jsonl` (as of 2.1.329). A push is a line of the
type `user` with its uuid, or, when it came while a tool ran, an `attachment` that names it in `source_uuid`. Several that
waited together become one line, joined by line ends, which has the uuid of the last.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from nanoclaw_runner.frames import joined

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
    """Where the transcript of `conversation` is, if there is one."""
    return next((state / ".claude" / "projects").glob(f"*/{conversation}.jsonl"), None)


def read_turns(path: Path, size: int, *, resume_interrupted: bool) -> list[Turn]:
    """The turns in the first `size` bytes of the transcript, in order; what was written later belongs to this life."""
    with path.open("rb") as file:
        lines = file.read(size).splitlines()
    turns: list[Turn] = []
    for entry in _entries(lines):
        _take(entry, turns)
    if turns and resume_interrupted:
        turns[-1].rerun = turns[-1].answer is None and not turns[-1].interrupted
    return turns


def _entries(lines: list[bytes]) -> Iterator[dict[str, Any]]:  # JSON objects of a format that is not ours
    for line in lines:
        if b'"type":"user"' in line or b'"type":"assistant"' in line or b'"queued_command"' in line:
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the line that was being written when the power went
            if isinstance(entry, dict) and not entry.get("isSidechain"):
                yield entry


def _take(entry: dict[str, Any], turns: list[Turn]) -> None:
    attachment = entry.get("attachment") or {}
    message = entry.get("message") or {}
    if entry.get("type") == "user":
        _take_user(entry, message, turns)
    elif turns and entry.get("type") == "assistant":
        _take_assistant(entry, message, turns[-1])
    elif turns and attachment.get("type") == "queued_command" and attachment.get("source_uuid"):
        turns[-1].folded.append(attachment["source_uuid"])


def _take_user(entry: dict[str, Any], message: dict[str, Any], turns: list[Turn]) -> None:
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
        turns.append(Turn(uuid=entry.get("uuid", ""), prompt=text))


def _take_assistant(entry: dict[str, Any], message: dict[str, Any], turn: Turn) -> None:
    text = "".join(block.get("text", "") for block in message.get("content") or () if block.get("type") == "text")
    if entry.get("isApiErrorMessage"):
        turn.answer, turn.error, turn.status = None, text, entry.get("apiErrorStatus")
    elif message.get("stop_reason") in _OPEN_ENDS:
        turn.answer = None
    elif text:
        turn.answer, turn.error = text, None
