"""Counts the tokens of one answer while it passes: from a stream's events or a JSON document, in bounded memory."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from nanoclaw_core.ledger.prices import Tokens

#: A line of a stream, and a JSON document, beyond which nothing is looked for in it. The events with usage are short.
_LONGEST_LINE: Final = 64 * 1024
_LONGEST_DOCUMENT: Final = 1024 * 1024
_MOST_TOKENS: Final = 100_000_000
_LONGEST_NAME: Final = 200
_FIELDS: Final = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_write": "cache_creation_input_tokens",
}


class _Message(msgspec.Struct):
    """What is looked at in a message, and in an event of a stream. Any: what the provider says is believed field by field."""

    type: Any = None
    model: Any = None
    usage: Any = None
    message: Any = None


_DECODER: Final = msgspec.json.Decoder(_Message)


class Tally:
    """Hears every chunk of an answer. Nothing that comes raises: what makes no sense leaves the count incomplete."""

    def __init__(self) -> None:
        self.model = ""
        self.is_complete = False
        self._counts: dict[str, int] = {}
        self._pieces = 0
        self._garbled = False
        self._began = self._is_stream = False
        self._rest = b""
        self._skipping = False

    def begin(self, content_type: str) -> None:
        """An answer that is none of an error begins."""
        self._began, self._is_stream = True, content_type.lower().startswith("text/event-stream")

    @property
    def has_begun(self) -> bool:
        return self._began

    @property
    def tokens(self) -> Tokens | None:
        """What is known; None when nothing is. Of a stream that broke off, each piece of the answer was a token at least."""
        if not self._counts:
            return None
        counts = dict(self._counts)
        if not self.is_complete:
            counts["output"] = max(counts.get("output", 0), self._pieces)
        return Tokens(**counts)

    def hear(self, chunk: bytes) -> None:
        """Look at the next bytes."""
        if not self._is_stream:
            if len(self._rest) <= _LONGEST_DOCUMENT:
                self._rest += chunk
            return
        lines, found, rest = (self._rest + chunk).rpartition(b"\n")
        if found:
            if self._skipping:
                lines, self._skipping = lines.partition(b"\n")[2], False
            self._pieces += lines.count(b"event: content_block_delta")
            if b'"usage"' in lines:
                self._read_lines(lines)
        self._rest = rest
        if len(rest) > _LONGEST_LINE:
            self._rest, self._skipping = b"", True

    def end(self) -> None:
        """The answer has ended as it should."""
        if not self._is_stream and len(self._rest) <= _LONGEST_DOCUMENT:
            document = _decoded(self._rest)
            if document is not None:
                self._name(document.model)
                self._count(document.usage)
            self.is_complete = "output" in self._counts and not self._garbled
        elif self._is_stream and self._rest.strip():
            self._read_lines(self._rest)
        self._rest = b""

    def _read_lines(self, lines: bytes) -> None:
        for line in lines.split(b"\n"):
            if line.startswith(b"data:") and b'"usage"' in line and (event := _decoded(line[5:])):
                self._read(event)

    def _read(self, event: _Message) -> None:
        if event.type == "message_start" and isinstance(event.message, dict):
            self._name(event.message.get("model"))
            self._count(event.message.get("usage"))
        elif event.type == "message_delta":
            self._count(event.usage)
            self.is_complete = {"input", "output"} <= self._counts.keys() and not self._garbled

    def _name(self, model: object) -> None:
        if isinstance(model, str):
            self.model = "".join(sign for sign in model[:_LONGEST_NAME] if sign.isprintable())

    def _count(self, usage: object) -> None:
        """Take over what is said; later events say what there was altogether."""
        if not isinstance(usage, dict):
            self._garbled = self._garbled or usage is not None
            return
        for name, field in _FIELDS.items():
            self._take(name, usage.get(field))
        kept = usage.get("cache_creation")
        if isinstance(kept, dict):
            self._take("cache_write_1h", kept.get("ephemeral_1h_input_tokens"))

    def _take(self, name: str, value: object) -> None:
        if value is None:
            return
        if type(value) is int and 0 <= value <= _MOST_TOKENS:
            self._counts[name] = value
        else:
            self._garbled = True


def _decoded(text: bytes) -> _Message | None:
    try:
        return _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
