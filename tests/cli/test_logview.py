"""`nanoclaw logs`: which lines it shows and how, how it follows a file that is renamed, and what a worker wrote."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from anyio import to_thread

from nanoclaw_core.cli import workerlog
from nanoclaw_core.cli.loglines import LogFile, LogLine
from nanoclaw_core.cli.logview import LogMissing, show_host
from nanoclaw_core.cli.service import manager_of
from nanoclaw_core.cli.text import seconds_in
from nanoclaw_core.cli.workerlog import OutputMissing, WorkerAmbiguous, find_worker, written_by
from nanoclaw_core.errors import UnknownName
from nanoclaw_core.models import ContainerState
from nanoclaw_core.settings import Settings
from nanoclaw_core.store import workers
from nanoclaw_core.testing import FakeClock
from tests.cli.test_commands import run
from tests.house import House, open_house
from tests.sandbox.fakes import ListedRuntime

UTC = ZoneInfo("UTC")
KEY = "sk-of-the-log"


def line(event: str, component: str = "workers", minute: int = 0, **fields: Any) -> str:  # Any: as diverse as events
    moment = f"2026-01-01T10:{minute:02}:00Z"
    return json.dumps({"event": event, "level": "info", "component": component, "timestamp": moment, **fields})


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{each}\n" for each in lines))
    return path


def events(found: list[LogLine]) -> list[str]:
    return [each.fields["event"] for each in found]


def anything(_: LogLine) -> bool:
    return True


# --- which lines --------------------------------------------------------------------------------------------------------------


def test_the_last_lines_may_lie_in_older_files(tmp_path: Path) -> None:
    log = write(tmp_path / "host.log", line("five"))
    write(tmp_path / "host.log.1", line("three"), line("four"))
    write(tmp_path / "host.log.2", line("one"), line("two"))
    with LogFile(log) as file:
        assert events(file.last(4, anything)) == ["two", "three", "four", "five"]
        assert events(file.last(None, anything)) == ["one", "two", "three", "four", "five"]


def test_a_component_is_the_part_that_speaks_or_all_of_its_kind(tmp_path: Path) -> None:
    log = write(tmp_path / "host.log", line("a", "channel telegram"), line("b", "channel discord"), line("c", "channels"))
    with LogFile(log) as file:
        assert events(file.last(9, lambda each: each.is_of("channel"))) == ["a", "b"]
        assert events(file.last(9, lambda each: each.is_of("channel discord"))) == ["b"]
        assert events(file.last(9, lambda each: each.is_of(None))) == ["a", "b", "c"]


def test_since_leaves_out_what_is_older_and_keeps_words_without_a_time_with_the_line_before(tmp_path: Path) -> None:
    log = write(tmp_path / "host.log", line("old", minute=1), "Traceback: old", line("new", minute=9), "Traceback: new")
    since = LogLine.of(line("", minute=5)).at
    with LogFile(log) as file:
        assert events(file.last(None, anything, since)) == ["new", "Traceback: new"]


@pytest.mark.parametrize("text", ["", "x", "1x", "m10", "-3s", "1.5h"])
def test_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(text)}$"):
        seconds_in(text)


# --- how ----------------------------------------------------------------------------------------------------------------------


def test_people_see_time_level_component_event_and_fields(tmp_path: Path) -> None:
    shown = LogLine.of(line("turn.ended", agent="Andy", model_calls=2)).for_people(ZoneInfo("Europe/Berlin"), colors=False)
    assert shown.split() == [
        "2026-01-01", "11:00:00", "[info", "]", "turn.ended", "[workers]", "agent=Andy", "model_calls=2",
    ]  # fmt: skip


def test_a_traceback_follows_its_line() -> None:
    shown = LogLine.of(line("survived", exception="Traceback\n  in x\nValueError: no")).for_people(UTC, colors=False)
    assert shown.splitlines()[1:] == ["Traceback", "  in x", "ValueError: no"]


@pytest.mark.parametrize("colors", [True, False])
def test_what_others_wrote_cannot_steer_the_terminal(colors: bool) -> None:
    evil = "\x1b]0;title\x07\x9b2J"
    raw = json.dumps(
        {"event": evil, "level": evil, "component": evil, "exception": evil, "timestamp": "", "reason": evil, evil: evil}
    )
    for text in (raw, evil):
        shown = LogLine.of(text).for_people(UTC, colors=colors)
        assert "\x1b]" not in shown
        assert "\x07" not in shown
        assert "\x9b" not in shown


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"a": 1}', '{"event": 1, "timestamp": []}', "{" * 500])
def test_a_line_of_whatever_kind_can_be_shown(text: str) -> None:
    shown = LogLine.of(text)
    assert isinstance(shown.for_people(UTC, colors=False), str)
    json.loads(shown.as_json())


# --- following ----------------------------------------------------------------------------------------------------------------


class Steps:
    """Does the next thing whenever the follower would sleep; ends it after the last."""

    def __init__(self, *steps: Any) -> None:  # Any: callables of any result
        self._steps = list(steps)

    def __call__(self, _: float) -> None:
        if not self._steps:
            raise KeyboardInterrupt
        self._steps.pop(0)()


def followed(log: Path, *steps: Any) -> list[str]:  # Any: callables of any result
    found: list[str] = []
    with LogFile(log) as file, suppress(KeyboardInterrupt):
        for each in file.follow(Steps(*steps)):
            found.append(each.fields["event"])  # noqa: PERF401  # kept when it is interrupted
    return found


def append(path: Path, text: str) -> None:
    with path.open("a") as file:
        file.write(text)


def test_a_follower_sees_what_is_written_after_the_last_lines_were_shown(tmp_path: Path) -> None:
    log = write(tmp_path / "host.log", line("before"))
    with LogFile(log) as file:
        append(log, line("meanwhile") + "\n")
        assert events(file.last(9, anything)) == ["before"]
        assert next(file.follow()).fields["event"] == "meanwhile"


def test_a_line_that_is_half_written_is_shown_when_it_is_whole(tmp_path: Path) -> None:
    log = write(tmp_path / "host.log")
    text = line("whole") + "\n"
    assert followed(log, partial(append, log, text[:20]), lambda: None, partial(append, log, text[20:])) == ["whole"]


def test_a_follower_survives_the_renaming_of_the_file_without_missing_a_line(tmp_path: Path) -> None:
    log = tmp_path / "host.log"
    handler = RotatingFileHandler(log, backupCount=3)
    say = partial(append, log)
    say(line("before") + "\n")

    def renamed() -> None:
        say(line("last of the old") + "\n")
        handler.doRollover()
        say(line("first of the new") + "\n")

    found = followed(log, renamed, lambda: None, partial(say, line("later") + "\n"))
    handler.close()
    assert found == ["last of the old", "first of the new", "later"]


def test_a_follower_waits_for_a_file_that_is_not_there_yet_and_reads_an_emptied_one_anew(tmp_path: Path) -> None:
    log = tmp_path / "host.log"
    steps = (partial(write, log, line("one"), line("two")), partial(write, log, line("anew")), lambda: None)
    assert followed(log, *steps) == ["one", "two", "anew"]


# --- the command --------------------------------------------------------------------------------------------------------------


def shown(home: Path, capsys: pytest.CaptureFixture[str], **options: Any) -> tuple[str, str]:  # Any: see `show_host`
    chosen: dict[str, Any] = {"follow": False, "component": None, "since": None, "lines": None, "as_json": False} | options
    show_host(Settings(home=home, variables={"ANTHROPIC_API_KEY": KEY}, timezone="UTC"), **chosen)
    printed = capsys.readouterr()
    return printed.out, printed.err


def test_a_secret_that_an_earlier_version_logged_is_not_shown(nanoclaw_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(nanoclaw_home / "logs" / "host.log", line("survived", reason=f"refused {KEY}"), f"ValueError: {KEY}")
    for as_json in (True, False):
        out, _ = shown(nanoclaw_home, capsys, as_json=as_json)
        assert (KEY in out, out.count("***")) == (False, 2)


def test_of_a_component_that_is_not_there_those_that_are_are_named(
    nanoclaw_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = "channel \x1b[2J"
    write(nanoclaw_home / "logs" / "host.log", line("a"), "Traceback")
    write(nanoclaw_home / "logs" / "host.log.1", line("b", evil))
    for options in ({}, {"since": 60.0}, {"lines": 1}):
        out, complaint = shown(nanoclaw_home, capsys, component="wrokers", **options)
        assert (out, complaint) == ("", "Nothing of 'wrokers' is in the log. It has: channel [2J, workers.\n")
    assert shown(nanoclaw_home, capsys, component="channel", since=60.0) == ("", "")  # there, and older than that


def test_a_broken_list_of_plugins_does_not_hide_the_log(nanoclaw_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (nanoclaw_home / "plugins.json").write_text("{")
    write(nanoclaw_home / "logs" / "host.log", line("host.failed"))
    assert "host.failed" in shown(nanoclaw_home, capsys)[0]


def test_without_a_log_the_error_says_who_writes_one(nanoclaw_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LogMissing, match="nanoclaw serve"):
        shown(nanoclaw_home, capsys)


@pytest.mark.skipif(sys.platform == "darwin", reason="launchd has no journal")
def test_the_log_of_a_service_is_in_the_journal(
    nanoclaw_home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    manager = manager_of(Settings(home=nanoclaw_home, variables={}), is_system=False)
    write(manager.file)
    where = f"journalctl --user -u {manager.service.name}"
    with pytest.raises(LogMissing, match=f"read the journal, with `{where}`"):
        shown(nanoclaw_home, capsys)
    write(nanoclaw_home / "logs" / "host.log", line("of an earlier host"))
    out, complaint = shown(nanoclaw_home, capsys)
    assert "of an earlier host" in out
    assert where in complaint


def test_the_command_takes_its_options(nanoclaw_home: Path) -> None:
    write(nanoclaw_home / "logs" / "host.log", line("one"), line("two", "gateway"), line("three", "gateway"))
    ended = run("logs", "--component", "gateway", "--lines", "1", "--json", home=nanoclaw_home)
    assert (json.loads(ended.stdout)["event"], ended.returncode) == ("three", 0)
    assert run("logs", "--since", "1s", home=nanoclaw_home).stdout == ""
    assert run("logs", "--since", "soon", home=nanoclaw_home).returncode == 2
    assert run("logs", "--worker", "w1", "--json", home=nanoclaw_home).returncode == 2
    assert run("logs", "--worker", "w1", home=nanoclaw_home).returncode == 3


# --- workers ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def house(nanoclaw_home: Path) -> AsyncIterator[House]:
    async with open_house(nanoclaw_home) as house:
        for number in (1, 2):
            await begin(house, f"w{number}0000000000a")
            if number == 1:
                await house.database.write(partial(workers.end_worker, worker_id="w10000000000a", reason="idle", now=9.0))
        yield house


async def begin(house: House, worker: str) -> None:
    claim = partial(workers.claim_worker, session_id=house.session.id, secret_hash="x", image="i", now=1.0)
    await house.database.write(partial(claim, worker_id=worker))
    await house.database.write(partial(workers.started, worker_id=worker, container_id=f"c-{worker}", now=2.0))


async def found(house: House, name: str) -> str:
    return (await to_thread.run_sync(find_worker, house.home, name)).life.id


async def test_a_worker_goes_by_its_id_its_container_its_agent_and_its_session(house: House) -> None:
    for name in ("w1000", "w10000000000a", "nanoclaw-andy-w10000000000a"):
        assert await found(house, name) == "w10000000000a"
    for name in ("andy", "Andy", house.session.id):
        assert await found(house, name) == "w20000000000a"  # the living one


async def test_of_an_agent_without_a_living_worker_the_last_one_is_meant(house: House) -> None:
    await house.database.write(partial(workers.end_worker, worker_id="w20000000000a", reason="idle", now=9.0))
    assert await found(house, "andy") == "w20000000000a"


async def test_a_name_of_nobody_lists_the_workers_there_are(house: House) -> None:
    with pytest.raises(UnknownName, match="w10000000000a, w20000000000a"):
        await found(house, "zoe")


async def test_a_beginning_that_several_have_is_asked_back(house: House) -> None:
    await house.database.write(partial(workers.end_worker, worker_id="w20000000000a", reason="idle", now=9.0))
    await begin(house, "w2000ffff000a")
    with pytest.raises(WorkerAmbiguous, match=r"w20000000000a \(Andy\), w2000ffff000a \(Andy\)"):
        await found(house, "w2000")


async def test_what_a_dead_worker_wrote_is_read_from_its_file(house: House) -> None:
    worker = await to_thread.run_sync(find_worker, house.home, "w1000")
    with pytest.raises(OutputMissing, match=r"it ended \(idle\)"):
        _ = [text async for text in written_by(worker, None, 10)]
    write(worker.kept, "one", "two", "three")
    assert [text async for text in written_by(worker, None, 2)] == ["two", "three"]


async def test_a_living_worker_is_asked_and_followed_until_it_ends(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workerlog, "_OVERLAP", len(b"three\n"))
    worker = await to_thread.run_sync(find_worker, house.home, "w2000")
    runtime = ListedRuntime(written=b"one\ntwo\n")
    runtime.listed = [ContainerState(id="c-w20000000000a", name="n", labels={}, running=True)]

    class Turning(FakeClock):
        looks = 0

        async def sleep(self, seconds: float) -> None:
            self.looks += 1
            runtime.written = {1: b"one\ntwo\nthree\n", 2: b"two\nthree\nfour\n"}[self.looks]  # the beginning fell out
            if self.looks == 2:
                runtime.listed = []

    said = [text async for text in written_by(worker, runtime, 1, follow=True, clock=Turning())]
    assert said == ["two", "three", "four"]
