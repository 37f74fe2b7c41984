"""`nanoclaw service`: the files that systemd and launchd get, what is run with them, and what people trip over."""

from __future__ import annotations

import json
import os
import plistlib
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import platformdirs
import pytest

from nanoclaw_core.cli import main, service
from nanoclaw_core.cli.units import Service, launchd_plist, systemd_unit
from nanoclaw_core.home import own_home

Run = Callable[..., tuple[int, str, str]]

#: A `systemctl` that writes down what it is asked, and answers like the real one would.
SYSTEMCTL = """#!{python}
import json, os, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    log.write(json.dumps(words) + "\\n")
state = os.environ.get("FAKE_STATE", "inactive")
if "show" in words:
    properties = words[-1].partition("=")[2].split(",")
    answers = dict(ActiveState=state, SubState="running", MainPID="4711", Result="exit-code", ExecMainStatus="3", NRestarts="2",
                   UnitFileState="enabled")
    print("\\n".join(f"{{name}}={{answers[name]}}" for name in properties))
elif "restart" in words and state == "refusing":
    sys.exit("Job for nanoclaw.service failed.")
elif "reset-failed" in words:
    if state == "inactive":
        sys.exit("Failed to reset failed state of unit nanoclaw.service: Unit nanoclaw.service not loaded.")
    with open({log!r} + ".reset", "w"):
        pass
elif "restart" in words and state == "failed" and not os.path.exists({log!r} + ".reset"):
    sys.exit("Job for nanoclaw.service failed: start of the service was attempted too often.")
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[list[str]]]:
    """What systemctl was asked, on a machine that runs systemd; the user's configuration is in `tmp_path`."""
    log, programs = tmp_path / "asked", tmp_path / "bin"
    programs.mkdir()
    program = programs / "systemctl"
    program.write_text(SYSTEMCTL.format(python=sys.executable, log=str(log)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(service, "_SYSTEMD_RUNS", tmp_path)
    monkeypatch.setattr(sys, "prefix", "/opt/nanoclaw")
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    return lambda: [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


@pytest.fixture
def run(nanoclaw_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.setenv("NANOCLAW_HOME", str(nanoclaw_home))
    monkeypatch.chdir(nanoclaw_home)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["service", *words])
        return (code, *capsys.readouterr())

    return run


def unit_in(tmp_path: Path) -> Path:
    (unit,) = (tmp_path / "config" / "systemd" / "user").iterdir()
    return unit


# --- what is written ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", ["plain", "with \"quotes\" and 'blanks'", "100% sure", "a$b", "back\\slash", "ünï"])
@pytest.mark.parametrize("venv", ["plain", "with blanks", "100% sure", "a$b", "ünï"])
@pytest.mark.parametrize("is_system", [False, True], ids=["user", "system"])
def test_systemd_accepts_the_unit_wherever_python_and_the_home_are(
    tmp_path: Path, home: str, venv: str, is_system: bool
) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    (tmp_path / venv).mkdir()
    python = tmp_path / venv / "python"
    python.symlink_to(sys.executable)
    unit = tmp_path / "nanoclaw-test.service"
    text = systemd_unit(Service(python=python, home=tmp_path / home, is_system=is_system))
    unit.write_text(text.replace("docker.service", "").replace("network-online.target", ""))  # which this machine may lack
    checked = subprocess.run(["systemd-analyze", "verify", "--man=no", unit], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def words_of(line: str) -> list[str]:
    """As systemd reads it: quotes and backslashes like a shell, without `:` in front, `%%` for a percent sign."""
    return [word.replace("%%", "%") for word in shlex.split(line.removeprefix(":"))]


def setting(text: str, name: str) -> list[str]:
    return [line.partition("=")[2] for line in text.splitlines() if line.startswith(f"{name}=")]


def test_the_command_in_the_unit_starts_a_host_that_says_when_it_is_ready(nanoclaw_home: Path) -> None:
    """The line is run as it stands, with nothing in its environment but what the unit says, in the folder that it names."""
    home = nanoclaw_home / "a b%c"
    home.mkdir()
    docker = f"unix://{home}/no-docker.sock"
    text = systemd_unit(Service(python=Path(sys.executable), home=home, docker_host=docker))
    environment = dict(words_of(line)[0].split("=", 1) for line in setting(text, "Environment"))
    assert environment == {"NANOCLAW_HOME": str(home), "DOCKER_HOST": docker}
    (command,), (folder,) = setting(text, "ExecStart"), setting(text, "WorkingDirectory")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(nanoclaw_home / "notify"))
        manager.settimeout(60)
        environment["NOTIFY_SOCKET"] = str(nanoclaw_home / "notify")
        with subprocess.Popen(
            words_of(command), env=environment, cwd=folder.replace("%%", "%"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as host:
            try:
                assert manager.recv(100) == b"READY=1"
                assert (home / "control.sock").exists()
                host.send_signal(signal.SIGTERM)
                host.communicate(timeout=60)
            finally:
                host.kill()
        assert host.returncode == 0


def test_what_would_only_fail_again_is_not_started_again() -> None:
    """Wrong use, and a home that another host has: everything else may pass, as a full disk or one that is not there yet."""
    text = systemd_unit(Service(python=Path("/p"), home=Path("/h")))
    assert setting(text, "RestartPreventExitStatus") == ["2 5"]
    assert setting(text, "Restart") == ["on-failure"]
    assert setting(text, "StartLimitBurst") == ["5"]


def test_the_machines_unit_waits_for_docker_and_the_users_cannot() -> None:
    for is_system, after in ((True, ["network-online.target docker.service"]), (False, [])):
        assert setting(systemd_unit(Service(python=Path("/p"), home=Path("/h"), is_system=is_system)), "After") == after


def test_launchd_gets_a_property_list_that_keeps_the_host_running() -> None:
    found = plistlib.loads(launchd_plist(Service(python=Path("/opt/a b/python"), home=Path("/Users/ada/nc & <co>"))))
    assert found["ProgramArguments"][:5] == ["/opt/a b/python", "-P", "-m", "nanoclaw_core.cli", "serve"]
    assert found["EnvironmentVariables"] == {"NANOCLAW_HOME": "/Users/ada/nc & <co>"}
    assert found["KeepAlive"] == {"SuccessfulExit": False}
    assert found["ThrottleInterval"] >= 60
    assert found["RunAtLoad"] is True


def test_each_home_has_a_service_of_its_own_and_the_usual_one_the_plain_name() -> None:
    usual = Service(python=Path("/p"), home=platformdirs.user_data_path("nanoclaw"))
    others = {Service(python=Path("/p"), home=Path(home)).name for home in ("/a-b", "/a/b")}
    assert usual.name == "nanoclaw"
    assert len(others) == 2
    assert usual.name not in others


@pytest.mark.parametrize("python", ['/opt/my "venv"/python', "/opt/back\\slash/python", "/opt/two\nlines/python"])
def test_a_path_that_systemd_would_not_run_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch, python: str) -> None:
    monkeypatch.setattr(sys, "executable", python)
    code, printed, complaint = run("install", "--user", "--print")
    assert (code, printed) == (3, "")
    assert "rename it" in complaint


# --- what the commands do -------------------------------------------------------------------------------------------------


def test_print_shows_the_unit_and_changes_nothing(run: Run, asked: Callable[[], list[list[str]]], tmp_path: Path) -> None:
    code, printed, complaint = run("install", "--user", "--print")
    assert (code, complaint) == (0, "")
    assert "ExecStart=" in printed
    assert asked() == []
    assert not (tmp_path / "config").exists()


def test_install_writes_the_unit_and_starts_it(run: Run, asked: Callable[[], list[list[str]]], tmp_path: Path) -> None:
    code, printed, _ = run("install", "--user")
    unit = unit_in(tmp_path)
    assert code == 0
    assert [words[1:] for words in asked() if words[1] != "reset-failed"] == [
        ["daemon-reload"], ["enable", unit.name], ["restart", unit.name],
    ]  # fmt: skip
    assert {words[0] for words in asked()} == {"--user"}
    assert unit.read_text() == run("install", "--user", "--print")[1]
    assert "loginctl enable-linger" in printed


def test_what_only_this_shell_knows_is_named_and_copied_nowhere(
    run: Run, asked: Callable[[], list[list[str]]], tmp_path: Path, nanoclaw_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-secret")
    monkeypatch.setenv("NANOCLAW_MAX_TURNS", "7")
    (nanoclaw_home / ".env").write_text("NANOCLAW_MAX_TURNS=7\n")
    code, printed, complaint = run("install", "--user")
    assert code == 0
    assert "ANTHROPIC_API_KEY is set in this shell, where the service does not see it" in complaint
    assert "NANOCLAW_MAX_TURNS" not in complaint
    assert "sk-ant-secret" not in printed + complaint + unit_in(tmp_path).read_text()


def test_a_host_that_runs_already_is_not_fought_over(
    run: Run, asked: Callable[[], list[list[str]]], tmp_path: Path, nanoclaw_home: Path
) -> None:
    with own_home(nanoclaw_home):
        code, _, complaint = run("install", "--user")
    assert code == 5
    assert "A host already runs" in complaint
    assert not (tmp_path / "config").exists()


def test_installing_again_renews_a_service_that_runs(
    run: Run, asked: Callable[[], list[list[str]]], nanoclaw_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("install", "--user")
    monkeypatch.setenv("FAKE_STATE", "active")
    with own_home(nanoclaw_home):  # by the service
        code, _, _ = run("install", "--user")
    assert code == 0
    assert asked()[-1][1] == "restart"


def test_a_service_that_failed_too_often_is_started_again_by_installing_it(
    run: Run, asked: Callable[[], list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run("install", "--user")
    monkeypatch.setenv("FAKE_STATE", "failed")
    code, _, complaint = run("install", "--user")
    assert (code, "too often" in complaint) == (0, False)


def test_what_systemctl_complains_of_is_shown(
    run: Run, asked: Callable[[], list[list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAKE_STATE", "refusing")
    code, _, complaint = run("install", "--user")
    assert code == 3
    assert "failed: Job for nanoclaw.service failed." in complaint


def test_status_says_how_it_is_with_an_exit_code_for_scripts(
    run: Run, asked: Callable[[], list[list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("status", "--user")[0] == 5
    run("install", "--user")
    monkeypatch.setenv("FAKE_STATE", "active")
    code, printed, _ = run("status", "--user")
    assert code == 0
    assert "active (running), pid 4711" in printed
    assert "renews it" not in printed
    monkeypatch.setenv("FAKE_STATE", "failed")
    code, printed, _ = run("status", "--user")
    assert code == 5
    assert "exit-code, exit code 3" in printed


def test_status_notices_a_unit_of_another_environment(
    run: Run, asked: Callable[[], list[list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A venv that was moved leaves a unit behind that cannot start."""
    run("install", "--user")
    monkeypatch.setattr(sys, "executable", "/opt/moved/bin/python")
    assert "`nanoclaw service install` renews it" in " ".join(run("status", "--user")[1].split())


def test_remove_stops_it_and_leaves_the_home(
    run: Run, asked: Callable[[], list[list[str]]], tmp_path: Path, nanoclaw_home: Path
) -> None:
    run("install", "--user")
    unit = unit_in(tmp_path)
    code, _, _ = run("remove", "--user")
    assert code == 0
    assert [words[1:] for words in asked()[-2:]] == [["disable", "--now", unit.name], ["daemon-reload"]]
    assert not unit.exists()
    assert nanoclaw_home.exists()
    assert run("remove", "--user")[0] == 3


def test_without_systemd_the_command_to_be_run_is_named(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "_SYSTEMD_RUNS", tmp_path / "nothing")
    monkeypatch.setattr(sys, "prefix", "/opt/nanoclaw")
    code, _, complaint = run("install", "--user")
    assert code == 3
    assert "systemd does not run here" in complaint
    assert "-m nanoclaw_core.cli serve" in complaint


@pytest.mark.parametrize("prefix", ["/tmp/venv", str(platformdirs.user_cache_path() / "uv" / "environment")])  # noqa: S108
def test_an_environment_that_will_be_cleaned_away_is_refused(
    run: Run, asked: Callable[[], list[list[str]]], prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", prefix)
    code, _, complaint = run("install", "--user")
    assert code == 3
    assert "pipx install nanoclaw-core" in complaint
