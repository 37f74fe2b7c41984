"""The tutorial is followed to the letter, by somebody who knows nothing else, until the assistant answers."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen

import pytest

from tests.scaffold.scratch import Environment

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r'^```(\w+)(?: title="(.*?)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
TYPED = {"ada", "CODE", "hello"}  # of what a terminal shows in the last step, what the person writes


@dataclass(frozen=True, kw_only=True)
class Block:
    """What stands in a fence; `title` is the file that a reader puts it into."""

    language: str
    title: str
    text: str


def blocks(page: Path) -> list[Block]:
    fences = FENCE.findall(page.read_text(encoding="utf-8"))
    return [Block(language=language, title=title, text=text) for language, title, text in fences]


BLOCKS = blocks(ROOT / "docs" / "plugins" / "tutorial.md")


class Newcomer:
    """Makes the files that the page shows, and types its commands."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        self.environment, self.folder = environment, folder
        self.printed: dict[str, str] = {}

    def follow(self, block: Block) -> None:
        if block.title:
            (self.folder / block.title).write_text(block.text, encoding="utf-8")
        if block.language == "console":
            for command in re.findall(r"^\$ (.*)$", block.text, re.MULTILINE):
                self.type(command)

    def type(self, command: str) -> None:
        if command.startswith("cd "):
            self.folder /= command.removeprefix("cd ")
        elif not command.startswith(". "):  # this environment is active already
            self.printed[command] = self.environment.run(command, self.folder)


@pytest.fixture
def port() -> int:
    """One that is free: the default may not be."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def environment(tmp_path: Path, nanoclaw_home: Path, port: int) -> Environment:
    made = Environment(tmp_path / "venv")
    made.variables |= {"NANOCLAW_HOME": str(nanoclaw_home), "NETCAT_PORT": str(port), "NANOCLAW_REFUSE_REAL_MODELS": "1"}
    return made


@contextmanager
def fast_host(environment: Environment) -> Iterator[None]:
    """`nanoclaw serve`, but for the containers."""
    argv = [environment.python, Path(__file__).parent / "fast_host.py"]
    variables = environment.variables | {"PYTHONPATH": str(ROOT)}
    with Popen(argv, env=variables, stdin=PIPE, stdout=PIPE, stderr=DEVNULL, text=True) as host:
        assert host.stdout is not None
        assert host.stdout.readline() == "ready\n"
        yield
        host.communicate("", timeout=30)


def talk(port: int, shown: list[str], code: str) -> None:
    """Have the conversation that the page shows; answers may have other ids."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as line, line.makefile("rw", encoding="utf-8") as text:
        for words in shown:
            if words in TYPED:
                text.write(words.replace("CODE", code) + "\n")
                text.flush()
            else:
                assert re.sub(r"^#\w+", "#", text.readline().rstrip("\n")) == re.sub(r"^#\w+", "#", words)


def test_whoever_follows_the_tutorial_is_answered(environment: Environment, tmp_path: Path, port: int) -> None:
    newcomer = Newcomer(environment, tmp_path)
    for block in BLOCKS:
        newcomer.follow(block)
    assert re.search(r"^\d+ passed", newcomer.printed["python -m pytest -q"], re.MULTILINE)
    assert re.search(r": \d+ pass, \d+ not claimed$", newcomer.printed["nanoclaw plugin check ."].strip())
    code = re.search(r"^\s+(\w{5}-\w{5})$", newcomer.printed["nanoclaw channel setup netcat"], re.MULTILINE)
    assert code is not None
    (shown,) = (block.text.splitlines() for block in BLOCKS if block.language == "text")
    assert shown[0] == "$ nc 127.0.0.1 7007"
    with fast_host(environment):
        talk(port, shown[1:], code[1])


def test_the_channel_of_the_tutorial_has_less_than_a_hundred_lines() -> None:
    code = "".join(block.text for block in BLOCKS if block.title.startswith("nanoclaw_netcat/"))
    assert 50 < len([line for line in code.splitlines() if line.strip()]) < 100
