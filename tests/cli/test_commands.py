"""The commands from outside: their help, their errors in one line, their exit codes, and what they import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from nanoclaw_core import __version__
from nanoclaw_core.cli import commands, main
from nanoclaw_core.errors import HostNotRunning

PAGE = (Path(__file__).parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
HEAVY = ["rich", "aiohttp", "sqlalchemy", "docker", "prompt_toolkit", "msgspec", "structlog", "anyio", "alembic", "asyncio"]


def run(*words: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nanoclaw_core.cli", *words],
        env={**os.environ, "NANOCLAW_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def all_commands(group: click.Group = commands.nanoclaw, path: str = "nanoclaw") -> Iterator[tuple[str, click.Command]]:
    yield path, group
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from all_commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


# --- help and documentation -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("path", "command"), list(all_commands()), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_has_help_that_fits_eighty_columns(path: str, command: click.Command) -> None:
    words = [*path.split()[1:], "--help"]
    shown = CliRunner().invoke(commands.nanoclaw, words, prog_name="nanoclaw", terminal_width=80)
    assert shown.exit_code == 0
    assert max(map(len, shown.output.splitlines())) <= 80
    assert "..." not in shown.output.partition("Commands:")[2]


@pytest.mark.parametrize(("path", "command"), list(all_commands()), ids=lambda value: value if isinstance(value, str) else "")
def test_the_page_has_every_command_and_option(path: str, command: click.Command) -> None:
    if not isinstance(command, click.Group):
        section = PAGE.partition(f"## {path}\n")[2].partition("\n## ")[0]
        assert section, f"no section on {path}"
        options = [name for item in command.params for name in item.opts if name.startswith("--")]
        assert [name for name in options if f"`{name}" not in section] == []


def test_the_page_has_the_exit_codes_of_the_help_and_says_more_of_them() -> None:
    on_page = dict(re.findall(r"^\| (\d+) \| (.+) \|$", PAGE, re.MULTILINE))
    in_help = dict(line.split(maxsplit=1) for line in commands.EXIT_CODES.splitlines()[2:])
    assert on_page.keys() == in_help.keys()
    for code, meaning in in_help.items():
        assert [part for part in re.split("[,;] ", meaning) if part not in on_page[code]] == []


@pytest.mark.parametrize("words", [["--version"], ["--help"], ["chat", "--help"], ["version"]], ids=" ".join)
def test_a_quick_command_imports_nothing_heavy(words: list[str]) -> None:
    code = f"from nanoclaw_core.cli import main; import sys; main({words}); print([n for n in {HEAVY} if n in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.splitlines()[-1] == "[]"


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == main(["version"]) == 0
    assert capsys.readouterr().out == f"nanoclaw {__version__}\n" * 2


# --- errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "environment", "code", "says"),
    [
        (["stauts"], {}, 2, "Did you mean 'status'?"),
        (["chat", "--onze", "x"], {}, 2, "Did you mean '--once'?"),
        (["chat", "--once", " "], {}, 2, "--once needs a text."),
        (["why", "abc"], {}, 2, "'abc' must be a number from `nanoclaw messages`."),
        (["why", "0"], {}, 2, "'0' must be a number from `nanoclaw messages`."),
        (["messages", "--limit", "20", "--stuck"], {}, 2, "--stuck lists everything that is stuck"),
        (["backup", "verify", "nope"], {}, 3, "There is no file nope."),
        (["backup", "restore", "nope"], {}, 3, "There is no file nope."),
        (["backup", "create", "new.tar.gz"], {}, 3, "There is nothing to back up yet: `nanoclaw chat` begins."),
        (["plugin", "enable"], {}, 2, "Missing argument 'NAME'."),
        (["status"], {"NANOCLAW_MAX_TURNS": "0"}, 3, "a whole number from 1 to 64"),
        (["status"], {"NANOCLAW_HOME": "relative"}, 3, "absolute"),
        (["plugin", "enable", "nowhere"], {}, 3, "no plugin named 'nowhere'"),
        (["status"], {}, 5, "No host runs on"),
        (["stop"], {}, 5, "No host runs on"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_an_error_is_one_line_that_says_what_to_do(
    nanoclaw_home: Path, words: list[str], environment: dict[str, str], code: int, says: str
) -> None:
    ended = run(*words, home=nanoclaw_home, **environment)
    assert ended.returncode == code
    assert (ended.stdout, ended.stderr.count("\n")) == ("", 1)
    assert ended.stderr.startswith("nanoclaw: ")
    assert says in ended.stderr


def test_debug_shows_where_an_error_came_from(nanoclaw_home: Path) -> None:
    ended = run("status", "--debug", home=nanoclaw_home)
    assert ended.returncode == 5
    assert "Traceback" in ended.stderr
    assert ended.stderr.splitlines()[-1].startswith("nanoclaw: No host runs on")


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (
            ZeroDivisionError("x\x1b[2J\ny"),
            1,
            "nanoclaw: bug: ZeroDivisionError: x[2J y (run again with --debug for the traceback)\n",
        ),
        (ExceptionGroup("tasks", [HostNotRunning("/home")]), 5, f"nanoclaw: {HostNotRunning('/home')}\n"),
        (KeyboardInterrupt(), 130, "\n"),
    ],
    ids=["bug", "group", "ctrl-C"],
)
def test_whatever_a_command_raises_ends_in_an_exit_code(
    error: BaseException, code: int, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(commands, "_settings", fail)
    assert main(["status"]) == code
    assert capsys.readouterr() == ("", says)


@pytest.mark.parametrize("place", ["environment", "home", "nowhere"])
def test_a_secret_in_an_error_is_hidden(
    place: str, nanoclaw_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "sk-of-the-commands"
    monkeypatch.setenv("NANOCLAW_HOME", str(nanoclaw_home))
    if place == "environment":
        monkeypatch.setenv("ANTHROPIC_API_KEY", secret)
    elif place == "home":
        (nanoclaw_home / ".env").write_text(f"ANTHROPIC_API_KEY={secret}\n")

    def fail() -> None:
        raise ValueError(f"cannot use {secret}")

    monkeypatch.setattr(commands, "_settings", fail)
    assert main(["status"]) == 1
    assert (secret in capsys.readouterr().err) == (place == "nowhere")


def test_a_reader_that_leaves_is_no_error(nanoclaw_home: Path) -> None:
    argv = [sys.executable, "-m", "nanoclaw_core.cli", "--help"]
    read, write = os.pipe()
    os.close(read)
    with subprocess.Popen(argv, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        _, complaint = process.communicate(timeout=30)
    assert (process.returncode, complaint) == (1, b"")


def test_without_a_command_the_help_is_shown(nanoclaw_home: Path) -> None:
    ended = run(home=nanoclaw_home)
    assert ended.returncode == 2
    assert "Commands:" in ended.stderr


# --- plugins --------------------------------------------------------------------------------------------------------------


def test_the_plugin_list_has_the_built_in_ones(nanoclaw_home: Path) -> None:
    ended = run("plugin", "list", home=nanoclaw_home)
    assert ended.returncode == 0
    assert "terminal" in ended.stdout
    assert max(map(len, ended.stdout.splitlines())) <= 80


def test_a_plugin_that_is_gone_is_listed_and_can_be_disabled(nanoclaw_home: Path) -> None:
    (nanoclaw_home / "plugins.json").write_text('{"enabled": ["gone"]}')
    assert "not installed" in run("plugin", "list", "--json", home=nanoclaw_home).stdout
    ended = run("plugin", "disable", "gone", home=nanoclaw_home)
    assert "next start of the host" in ended.stdout
