"""The parts in which an outbound row goes out: texts that the platform takes whole, and files beside or after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from nanoclaw_core.delivery.split import length, split
from nanoclaw_core.models import Capabilities, Choice, OutboundFile, OutboundRow, Question

_MIB: Final = 1024 * 1024
_NO_FILES: Final = "(The file {name} could not be sent: this chat takes no files.)"
_TOO_LARGE: Final = "(The file {name} could not be sent: it has {size:.1f} MiB, and this chat takes {limit:.1f} MiB at most.)"
_CHOOSE: Final = "(Answer with one of these.)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one call of a channel sends."""

    text: str
    files: tuple[OutboundFile, ...] = ()
    question: Question | None = None


def parts_of(row: OutboundRow, able: Capabilities, folder: Path, session_id: str, *, has_buttons: bool) -> list[Part]:
    """`row` in parts. What the platform cannot show is said in words; nothing is left out silently.

    `folder` is the session's, where the row's files are. The same row gives the same parts, so that they can be counted.
    """
    taken = [file for file in row.files if file.size <= able.max_file_size]
    text = "\n\n".join([row.text, *(_unsent(file, able) for file in row.files if file not in taken)]).strip()
    if row.choices and not has_buttons:
        numbered = [f"{number}. {label}" for number, label in enumerate(row.choices, 1)]
        text = "\n".join([text, "", *numbered, "", _CHOOSE])
    files = [tuple(replace(file, path=folder / file.path) for file in group) for group in _groups(taken, able.files_at_once)]
    parts = [Part(text=each) for each in split(text, able.max_length, able.length_unit)]
    if row.choices and has_buttons and parts:  # last of all, and alone: it is what will show the answer
        parts[-1] = replace(parts[-1], question=_question(row, session_id))
        return [Part(text="", files=group) for group in files] + parts
    if len(files) == len(parts) == 1 and length(text, able.length_unit) <= able.max_caption:
        return [replace(parts[0], files=files[0])]
    return parts + [Part(text="", files=group) for group in files]


def _unsent(file: OutboundFile, able: Capabilities) -> str:
    if not able.max_file_size:
        return _NO_FILES.format(name=file.name)
    return _TOO_LARGE.format(name=file.name, size=file.size / _MIB, limit=able.max_file_size / _MIB)


def _groups(files: Sequence[OutboundFile], most: int) -> list[Sequence[OutboundFile]]:
    return [files[start : start + most] for start in range(0, len(files), most)]


def _question(row: OutboundRow, session_id: str) -> Question:
    choices = tuple(Choice(id=str(number), label=label) for number, label in enumerate(row.choices, 1))
    return Question(id=f"{session_id}:{row.seq}", choices=choices)
