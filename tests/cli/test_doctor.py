"""`nanoclaw doctor` as its user meets it: a table that fits, JSON for scripts, and the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from nanoclaw_core.cli import doctor
from nanoclaw_core.cli.doctor import run as run_doctor
from nanoclaw_core.cli.table import show_findings
from nanoclaw_core.ports import CheckResult, CheckStatus
from nanoclaw_core.settings import Settings
from tests.cli.fake_host import FakeHost
from tests.cli.test_commands import run


def dead_docker(home: Path) -> str:
    return f"unix://{home}/no-docker.sock"


def test_a_failure_is_exit_code_one_and_comes_with_its_fix_in_eighty_columns(nanoclaw_home: Path) -> None:
    ended = run("doctor", home=nanoclaw_home, DOCKER_HOST=dead_docker(nanoclaw_home), COLUMNS="80")
    assert (ended.returncode, ended.stderr) == (1, "")
    assert max(map(len, ended.stdout.splitlines())) <= 80
    words = " ".join(ended.stdout.split())
    assert "fail runtime Docker does not answer: nothing is at DOCKER_HOST=unix://" in words
    assert "→ Correct DOCKER_HOST, or unset it." in words
    assert words.endswith("1 failure, 1 warning.")


def test_scripts_get_one_object(nanoclaw_home: Path) -> None:
    ended = run("doctor", "--json", home=nanoclaw_home, DOCKER_HOST=dead_docker(nanoclaw_home))
    report = json.loads(ended.stdout)
    assert report.keys() == {"version", "checks", "mended"}
    assert {"host", "runtime", "provider", "home", "database"} <= {line["name"] for line in report["checks"]}
    assert all(line.keys() == {"name", "status", "reason", "fix"} for line in report["checks"])


def test_warnings_alone_are_exit_code_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    async def examined(checks: object, context: object) -> list[CheckResult]:
        return [CheckResult(name="disk", status=CheckStatus.WARN, reason="it fills up")]

    monkeypatch.setattr(doctor, "examine", examined)
    monkeypatch.setattr("threading.active_count", lambda: 1)
    assert run_doctor(Settings(home=Path("/nowhere"), variables={}), as_json=False, fix=False) == 0


def test_fix_says_what_it_did_and_how_things_stand_then(nanoclaw_home: Path) -> None:
    nanoclaw_home.chmod(0o755)
    ended = run("doctor", "--fix", "--json", home=nanoclaw_home, DOCKER_HOST=dead_docker(nanoclaw_home))
    report = json.loads(ended.stdout)
    assert [(line["name"], line["status"]) for line in report["mended"]] == [("home", "ok")]
    assert {line["status"] for line in report["checks"] if line["name"] == "home"} == {"ok"}
    assert nanoclaw_home.stat().st_mode & 0o777 == 0o700


def test_a_broken_list_of_plugins_is_a_line_and_not_the_end(nanoclaw_home: Path) -> None:
    (nanoclaw_home / "plugins.json").write_text("{")
    report = json.loads(run("doctor", "--json", home=nanoclaw_home, DOCKER_HOST=dead_docker(nanoclaw_home)).stdout)
    assert (report["checks"][0]["name"], report["checks"][0]["status"]) == ("plugins", "fail")
    assert len(report["checks"]) > 5


async def test_a_running_host_is_asked(nanoclaw_home: Path) -> None:
    async with FakeHost().serving(nanoclaw_home):
        assert (await doctor._ask_host(Settings(home=nanoclaw_home, variables={})) or {})["pid"] == 4711


async def test_a_host_that_does_not_answer_is_not_waited_for(nanoclaw_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_HOST_ANSWERS_WITHIN", 0.05)
    async with await anyio.create_unix_listener(nanoclaw_home / "control.sock"):
        assert await doctor._ask_host(Settings(home=nanoclaw_home, variables={})) is None


def test_what_a_plugin_says_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [CheckResult(name="odd\x1b[2J", status=CheckStatus.OK, reason="one\x1b]0;title\x07\ntwo")]
    show_findings(doctor._rows(lines), [], "")
    assert "\x1b" not in capsys.readouterr().out
