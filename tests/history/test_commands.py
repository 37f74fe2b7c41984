"""`nanoclaw messages` and `nanoclaw why` as their user meets them."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from anyio import to_thread

from nanoclaw_core.cli.messages import show_messages, show_stuck, show_why
from nanoclaw_core.settings import Settings
from tests.cli.test_commands import run
from tests.history.conftest import Past


def settings(past: Past) -> Settings:
    return Settings(home=past.home, variables={}, timezone="UTC")


async def listed(past: Past, capsys: pytest.CaptureFixture[str], **options: Any) -> str:  # Any: see `show_messages`
    chosen: dict[str, Any] = {"limit": 20, "agent": None, "chat": None, "as_json": False} | options
    assert await to_thread.run_sync(partial(show_messages, settings(past), **chosen)) == 0
    return capsys.readouterr().out


async def stuck(past: Past, capsys: pytest.CaptureFixture[str], as_json: bool = False) -> tuple[int, str]:
    code = await to_thread.run_sync(show_stuck, settings(past), None, None, as_json)
    return code, capsys.readouterr().out


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


async def test_the_list_fits_eighty_columns(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    await past.accept("x" * 5000)
    await past.end_turn(await past.worked_on())
    printed = await listed(past, capsys)
    assert max(map(len, printed.splitlines())) <= 80
    assert printed.split()[:6] == ["Messages", "NUMBER", "CAME", "CHAT", "MESSAGE", "OUTCOME"]


async def test_what_people_wrote_cannot_steer_the_terminal(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    await past.route(await past.accept("one\x1b[2J\x1b]0;title\x07\r\ntwo"))
    printed = await listed(past, capsys)
    await to_thread.run_sync(show_why, settings(past), 1, False)
    assert "\x1b" not in printed + capsys.readouterr().out


async def test_when_nothing_is_stuck_one_line_says_so(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    await past.route(await past.accept(), "ignored")
    code, printed = await stuck(past, capsys)
    assert (code, printed) == (0, "Nothing is stuck: every message has an outcome, or is within its time.\n")


async def test_what_is_stuck_is_listed_with_what_to_do_and_is_exit_code_one(
    past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    await past.accept()  # by a clock that the command has left far behind
    code, printed = await stuck(past, capsys)
    assert code == 1
    assert "waits for" in printed
    assert printed.endswith("`nanoclaw why 1` says more. No host runs on this home: `nanoclaw chat` starts one.\n")


async def test_scripts_get_every_message_with_its_outcomes(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    await past.end_turn(await past.worked_on())
    await past.deliver()
    report = json.loads(await listed(past, capsys, as_json=True))
    (message,) = report["messages"]
    assert report["faults"] == []
    assert (message["number"], message["sender"], message["text"]) == (1, "fake:ada", "hello")
    assert message["outcomes"][0].keys() == {"agent", "session", "state", "at", "reason", "waits_for"}
    code, printed = await stuck(past, capsys, as_json=True)
    assert (code, json.loads(printed)) == (0, {"messages": [], "faults": []})


async def test_scripts_get_the_whole_way(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    await past.end_turn(await past.worked_on())
    await to_thread.run_sync(show_why, settings(past), 1, True)
    report = json.loads(capsys.readouterr().out)
    assert report.keys() == {"message", "turns", "timeline", "faults"}
    assert (report["turns"][0]["agent"], report["turns"][0]["output_tokens"]) == ("Andy", 2)
    assert all(step.keys() == {"at", "after", "kind", "agent", "text"} for step in report["timeline"])


async def test_the_way_shows_how_long_each_step_took(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    await past.route(await past.accept())
    await to_thread.run_sync(show_why, settings(past), 1, False)
    printed = " ".join(capsys.readouterr().out.split())
    assert "Outcome waiting since" in printed
    assert "-1.00 s" in printed
    assert "+1.00 s" in printed


async def test_the_commands_themselves_need_no_host(past: Past) -> None:
    await past.accept()
    run_here = partial(run, home=past.home)
    assert "hello" in (await to_thread.run_sync(run_here, "messages")).stdout
    assert (await to_thread.run_sync(run_here, "messages", "--stuck")).returncode == 1
    assert "was stored" in (await to_thread.run_sync(run_here, "why", "1")).stdout
    unknown = await to_thread.run_sync(run_here, "why", "7")
    assert (unknown.returncode, unknown.stderr) == (
        3,
        "nanoclaw: There is no message 7. There are 1 to 1. `nanoclaw messages` lists the newest.\n",
    )
    assert (await to_thread.run_sync(run_here, "messages", "--agent", "Zoe")).returncode == 3
