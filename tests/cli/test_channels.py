"""Channels set up as a stranger's plugin describes its own: asked for, tried, kept, switched and paired, with no code of it."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import select
import shutil
import stat
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from nanoclaw_core import secrets
from nanoclaw_core.cli import main
from nanoclaw_core.cli.restart import restart
from nanoclaw_core.installed import enabled
from nanoclaw_core.settings import Settings, read_env_file
from nanoclaw_core.switches import switched_off
from tests.cli.test_commands import run as run_command

SAMPLE = Path(__file__).parents[1] / "sample_plugins" / "nanoclaw-parrot" / "nanoclaw_parrot"
GOOD, STOLEN, ASLEEP, BUG = "polly-12345", "polly-1230", "polly-1239", "polly-1238"
CODE = re.compile(r"^    ([2-9A-Z]{5}-[2-9A-Z]{5})$", re.MULTILINE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the sample plugin was installed, as far as Python can tell."""
    folder = tmp_path_factory.mktemp("site")
    shutil.copytree(SAMPLE, folder / "nanoclaw_parrot")
    info = folder / "nanoclaw_parrot-1.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nanoclaw-parrot\nVersion: 1.2.0\n")
    (info / "entry_points.txt").write_text("[nanoclaw]\nparrot = nanoclaw_parrot\n")
    return folder


class Shell:
    """Commands on one home, beside the sample plugin: in this process, which is quick, or in one of their own."""

    def __init__(self, home: Path, site: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]) -> None:
        self.home = home
        self.environment = {"PYTHONPATH": str(site), "DOCKER_HOST": "unix:///nowhere"}
        self._site = site
        self._patch = patch
        self._capture = capture

    def run(self, *words: str, stdin: str | bytes = "", **environment: str) -> subprocess.CompletedProcess[str]:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        umask = os.umask(0o022)
        with self._patch.context() as patch:
            patch.chdir(self.home.parent)
            patch.syspath_prepend(self._site)
            patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
            for name, value in {"NANOCLAW_HOME": str(self.home), **self.environment, **environment}.items():
                patch.setenv(name, value)
            code = main(words)
        os.umask(umask)
        shown = self._capture.readouterr()
        return subprocess.CompletedProcess(words, code, shown.out, shown.err)

    @contextmanager
    def started_host(self) -> Iterator[None]:
        """With a host; it, or the one that took its place, ends with the block."""
        process = subprocess.Popen(
            [sys.executable, "-m", "nanoclaw_core.cli", "serve"],
            env={**os.environ, **self.environment, "NANOCLAW_HOME": str(self.home)},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        try:
            assert process.stdout is not None
            assert b"is ready" in process.stdout.readline()
            yield
            self.run("stop")
        finally:
            process.terminate()
            process.wait(30)
            assert process.stdout is not None
            process.stdout.close()

    @contextmanager
    def terminal(self, *words: str) -> Iterator[Terminal]:
        """The same at a terminal, which the command has for its own."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "nanoclaw_core.cli", *words],
            env={**os.environ, **self.environment, "NANOCLAW_HOME": str(self.home)},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=self.home.parent,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # getpass asks the terminal itself
        )
        os.close(theirs)
        try:
            yield Terminal(ours, process)
        finally:
            process.kill()
            process.wait()
            os.close(ours)


class Terminal:
    """The person's end of a terminal. `shown` is everything that stood on it."""

    def __init__(self, descriptor: int, process: subprocess.Popen[bytes]) -> None:
        self._descriptor = descriptor
        self._process = process
        self._read = 0
        self.shown = ""

    def answer(self, prompt: str, text: str) -> None:
        """Wait for the prompt, and type."""
        self._until(prompt)
        os.write(self._descriptor, f"{text}\n".encode())

    def end(self) -> int:
        """Wait until the command has ended; its exit code."""
        self._until(None)
        return self._process.wait(60)

    def _until(self, prompt: str | None) -> None:
        deadline = time.monotonic() + 60
        while prompt is None or prompt not in self.shown[self._read :]:
            assert time.monotonic() < deadline, self.shown
            if select.select([self._descriptor], [], [], 1.0)[0]:
                try:
                    piece = os.read(self._descriptor, 65536)
                except OSError:  # the other end is closed
                    piece = b""
                if not piece:
                    assert prompt is None, self.shown
                    return
                self.shown += piece.decode()
        self._read += self.shown[self._read :].index(prompt) + len(prompt)


@pytest.fixture
def shell(nanoclaw_home: Path, site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(nanoclaw_home, site, monkeypatch, capsys)


def nothing_is_stored(home: Path) -> bool:
    return secrets.stored(home) == {} and enabled(home) == [] and not (home / ".env").exists()


# --- on a server --------------------------------------------------------------------------------------------------------------


def test_a_token_on_standard_input_sets_a_channel_up_and_a_code_is_printed(shell: Shell) -> None:
    ended = shell.run("channel", "setup", "parrot", "--token-stdin", stdin=f"{GOOD}\n")
    assert ended.returncode == 0, ended.stderr
    assert "parrot is set up: it is @polly, which eats nuts." in ended.stdout
    assert CODE.search(ended.stdout)
    assert "  1. Buy a parrot.\n  2. Read the token on its ring.\n" in ended.stderr
    assert (secrets.stored(shell.home), enabled(shell.home)) == ({"PARROT_TOKEN": GOOD}, ["parrot"])
    assert not (shell.home / ".env").exists()
    assert GOOD not in ended.stdout + ended.stderr


def test_what_is_in_the_environment_is_kept_secrets_apart_from_the_rest(shell: Shell) -> None:
    ended = shell.run("channel", "setup", "parrot", PARROT_TOKEN=GOOD, PARROT_FOOD="figs # ripe")
    assert ended.returncode == 0, ended.stderr
    assert secrets.stored(shell.home) == {"PARROT_TOKEN": GOOD}
    assert read_env_file(shell.home / ".env") == {"PARROT_FOOD": "figs # ripe"}


@pytest.mark.parametrize(
    ("words", "stdin", "code", "says"),
    [
        ([], "", 2, "PARROT_TOKEN is missing."),
        (["--token-stdin"], "", 3, "PARROT_TOKEN is not accepted: it is empty."),
        (["--token-stdin"], "polly-1\n", 3, "it must be polly- and four digits or more. Nothing was stored."),
        (["--token-stdin"], f"{GOOD}\n{GOOD}\n", 3, "it must be one line"),
        (["--token-stdin"], b"polly-\xff\xfe", 3, "it is no UTF-8 text"),
        (["--token-stdin"], b"polly-1234\0", 3, "it has NUL"),
        (["--token-stdin"], STOLEN, 3, "The parrot does not answer to ***. Nothing was stored."),
        (["--token-stdin"], ASLEEP, 1, "could not be asked: the parrot *** sleeps. Nothing was stored."),
        (["--token-stdin"], BUG, 1, "could not be asked: RuntimeError: no parrot at /bot***/whoami."),
    ],
    ids=["missing", "empty", "malformed", "two lines", "binary", "NUL", "refused", "unreachable", "bug"],
)
def test_a_token_that_is_no_good_is_one_line_and_nothing_is_stored(
    shell: Shell, words: list[str], stdin: str | bytes, code: int, says: str
) -> None:
    ended = shell.run("channel", "setup", "parrot", *words, stdin=stdin)
    assert ended.returncode == code
    assert says in ended.stderr.splitlines()[-1]
    assert nothing_is_stored(shell.home)


def test_debug_shows_no_credential_either(shell: Shell) -> None:
    ended = shell.run("channel", "setup", "parrot", "--token-stdin", "--debug", stdin=STOLEN)
    assert "Traceback" in ended.stderr
    assert STOLEN not in ended.stderr


def test_a_platform_need_not_be_asked(shell: Shell) -> None:
    ended = shell.run("channel", "setup", "parrot", "--token-stdin", "--no-check", stdin=ASLEEP)
    assert "parrot is set up.\n" in ended.stdout
    assert secrets.stored(shell.home) == {"PARROT_TOKEN": ASLEEP}


def test_the_same_again_keeps_what_is_set_and_gives_a_new_code(shell: Shell) -> None:
    first = CODE.findall(shell.run("channel", "setup", "parrot", "--token-stdin", stdin=GOOD).stdout)
    again = shell.run("channel", "setup", "parrot")
    assert again.returncode == 0
    assert CODE.findall(again.stdout) != first
    assert secrets.stored(shell.home) == {"PARROT_TOKEN": GOOD}


def test_a_channel_that_nobody_installed_is_named_with_those_that_are(shell: Shell) -> None:
    ended = shell.run("channel", "setup", "smoke-signals")
    assert ended.returncode == 3
    assert "There is no channel named 'smoke-signals'. Known: parrot," in ended.stderr


def test_the_terminal_is_set_up_already(shell: Shell) -> None:
    assert shell.run("channel", "setup", "terminal").stdout == "terminal is set up.\n"
    refused = [shell.run("channel", command, "terminal") for command in ("pair", "disable")]
    assert [ended.returncode for ended in refused] == [3, 3]


# --- at a terminal ------------------------------------------------------------------------------------------------------------


def test_at_a_terminal_wrong_tokens_are_asked_for_again_and_none_is_shown(shell: Shell) -> None:
    with shell.terminal("channel", "setup", "parrot") as terminal:
        terminal.answer("token (not shown): ", "polly-1")
        terminal.answer("It must be polly- and four digits or more.\r\nThe parrot's token (not shown): ", STOLEN)
        terminal.answer("Its cage (optional): ", "")
        terminal.answer("What it eats [nuts]: ", "seeds")
        terminal.answer("does not answer to ***. Try again, or leave with ctrl-C.\r\nThe parrot's token (not shown): ", GOOD)
        terminal.answer("Its cage (optional): ", str(shell.home.parent))
        terminal.answer("What it eats [seeds]: ", "")
        assert terminal.end() == 0, terminal.shown
    assert "parrot is set up: it is @polly, which eats seeds." in terminal.shown
    assert not [token for token in ("polly-1", STOLEN, GOOD) if f"{token}\r" in terminal.shown]
    assert secrets.stored(shell.home) == {"PARROT_TOKEN": GOOD}
    assert read_env_file(shell.home / ".env") == {"PARROT_CAGE": str(shell.home.parent), "PARROT_FOOD": "seeds"}


def test_who_leaves_the_dialogue_has_stored_nothing(shell: Shell) -> None:
    with shell.terminal("channel", "setup", "parrot") as terminal:
        terminal.answer("token (not shown): ", GOOD)
        terminal.answer("Its cage (optional): ", "\x03")
        assert terminal.end() == 130
    assert nothing_is_stored(shell.home)


# --- afterwards ---------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ready(shell: Shell) -> Shell:
    """With the parrot set up."""
    assert shell.run("channel", "setup", "parrot", "--token-stdin", stdin=GOOD).returncode == 0
    return shell


def test_the_list_says_what_each_channel_lacks_and_what_else_is_installed(shell: Shell) -> None:
    assert (
        "nanoclaw-parrot 1.2.0 is installed, not enabled: `nanoclaw channel setup parrot`"
        in shell.run("channel", "list").stdout
    )
    assert "parrot is on, but lacks PARROT_TOKEN" in shell.run("channel", "enable", "parrot").stdout
    assert re.search(r"parrot +no: lacks PARROT_TOKEN +none runs", shell.run("channel", "list", COLUMNS="120").stdout)
    (_, parrot) = json.loads(shell.run("channel", "list", "--json").stdout)
    assert (parrot["name"], parrot["lacking"], parrot["pairs"], parrot["enabled"]) == ("parrot", ["PARROT_TOKEN"], True, True)


def test_a_channel_that_is_off_is_off_until_it_is_on_again(ready: Shell) -> None:
    assert "parrot is off." in ready.run("channel", "disable", "parrot").stdout
    assert switched_off(ready.home) == {"parrot"}
    assert ready.run("channel", "disable", "parrot").stdout == "parrot was off already.\n"
    refused = ready.run("channel", "pair", "parrot")
    assert (refused.returncode, "switched off" in refused.stderr) == (3, True)
    assert "parrot is on." in ready.run("channel", "enable", "parrot").stdout
    assert switched_off(ready.home) == set()
    assert ready.run("channel", "disable", "parot").returncode == 3


def test_setting_a_channel_up_switches_it_on(ready: Shell) -> None:
    ready.run("channel", "disable", "parrot")
    ready.run("channel", "setup", "parrot")
    assert switched_off(ready.home) == set()


def test_check_asks_the_platforms_and_fails_when_one_refuses(ready: Shell) -> None:
    good = ready.run("channel", "check")
    assert (good.returncode, "it is @polly, which eats nuts" in good.stdout) == (0, True)
    bad = ready.run("channel", "check", "parrot", PARROT_TOKEN=STOLEN)
    assert bad.returncode == 1
    assert "The parrot does not answer to ***." in bad.stdout
    assert ready.run("channel", "check", "parot").returncode == 3


def test_doctor_says_how_each_channel_is(ready: Shell) -> None:
    def lines() -> dict[str, dict[str, str]]:
        ended = run_command("doctor", "--json", home=ready.home, **ready.environment)
        return {line["name"]: line for line in json.loads(ended.stdout)["checks"]}

    assert lines()["channel parrot"]["status"] == "ok"
    secrets.remove(ready.home, "PARROT_TOKEN")
    assert lines()["channel parrot"]["fix"] == "`nanoclaw channel setup parrot`"


def test_a_broken_plugin_is_left_off_with_its_reason(shell: Shell, site: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(site, tmp_path / "site")
    (broken / "nanoclaw_parrot" / "__init__.py").write_text("raise SystemExit('moulting')")
    ended = run_command("channel", "setup", "parrot", home=shell.home, PYTHONPATH=str(broken))
    assert (ended.returncode, "moulting" in ended.stderr) == (3, True)
    assert nothing_is_stored(shell.home)


def test_from_set_up_to_paired_while_a_host_runs(shell: Shell, tmp_path: Path) -> None:
    """The whole way of a newcomer, with a host of its own process: it is restarted, and hears the code."""
    cage = tmp_path / "cage"
    cage.mkdir()
    with shell.started_host():
        given = {"PARROT_TOKEN": GOOD, "PARROT_CAGE": str(cage), **shell.environment}
        ended = run_command("channel", "setup", "parrot", "--restart", home=shell.home, **given)
        assert ended.returncode == 0, ended.stderr
        assert "Starting the host in the background" in ended.stderr
        (code,) = CODE.findall(ended.stdout)
        assert re.search(r"parrot +yes +running", shell.run("channel", "list", COLUMNS="120").stdout)
        write_whole(cage / "1.json", json.dumps({"chat": "perch", "sender": "ada", "text": f"/start {code.lower()}"}))
        said = wait_for(cage / "said")
        assert said == "perch: You are paired: this chat is Andy's now, and Andy hears everything that you write here.\n"
        made = shell.run("wiring", "create", "--channel", "parrot", "--chat", "ada", "--mode", "pattern", "--trigger", "^nano")
        assert made.stdout.startswith("Andy now hears Ada (perch): what matches ^nano.")


def test_a_host_that_a_service_runs_is_restarted_by_the_service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    restarts: list[str] = []

    def manager_of(settings: Settings, is_system: bool) -> SimpleNamespace:
        return SimpleNamespace(
            file=tmp_path if not is_system else tmp_path / "nowhere",
            service=SimpleNamespace(name="nanoclaw"),
            require=lambda: None,
            is_running=lambda: True,
            start=lambda: restarts.append("user's"),
        )

    monkeypatch.setattr("nanoclaw_core.cli.restart.manager_of", manager_of)
    restart(Settings(home=tmp_path, variables={}))
    assert restarts == ["user's"]


def write_whole(path: Path, text: str) -> None:
    """So that a reader never finds a part of it."""
    path.with_suffix(".part").write_text(text)
    path.with_suffix(".part").rename(path)


def wait_for(path: Path) -> str:
    """The first line of a file that another process writes."""
    deadline = time.monotonic() + 30
    while not path.exists() or not (text := path.read_text()).endswith("\n"):
        assert time.monotonic() < deadline, "nothing was said"
        time.sleep(0.02)
    return text


# --- secrets ------------------------------------------------------------------------------------------------------------------


def test_a_secret_comes_in_by_standard_input_and_is_never_shown(ready: Shell) -> None:
    ended = ready.run("secret", "set", "PARROT_TOKEN", "--stdin", stdin="polly-99999\n")
    assert ended.stdout == "PARROT_TOKEN is kept. The host uses it from its next start on.\n"
    listed = ready.run("secret", "list", COLUMNS="100")
    assert re.search(r"PARROT_TOKEN +\d{4}-\d\d-\d\d \d\d:\d\d +channel parrot", listed.stdout)
    shown = json.loads(ready.run("secret", "list", "--json", PARROT_TOKEN="other").stdout)
    assert [(each["name"], each["used_by"], each["overridden"]) for each in shown] == [
        ("PARROT_TOKEN", ["channel parrot"], True)
    ]
    assert "polly-99999" not in ended.stdout + listed.stdout + str(shown)
    gone = ready.run("secret", "remove", "PARROT_TOKEN")
    assert gone.stdout == "PARROT_TOKEN is removed. channel parrot will miss it from the next start of the host on.\n"


def test_a_secret_is_asked_for_without_being_shown(shell: Shell) -> None:
    with shell.terminal("secret", "set", "A_TOKEN") as terminal:
        terminal.answer("A_TOKEN (not shown): ", "hush-hush")
        assert terminal.end() == 0, terminal.shown
    assert "hush" not in terminal.shown
    assert secrets.stored(shell.home) == {"A_TOKEN": "hush-hush"}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["set", "A_TOKEN"], 2, "There is no terminal to ask at"),
        (["set", "A_TOKEN", "--stdin"], 3, "it is empty"),
        (["set", "a-token", "--stdin"], 3, "a name is a letter"),
        (["set", "NANOCLAW_MODEL", "--stdin"], 3, "they belong into .env"),
        (["remove", "A_TOKEN"], 3, "no secret named 'A_TOKEN'. Known: none"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_secret_that_cannot_be_is_refused(shell: Shell, words: list[str], code: int, says: str) -> None:
    ended = shell.run("secret", *words)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert says in ended.stderr
    assert not (shell.home / "secrets").exists()


def test_a_store_that_was_open_to_others_is_mended_and_that_is_said(ready: Shell) -> None:
    (ready.home / "secrets").chmod(0o755)
    ended = ready.run("secret", "set", "A_TOKEN", "--stdin", stdin="hush-hush")
    assert "Other users had rights on" in ended.stderr
    assert stat.S_IMODE((ready.home / "secrets").stat().st_mode) == 0o700


def test_a_backup_without_secrets_has_none(ready: Shell, tmp_path: Path) -> None:
    names = []
    for option in ([], ["--without-secrets"]):
        file = tmp_path / f"backup{len(option)}.tar.gz"
        ended = ready.run("backup", "create", str(file), "--without-workspaces", *option)
        assert ended.returncode == 0, ended.stderr
        listed = subprocess.run(["tar", "tzf", file], capture_output=True, text=True, check=True)
        names.append({name for name in listed.stdout.split() if "secrets" in name})
    assert any(name.endswith("secrets/PARROT_TOKEN") for name in names[0])
    assert names[1] == set()


# --- wirings ------------------------------------------------------------------------------------------------------------------


def test_wirings_are_made_listed_and_removed_without_a_host(ready: Shell) -> None:
    made = ready.run("wiring", "create", "--channel", "parrot", "--chat", "-100")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith("Andy hears -100: what mentions it or says @Andy.")
    assert "is the id right?" in made.stderr
    (listed,) = json.loads(ready.run("wiring", "list", "--json").stdout)["wirings"]
    assert re.search(rf"{listed['id']} +parrot +-100 +Andy", ready.run("wiring", "list", COLUMNS="120").stdout)
    assert ready.run("wiring", "remove", listed["id"]).stdout == "Andy does not hear -100 any more.\n"
    assert json.loads(ready.run("wiring", "list", "--json").stdout) == {"wirings": [], "unwired": []}


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["create", "--channel", "parot", "--chat", "1"], 3, "no channel named 'parot'. Known: parrot, terminal"),
        (["create", "--channel", "parrot", "--chat", "1", "--agent", "Bob"], 3, "no agent named 'Bob'. Known: Andy"),
        (
            ["create", "--channel", "parrot", "--chat", "1", "--mode", "pattern", "--trigger", "("],
            3,
            "is no regular expression: missing )",
        ),
        (["create", "--channel", "parrot"], 2, "Missing option '--chat'"),
        (["remove", "nope"], 3, "no wiring named 'nope'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wiring_that_makes_no_sense_is_refused(ready: Shell, words: list[str], code: int, says: str) -> None:
    ended = ready.run("wiring", *words)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert says in ended.stderr


def test_looking_at_wirings_makes_no_home(nanoclaw_home: Path) -> None:
    assert run_command("wiring", "list", home=nanoclaw_home / "new").returncode == 0
    assert not (nanoclaw_home / "new").exists()
