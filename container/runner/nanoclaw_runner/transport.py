"""Hands a Claude Code process that runs already to the SDK. Imports the SDK: import this late."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream
from claude_agent_sdk import CLIConnectionError, Transport

from nanoclaw_runner.engines import EngineFailed

MAX_LINE: Final = 64 * 2**20  # bytes; a large tool result is one line
CLOSING: Final = 5.0  # seconds for each way of asking Claude Code to end


class AdoptedProcess(Transport):
    """One JSON message a line, over the standard input and output of `process`.

    `obituary` says why the process ended; reading raises it, so that everybody who waits for an answer hears of it.
    """

    def __init__(self, process: Process, obituary: Callable[[], Awaitable[EngineFailed]]) -> None:
        assert process.stdin is not None  # noqa: S101  # opened with pipes
        assert process.stdout is not None  # noqa: S101
        self._process = process
        self._obituary = obituary
        self._stdin = process.stdin
        self._stdout = BufferedByteReceiveStream(process.stdout)
        self._lock = anyio.Lock()
        self._ready = True

    async def connect(self) -> None:
        """The process runs already."""

    async def write(self, data: str) -> None:
        """Send a line."""
        async with self._lock:
            try:
                await self._stdin.send(data.encode())
            except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
                raise CLIConnectionError("Claude Code does not read any more") from error

    async def read_messages(self) -> AsyncIterator[dict[str, Any]]:
        """Yield what Claude Code says; lines that are no JSON object are skipped.

        Raises:
            EngineFailed: it ended, or wrote a line beyond all measure.
        """
        while True:
            try:
                line = await self._stdout.receive_until(b"\n", MAX_LINE)
            except anyio.DelimiterNotFound as error:
                raise EngineFailed("Claude Code wrote a line of more than 64 MiB") from error
            except (anyio.IncompleteRead, anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
                raise await self._obituary() from None
            if (message := _read(line)) is not None:
                yield message

    async def end_input(self) -> None:
        """Close the standard input."""
        await self._stdin.aclose()

    def is_ready(self) -> bool:
        """Whether `close` was not called yet."""
        return self._ready

    async def close(self) -> None:
        """End the process: first by closing its input, so that it can write its transcript, then by TERM, then by KILL."""
        self._ready = False
        await self._stdin.aclose()
        for end_it in (self._process.terminate, self._process.kill):
            with anyio.move_on_after(CLOSING):
                await self._process.wait()
                return
            end_it()
        with anyio.move_on_after(CLOSING):
            await self._process.wait()


def _read(line: bytes) -> dict[str, Any] | None:
    """A JSON object; the agent's commands can write into this stream too, and must not end it."""
    try:
        message = json.loads(line) if line.startswith(b"{") else None
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None
