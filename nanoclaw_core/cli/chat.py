"""`nanoclaw chat`: line by line from a pipe, one message with `--once`, or at a prompt."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress

import anyio
import click

from nanoclaw_core.cli.connection import lone_error
from nanoclaw_core.cli.conversation import ANSWERED, Conversation, Screen
from nanoclaw_core.cli.launch import ensure_host
from nanoclaw_core.cli.text import one_line, plain
from nanoclaw_core.settings import Settings

Body = Callable[[Conversation], Awaitable[int]]


def run(settings: Settings, once: str | None, agent: str | None) -> int:
    """Chat until the input ends; 1 when a message got no answer."""
    if once is not None:
        if not once.strip():
            raise click.UsageError("--once needs a text.", click.get_current_context(silent=True))
        return anyio.run(converse, settings, agent, PipeScreen(), lambda chat: _once(chat, once))
    if sys.stdin.isatty() and sys.stdout.isatty():
        from nanoclaw_core.cli.prompt import Prompt

        prompt = Prompt(settings.home / "chat-history")
        return anyio.run(converse, settings, agent, prompt, prompt.run)
    return anyio.run(converse, settings, agent, PipeScreen(), _each_line)


async def converse(settings: Settings, agent: str | None, screen: Screen, body: Body) -> int:
    """Open the chat, starting the host where none runs, and return what `body` makes of it."""
    await ensure_host(settings)
    conversation = Conversation(settings.home, agent, screen)
    with lone_error():
        async with anyio.create_task_group() as tasks:
            await tasks.start(conversation.run)
            code = await body(conversation)
            tasks.cancel_scope.cancel()
    return code


async def _once(conversation: Conversation, text: str) -> int:
    if text == "-":
        text = b"".join([chunk async for chunk in _chunks(sys.stdin.fileno())]).decode("utf-8", "replace")
        if not text.strip():
            return 0
    return 0 if await conversation.outcome(await conversation.send(text)) == ANSWERED else 1


async def _each_line(conversation: Conversation) -> int:
    code = 0
    async for line in lines(sys.stdin.fileno()):
        if line.strip() and await conversation.outcome(await conversation.send(line)) != ANSWERED:
            code = 1
    return code


async def lines(file: int) -> AsyncIterator[str]:
    """The lines of a file descriptor, without their ends; bytes that are no UTF-8 become U+FFFD."""
    held = b""
    async for chunk in _chunks(file):
        *whole, held = (held + chunk).split(b"\n")
        for line in whole:
            yield line.decode("utf-8", "replace").removesuffix("\r")
    if held:
        yield held.decode("utf-8", "replace")


async def _chunks(file: int) -> AsyncIterator[bytes]:
    """What can be read, as it comes. No worker thread: one that hangs in a read would hold up the end after ctrl-C."""
    while True:
        with suppress(PermissionError):  # an ordinary file, or /dev/null: always ready, and epoll refuses it
            await anyio.wait_readable(file)
        if not (chunk := os.read(file, 1 << 20)):
            return
        yield chunk


class PipeScreen:
    """Answers to standard output, notices to standard error; there too, on a terminal, one passing line says what goes on."""

    def __init__(self) -> None:
        self._is_passing = False

    def said(self, text: str) -> None:
        self._clear()
        print(plain(text), flush=True)

    def notice(self, text: str) -> None:
        self._clear()
        print(one_line(text), file=sys.stderr, flush=True)

    def working(self, note: str) -> None:
        self._clear()
        if note and sys.stderr.isatty():
            width = max(20, shutil.get_terminal_size().columns - 4)
            print("· " + one_line(note, width), end="", file=sys.stderr, flush=True)
            self._is_passing = True

    def _clear(self) -> None:
        if self._is_passing:
            print("\r\x1b[2K", end="", file=sys.stderr, flush=True)
            self._is_passing = False
