"""The chat at a terminal: a prompt that stays, answers and notices above it, and a line that says what the agent does."""

from __future__ import annotations

import io
import shutil
import time
from pathlib import Path
from typing import Final

import anyio
from anyio import to_thread
from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import FileHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.patch_stdout import patch_stdout
from rich.console import Console, RenderableType
from rich.markdown import Markdown
from rich.text import Text

from nanoclaw_core.cli.conversation import Conversation
from nanoclaw_core.cli.text import duration, one_line, plain, with_line_breaks

_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_KEPT: Final = 1000  # entries of the history
_RENDERED: Final = 50_000  # characters; a longer answer would take seconds to be set as Markdown


class Prompt:
    """A person at a terminal: the screen of the conversation, and its body."""

    def __init__(self, history: Path) -> None:
        self._history = history
        self._conversation: Conversation | None = None
        self._note = ""
        self._since: float | None = None

    def said(self, text: str) -> None:
        text = plain(text)
        # Links are written out: behind a word, an agent could hide where they lead.
        self._print(Markdown(with_line_breaks(text), hyperlinks=False) if len(text) <= _RENDERED else Text(text))
        self._print(Text())

    def notice(self, text: str) -> None:
        self._print(Text(f"· {one_line(text)}", style="yellow"))

    def working(self, note: str) -> None:
        self._note = note
        self._since = (self._since or time.monotonic()) if note or self._is_waiting else None

    async def run(self, conversation: Conversation) -> int:
        """Read messages until ctrl-D."""
        self._conversation = conversation
        await to_thread.run_sync(_keep_newest, self._history)
        session: PromptSession[str] = PromptSession(
            self._line, history=FileHistory(str(self._history)), key_bindings=self._keys(), multiline=True
        )
        self.notice(f"You talk to {conversation.agent}. Enter sends, Alt-Enter begins a new line, Ctrl-D leaves.")
        with patch_stdout(raw=True):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._animate)
                while (text := await _read(session)) is not None:
                    if text.strip():
                        await conversation.send(text)
                        self.working(self._note)
                tasks.cancel_scope.cancel()
        if self._is_waiting:
            self.notice(f"{conversation.agent} goes on working; `nanoclaw chat` will show the answer.")
        return 0

    @property
    def _is_waiting(self) -> bool:
        return self._conversation is not None and self._conversation.is_waiting

    def _line(self) -> StyleAndTextTuples:
        """The prompt and, while there is something to wait for, the line above it."""
        if self._since is None or get_app().is_done:
            return [("bold", "> ")]
        elapsed = time.monotonic() - self._since
        agent = self._conversation.agent if self._conversation else ""
        words = one_line(f"{agent}: {self._note or 'works'}", max(20, shutil.get_terminal_size().columns - 20))
        return [("ansicyan", f"{_FRAMES[int(elapsed * 10) % 10]} {words} ({duration(elapsed)})\n"), ("bold", "> ")]

    async def _animate(self) -> None:
        while True:
            await anyio.sleep(0.1)
            if self._since is not None:
                get_app().invalidate()

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()

        @keys.add("enter")
        def _send(event: KeyPressEvent) -> None:
            event.current_buffer.validate_and_handle()

        @keys.add("escape", "enter")
        def _new_line(event: KeyPressEvent) -> None:
            event.current_buffer.insert_text("\n")

        @keys.add("c-c")
        @keys.add("<sigint>")
        def _interrupt(event: KeyPressEvent) -> None:
            if event.current_buffer.text:
                event.current_buffer.reset()
            elif self._is_waiting and self._conversation is not None:
                self.notice(f"{self._conversation.agent} goes on working. Ctrl-D leaves; the answer waits for your next chat.")
            else:
                self.notice("Ctrl-D leaves.")

        return keys

    def _print(self, what: RenderableType) -> None:
        """Print above the prompt."""
        paper = io.StringIO()
        columns = shutil.get_terminal_size().columns
        Console(file=paper, force_terminal=True, width=columns, highlight=False).print(what)
        print(paper.getvalue(), end="", flush=True)


def _keep_newest(history: Path) -> None:
    """Make the file where there is none, and drop its oldest entries. Blocks.

    An entry begins with a line that has its time behind a `#`; each of its own lines begins with `+`.
    """
    history.touch(mode=0o600)
    lines = history.read_bytes().split(b"\n")
    begins = [number for number, line in enumerate(lines) if line.startswith(b"# ")]
    if len(begins) <= _KEPT:
        return
    shorter = history.with_name(f"{history.name}.new")
    shorter.unlink(missing_ok=True)
    shorter.touch(mode=0o600)
    shorter.write_bytes(b"\n".join(lines[begins[-_KEPT] :]))
    shorter.replace(history)


async def _read(session: PromptSession[str]) -> str | None:
    try:
        return await session.prompt_async()
    except EOFError:
        return None
