"""The lines of the host's log: read from its files, newest last, followed as they grow, and made for people."""

from __future__ import annotations

import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final, Self
from zoneinfo import ZoneInfo

from nanoclaw_core.cli import logs
from nanoclaw_core.cli.text import one_line, plain

_OLDER: Final = 3  # files that `logs` keeps
_LOOK: Final = 0.2  # seconds between two looks at a file that is followed
_SHOWN_FIRST: Final = ("timestamp", "level", "event", "component", "exception")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """A line of the log. What is no event, such as the last words of a host that broke, has a text alone."""

    fields: dict[str, Any]  # Any: as diverse as events
    at: float | None

    @classmethod
    def of(cls, text: str, before: float | None = None) -> Self:
        """Read `text`; what has no time of its own came when the line before it did."""
        try:
            fields = json.loads(text)
        except ValueError:
            fields = None
        if not isinstance(fields, dict) or "event" not in fields:
            return cls(fields={"event": text}, at=before)
        return cls(fields=fields, at=_seconds(fields.get("timestamp")) or before)

    @property
    def component(self) -> str:
        return str(self.fields.get("component", ""))

    def is_of(self, component: str | None) -> bool:
        """Whether `component` says it, or a part of that: 'channel' means the channels, all of them."""
        return component is None or is_part(self.component, component)

    def as_json(self) -> str:
        return json.dumps(self.fields, ensure_ascii=False)

    def for_people(self, zone: ZoneInfo, *, colors: bool) -> str:
        """In one line, with its traceback below; nothing in it steers a terminal."""
        if self.fields.keys() == {"event"}:
            return plain(str(self.fields["event"]))
        others = {name: value for name, value in self.fields.items() if name not in _SHOWN_FIRST and value is not None}
        event = {plain(name): _safe(value) for name, value in others.items()}
        event |= {"event": one_line(str(self.fields["event"])), "level": one_line(str(self.fields.get("level", "info")), 20)}
        if self.at is not None:
            event["timestamp"] = f"{datetime.fromtimestamp(self.at, zone):%Y-%m-%d %H:%M:%S}"
        if self.component:
            event["logger"] = one_line(self.component, 60)
        if self.fields.get("exception"):
            event["exception"] = plain(str(self.fields["exception"]))
        return str(logs.for_terminal(colors)(None, "", event))


class LogFile:
    """The log at `path`, as it is now, with those that it was renamed to when it was full; open until the block ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._open()
        self._end = self._file.seek(0, os.SEEK_END) if self._file else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._file:
            self._file.close()

    @property
    def is_there(self) -> bool:
        return bool(self._files())

    def last(self, limit: int | None, is_wanted: Callable[[LogLine], bool], since: float | None = None) -> list[LogLine]:
        """The last `limit` lines that are wanted, the newest last; files before the moment `since` are not read."""
        found: deque[LogLine] = deque()
        for path in self._files():  # newest first
            lines = list(_read(path, self._end if path == self._path else None))
            wanted = [line for line in lines if is_wanted(line) and (since is None or (line.at or 0.0) >= since)]
            found.extendleft(reversed(wanted))
            is_old = since is not None and lines and (lines[0].at or since) < since
            if is_old or (limit is not None and len(found) >= limit):
                break
        return list(found) if limit is None else list(found)[-limit:]

    def components(self) -> set[str]:
        """Who speaks in any of the files."""
        return {line.component for path in self._files() for line in _read(path, None)}

    def follow(self, wait: Callable[[float], None] = time.sleep) -> Iterator[LogLine]:
        """Every line that came after `last` was true, for ever: also those in the file that takes this one's place.

        It looks a few times in a second, in this process alone; `wait` is how it sleeps.
        """
        begun, at = b"", None
        while True:
            was_replaced = self._file is None or self._was_replaced(self._file)  # before reading: then the rest is all of it
            while self._file and (piece := self._file.readline()):
                begun += piece
                if begun.endswith(b"\n"):
                    line = _line(begun, at)
                    begun, at = b"", line.at
                    yield line
            if was_replaced:
                if self._file:
                    self._file.close()
                self._file, begun = self._open(), b""
            if not was_replaced or self._file is None:
                wait(_LOOK)

    def _files(self) -> list[Path]:
        names = [self._path, *(self._path.with_name(f"{self._path.name}.{number}") for number in range(1, _OLDER + 1))]
        return [path for path in names if path.exists()]

    def _open(self) -> BinaryIO | None:
        try:
            return self._path.open("rb")
        except FileNotFoundError:
            return None

    def _was_replaced(self, file: BinaryIO) -> bool:
        """Whether the path leads to another file, or to a shorter one, than the one that is open."""
        try:
            now = self._path.stat()
        except FileNotFoundError:
            return False  # between the renaming and the new file
        then = os.fstat(file.fileno())
        return (now.st_dev, now.st_ino) != (then.st_dev, then.st_ino) or now.st_size < file.tell()


def is_part(name: str, component: str) -> bool:
    """Whether the component `name` is `component`, or a part of it."""
    return f"{name} ".startswith(f"{component} ")


def _read(path: Path, end: int | None) -> Iterator[LogLine]:
    at = None
    try:
        with path.open("rb") as file:
            while (end is None or file.tell() < end) and (raw := file.readline()):
                line = _line(raw, at)
                at = line.at
                yield line
    except FileNotFoundError:  # it was renamed just now
        return


def _line(raw: bytes, before: float | None) -> LogLine:
    return LogLine.of(raw.decode("utf-8", "replace").rstrip("\n"), before)


def _seconds(timestamp: object) -> float | None:
    try:
        return datetime.fromisoformat(str(timestamp)).timestamp()
    except ValueError:
        return None


def _safe(value: object) -> object:
    return one_line(value) if isinstance(value, str) else value
