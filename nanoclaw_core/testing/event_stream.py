"""Puts a message of the Messages API together from the events of its stream, and tells its text piece by piece."""

from __future__ import annotations

import json
from typing import Any

Json = dict[str, Any]  # the Messages API's objects


class StreamedMessage:
    """One message; `take` what comes of it."""

    def __init__(self) -> None:
        self._message: Json = {}
        self._input = ""  # of the tool call that is being written
        self._rest = b""

    def take(self, chunk: bytes) -> list[tuple[str, bool]]:
        """The pieces of text in `chunk`, each with whether a text begins with it."""
        *events, self._rest = (self._rest + chunk).split(b"\n\n")
        pieces = [self._follow(json.loads(event.partition(b"data: ")[2] or b"{}")) for event in events]
        return [piece for piece in pieces if piece is not None]

    def whole(self) -> Json:
        """The message.

        Raises:
            ValueError: the stream broke off.
        """
        if not self._message.get("stop_reason"):
            raise ValueError("the stream broke off")
        return self._message

    def _follow(self, event: Json) -> tuple[str, bool] | None:
        match event:
            case {"type": "message_start", "message": message}:
                self._message = {**message, "content": []}
            case {"type": "content_block_start", "content_block": block}:
                self._message["content"].append(dict(block))
                self._input = ""
                return (block["text"], True) if block["type"] == "text" else None
            case {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}}:
                self._message["content"][-1]["text"] += text
                return text, False
            case {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": piece}}:
                self._input += piece
            case {"type": "content_block_stop"} if self._input:
                self._message["content"][-1]["input"] = json.loads(self._input)
            case {"type": "message_delta", "delta": delta, "usage": usage}:
                self._message = {**self._message, **delta, "usage": {**self._message["usage"], **usage}}
        return None
