"""What a request is made of that comes again with every call of the model: whose words these are, and how many."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

ENGINE: Final = "system prompt of Claude Code"
OURS: Final = "instructions of NanoClaw"
ENGINE_TOOLS: Final = "tools of Claude Code"
OUR_TOOLS: Final = "actions of NanoClaw"
MEMORY: Final = "memory (CLAUDE.md)"
REMINDERS: Final = "environment and reminders of Claude Code"
SAID: Final = "the conversation"

_OUR_PREFIX: Final = "mcp__nanoclaw__"
_OUR_BEGINNING: Final = "# You are "
_MEMORY: Final = re.compile(r"^Contents of \S*CLAUDE\.md", re.MULTILINE)


def sections(request: Mapping[str, Any]) -> dict[str, int]:  # Any: JSON of a format that we do not own
    """The characters of each section of a request to the Messages API, in its order."""
    found = dict.fromkeys((ENGINE, OURS, ENGINE_TOOLS, OUR_TOOLS, MEMORY, REMINDERS, SAID), 0)
    for text in _texts(request.get("system")):
        before, begins, rest = text.partition(_OUR_BEGINNING)
        found[ENGINE] += len(before)
        found[OURS] += len(begins + rest)
    for tool in request.get("tools") or ():
        ours = str(tool.get("name", "")).startswith(_OUR_PREFIX)
        found[OUR_TOOLS if ours else ENGINE_TOOLS] += _size(tool)
    for message in request.get("messages") or ():
        for block in _blocks(message.get("content")):
            found[_section_of(str(message.get("role")), block)] += (
                _size(block) if block.get("type") != "text" else len(str(block.get("text")))
            )
    return found


def _section_of(role: str, block: Mapping[str, Any]) -> str:  # Any: the same
    text = str(block.get("text", ""))
    if role != "system" and not text.lstrip().startswith("<system-reminder>"):
        return SAID
    return MEMORY if _MEMORY.search(text) else REMINDERS


def _texts(content: object) -> Iterator[str]:
    yield from (str(block.get("text", "")) for block in _blocks(content))


def _blocks(content: object) -> Iterator[Mapping[str, Any]]:  # Any: the same
    if isinstance(content, str):
        yield {"type": "text", "text": content}
    elif isinstance(content, list):
        yield from (block for block in content if isinstance(block, dict))


def _size(value: object) -> int:
    return len(json.dumps(value, ensure_ascii=False, separators=(",", ":")))
