"""The prompt at a terminal, typed at through prompt_toolkit's own pipe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from prompt_toolkit.application import create_app_session
from prompt_toolkit.history import FileHistory
from prompt_toolkit.input import PipeInput, create_pipe_input
from prompt_toolkit.output import DummyOutput

from nanoclaw_core.cli.chat import converse
from nanoclaw_core.cli.prompt import Prompt
from nanoclaw_core.models import InboundMessage
from nanoclaw_core.settings import Settings
from tests.cli.fake_host import FakeHost, echo

CTRL_C, CTRL_D, ENTER, ALT_ENTER = "\x03", "\x04", "\r", "\x1b\r"


@pytest.fixture
def keyboard() -> Iterator[PipeInput]:
    with create_pipe_input() as keyboard, create_app_session(input=keyboard, output=DummyOutput()):
        yield keyboard


class Paper(Prompt):
    """A prompt whose prints are kept; `printed` waits for a text in them."""

    def __init__(self, history: Path) -> None:
        super().__init__(history)
        self.text = ""
        self._changed = anyio.Event()

    def _print(self, what: object) -> None:
        from io import StringIO

        from rich.console import Console

        Console(file=(paper := StringIO()), width=200).print(what)
        self.text += paper.getvalue()
        self._changed.set()
        self._changed = anyio.Event()

    async def printed(self, text: str) -> None:
        while text not in self.text:
            await self._changed.wait()


@asynccontextmanager
async def chatting(home: Path, host: FakeHost, keyboard: PipeInput) -> AsyncIterator[Paper]:
    """A person at the prompt; leaving the block presses ctrl-D."""
    paper = Paper(home / "chat-history")

    async def chat() -> None:
        with create_app_session(input=keyboard, output=DummyOutput()):
            assert await converse(Settings(home=home, variables={}), None, paper, paper.run) == 0

    with anyio.fail_after(30):
        async with host.serving(home), anyio.create_task_group() as tasks:
            tasks.start_soon(chat)
            await paper.printed("You talk to Andy")
            yield paper
            keyboard.send_text(CTRL_D)


async def test_what_is_typed_is_sent_and_the_answer_set_as_markdown(nanoclaw_home: Path, keyboard: PipeInput) -> None:
    async with chatting(nanoclaw_home, host := FakeHost(), keyboard) as paper:
        keyboard.send_text("hello" + ENTER)
        await paper.printed("You said hello")  # not **hello**
    assert [message.text for message in host.received] == ["hello"]


async def test_what_one_should_know_is_said_first(nanoclaw_home: Path, keyboard: PipeInput) -> None:
    async with chatting(nanoclaw_home, host := FakeHost(), keyboard) as paper:
        await paper.printed(host.greeting()[0])


async def test_several_lines_are_one_message(nanoclaw_home: Path, keyboard: PipeInput) -> None:
    async with chatting(nanoclaw_home, host := FakeHost(), keyboard) as paper:
        keyboard.send_text("one" + ALT_ENTER + "two\x1b[200~\nthree\x1b[201~" + ENTER)
        await paper.printed("three")
    assert [message.text for message in host.received] == ["one\ntwo\nthree"]


async def test_ctrl_c_clears_what_was_typed(nanoclaw_home: Path, keyboard: PipeInput) -> None:
    async with chatting(nanoclaw_home, host := FakeHost(), keyboard) as paper:
        keyboard.send_text("rm -rf" + CTRL_C + "hello" + ENTER)
        await paper.printed("You said hello")
    assert [message.text for message in host.received] == ["hello"]


async def test_ctrl_c_while_the_agent_works_says_how_to_leave_and_leaves_the_agent_alone(
    nanoclaw_home: Path, keyboard: PipeInput
) -> None:
    came, may_answer = anyio.Event(), anyio.Event()

    async def slow(host: FakeHost, message: InboundMessage) -> None:
        came.set()
        await may_answer.wait()
        await echo(host, message)

    async with chatting(nanoclaw_home, FakeHost(slow), keyboard) as paper:
        keyboard.send_text("hello" + ENTER)
        await came.wait()
        keyboard.send_text(CTRL_C)
        await paper.printed("Andy goes on working. Ctrl-D leaves")
        may_answer.set()
        await paper.printed("You said hello")


async def test_an_agent_cannot_steer_the_terminal_or_hide_where_a_link_leads(nanoclaw_home: Path, keyboard: PipeInput) -> None:
    async def attack(host: FakeHost, message: InboundMessage) -> None:
        await host.say("\x1b]0;owned\x07[bank](http://evil.example)", key="k", chat=message.address.chat)
        await host.settle(message, "answered")

    async with chatting(nanoclaw_home, FakeHost(attack), keyboard) as paper:
        keyboard.send_text("hello" + ENTER)
        await paper.printed("bank (http://evil.example)")
    assert "\x1b]" not in paper.text


async def test_the_line_above_the_prompt_says_what_goes_on(nanoclaw_home: Path, keyboard: PipeInput) -> None:
    prompt = Paper(nanoclaw_home / "chat-history")
    assert [part[1] for part in prompt._line()] == ["> "]
    prompt.working("Bash: \x1b[2J make")
    assert "Bash: [2J make (0 s)" in prompt._line()[0][1]
    prompt.working("")
    assert [part[1] for part in prompt._line()] == ["> "]


async def test_what_was_typed_is_kept_for_the_next_chat_for_the_owner_alone(nanoclaw_home: Path, keyboard: PipeInput) -> None:
    async with chatting(nanoclaw_home, FakeHost(), keyboard) as paper:
        keyboard.send_text("hello" + ENTER)
        await paper.printed("You said hello")
    history = nanoclaw_home / "chat-history"
    assert "+hello" in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600


async def test_the_newest_thousand_entries_are_kept(nanoclaw_home: Path, keyboard: PipeInput) -> None:
    history = FileHistory(str(nanoclaw_home / "chat-history"))
    for number in range(1002):
        history.store_string(f"# entry {number}\n# of two lines")
    async with chatting(nanoclaw_home, FakeHost(), keyboard):
        pass
    kept = list(history.load_history_strings())  # the newest first
    assert (len(kept), kept[0], kept[-1]) == (1000, "# entry 1001\n# of two lines", "# entry 2\n# of two lines")
    assert (nanoclaw_home / "chat-history").stat().st_mode & 0o777 == 0o600
