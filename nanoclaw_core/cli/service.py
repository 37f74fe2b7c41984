"""`nanoclaw service ...`: systemd or launchd starts the host with the machine, and again after a crash."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import click
import platformdirs

from nanoclaw_core import installed
from nanoclaw_core.cli import logs
from nanoclaw_core.cli.table import show as show_table
from nanoclaw_core.cli.text import one_line, plain, short_path
from nanoclaw_core.cli.units import READY_WITHIN, Service, launchd_label, launchd_plist, systemd_unit
from nanoclaw_core.errors import HomeUnusable, NanoClawError
from nanoclaw_core.home import own_home
from nanoclaw_core.settings import Settings, looks_secret, read_env_file

_SYSTEMD_RUNS = Path("/run/systemd/system")


class ServiceFailed(NanoClawError):
    """The service manager is not there, or refused."""

    exit_code = 3


class ServiceManager(ABC):
    """systemd or launchd, as far as one host's service goes. `file` is what describes the service to it."""

    def __init__(self, service: Service) -> None:
        self.service = service

    @property
    @abstractmethod
    def file(self) -> Path: ...

    @abstractmethod
    def content(self) -> bytes: ...

    @abstractmethod
    def require(self) -> None:
        """Raises ServiceFailed where this manager does not run."""

    @abstractmethod
    def start(self) -> list[str]:
        """Take `file` up and start the service, or start it anew; return what its owner should know."""

    @abstractmethod
    def stop(self) -> None:
        """Stop the service, and start it no more; one that is unknown is fine."""

    @abstractmethod
    def forget(self) -> None:
        """Notice that `file` is gone."""

    @abstractmethod
    def state(self) -> dict[str, str]:
        """How it is, in words."""

    @abstractmethod
    def is_running(self) -> bool: ...


class Systemd(ServiceManager):
    """A user's systemd, or the machine's."""

    @property
    def file(self) -> Path:
        own = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"
        return (Path("/etc/systemd/system") if self.service.is_system else own) / self._unit

    @property
    def _unit(self) -> str:
        return f"{self.service.name}.service"

    def content(self) -> bytes:
        return systemd_unit(self.service).encode("utf-8", "surrogateescape")

    def require(self) -> None:
        if not _SYSTEMD_RUNS.is_dir() or shutil.which("systemctl") is None:
            raise ServiceFailed(
                "systemd does not run here. `nanoclaw service install --print` shows the unit: whatever starts programs on "
                f"this machine can run `{' '.join(self.service.command)}`, with NANOCLAW_HOME set."
            )

    def start(self) -> list[str]:
        self._systemctl("daemon-reload")
        self._systemctl("enable", self._unit)
        with suppress(ServiceFailed):  # systemd does not know it yet, so it has not failed
            self._systemctl("reset-failed", self._unit)  # else five failures within ten minutes would forbid the next start
        self._systemctl("restart", self._unit)
        return [*self._linger(), f"Its log: journalctl {'' if self.service.is_system else '--user '}-u {self.service.name}"]

    def stop(self) -> None:
        self._systemctl("disable", "--now", self._unit)

    def forget(self) -> None:
        self._systemctl("daemon-reload")

    def state(self) -> dict[str, str]:
        names = "ActiveState,SubState,MainPID,Result,ExecMainStatus,NRestarts,UnitFileState"
        shown = self._systemctl("show", self._unit, f"--property={names}")
        found = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        state = f"{found.get('ActiveState', 'unknown')} ({found.get('SubState', '?')})"
        if found.get("ActiveState") == "failed":
            state += f": {found.get('Result')}, exit code {found.get('ExecMainStatus')}"
        return {
            "State": state + (f", pid {pid}" if (pid := found.get("MainPID", "0")) != "0" else ""),
            "Restarts": found.get("NRestarts", "0"),
            "At boot": found.get("UnitFileState", "") or "unknown",
        }

    def is_running(self) -> bool:
        return self._systemctl("show", self._unit, "--property=ActiveState").strip() == "ActiveState=active"

    def _linger(self) -> list[str]:
        """A user's services end with the last session, unless the user lingers."""
        user = pwd.getpwuid(os.getuid()).pw_name
        if self.service.is_system or Path("/var/lib/systemd/linger", user).exists():
            return []
        return [f"It runs while you are logged in. For always: loginctl enable-linger {user}"]

    def _systemctl(self, *words: str) -> str:
        return _run("systemctl", *([] if self.service.is_system else ["--user"]), *words)


class Launchd(ServiceManager):
    """launchd on macOS."""

    @property
    def file(self) -> Path:
        folder = Path("/Library/LaunchDaemons") if self.service.is_system else Path.home() / "Library" / "LaunchAgents"
        return folder / f"{launchd_label(self.service)}.plist"

    @property
    def _domain(self) -> str:
        return "system" if self.service.is_system else f"gui/{os.getuid()}"

    @property
    def _target(self) -> str:
        return f"{self._domain}/{launchd_label(self.service)}"

    def content(self) -> bytes:
        return launchd_plist(self.service)

    def require(self) -> None:
        if shutil.which("launchctl") is None:
            raise ServiceFailed("launchctl is not there: this is not macOS, or its PATH is broken.")

    def start(self) -> list[str]:
        self.stop()
        _run("launchctl", "bootstrap", self._domain, str(self.file))
        return [f"Its log: {short_path(self.service.home / 'logs' / 'host.log')}"]

    def stop(self) -> None:
        if self._printed() is not None:
            _run("launchctl", "bootout", self._target)

    def forget(self) -> None:
        """launchd remembers nothing of it after `stop`."""

    def state(self) -> dict[str, str]:
        lines = (line.strip().partition(" = ") for line in (self._printed() or "state = not loaded").splitlines())
        shown = {"state": "State", "pid": "Process", "last exit code": "Last exit code", "runs": "Starts"}
        return {shown[name]: value for name, _, value in lines if name in shown}

    def is_running(self) -> bool:
        return self.state().get("State") == "running"

    def _printed(self) -> str | None:
        done = subprocess.run(["launchctl", "print", self._target], capture_output=True, text=True, check=False)
        return done.stdout if done.returncode == 0 else None


def manager_of(settings: Settings, is_system: bool | None) -> ServiceManager:
    """The manager of this machine, for the environment that runs now; None means the system's for root, else the user's."""
    service = Service(
        python=Path(sys.executable).absolute(),
        home=settings.home,
        is_system=os.getuid() == 0 if is_system is None else is_system,
        docker_host=os.environ.get("DOCKER_HOST", ""),
    )
    return Launchd(service) if sys.platform == "darwin" else Systemd(service)


def install(settings: Settings, is_system: bool | None, only_print: bool) -> None:
    """Write the service's file, and start the service.

    Raises:
        ServiceFailed: it cannot work here. HostRunning: a host has the home that the service did not start.
    """
    manager = manager_of(settings, is_system)
    _require_plain_paths(manager.service)
    if only_print:
        click.echo(manager.content(), nl=False)
        return
    _require_lasting(Path(sys.prefix))
    manager.require()
    if not (manager.file.exists() and manager.is_running()):
        with own_home(settings.home):
            pass
    _write(manager)
    for line in _unseen(settings, os.environ):
        click.echo(line, err=True)
    click.echo(f"Wrote {short_path(manager.file)}. Starting {manager.service.name} …", err=True)
    notes = manager.start()
    click.echo(
        f"{manager.service.name} runs on {short_path(settings.home)}, and starts with "
        f"{'the machine' if manager.service.is_system else 'your session'}."
    )
    for note in notes:
        click.echo(note)


def remove(settings: Settings, is_system: bool | None) -> None:
    """Stop the service and delete its file; the home stays."""
    manager = manager_of(settings, is_system)
    if not manager.file.exists():
        raise ServiceFailed(f"No service is installed for {settings.home} ({manager.file} is not there).")
    manager.require()
    manager.stop()
    manager.file.unlink()
    manager.forget()
    click.echo(f"{manager.service.name} is removed. Everything in {short_path(settings.home)} stays.")


def show_status(settings: Settings, is_system: bool | None) -> int:
    """Print how the service is; 5 when it does not run."""
    manager = manager_of(settings, is_system)
    if not manager.file.exists():
        click.echo(f"No service is installed for {short_path(settings.home)}. `nanoclaw service install` does that.")
        return 5
    manager.require()
    rows = {"Service": manager.service.name, **manager.state(), "Home": str(settings.home), "File": short_path(manager.file)}
    if manager.file.read_bytes() != manager.content():
        rows["Note"] = "the file is not what this version and environment would write; `nanoclaw service install` renews it"
    show_table("", ("", ""), [(name, one_line(value, 300)) for name, value in rows.items()])
    return 0 if manager.is_running() else 5


def _require_plain_paths(service: Service) -> None:
    """Refuse paths that no unit can hold: systemd takes no program whose path has quotes or backslashes.

    Raises:
        ServiceFailed: naming the path.
    """
    for path, forbidden in ((service.python, "\"'\\"), (service.home, "")):
        if any(ord(character) < 32 or character in forbidden for character in str(path)) or str(path).endswith("\\"):
            raise ServiceFailed(
                f"A service cannot name the path {str(path)!r}: rename it without quotes and control characters."
            )


def _require_lasting(prefix: Path) -> None:
    """Refuse an environment that will be gone soon: one that `uvx` or `pipx run` made, or one for trying things out.

    Raises:
        ServiceFailed: with the way to install it for good.
    """
    passing = (Path(tempfile.gettempdir()), Path("/tmp"), Path("/var/tmp"), platformdirs.user_cache_path())  # noqa: S108
    if any(prefix.resolve().is_relative_to(folder.resolve()) for folder in passing):
        raise ServiceFailed(
            f"This NanoClaw is installed in {prefix}, a place for temporary files, and the service would break with it. "
            "Install it where it stays (`pipx install nanoclaw-core`, or python3 -m venv), and repeat this there."
        )


def _write(manager: ServiceManager) -> None:
    try:
        manager.file.parent.mkdir(parents=True, exist_ok=True)
        (manager.service.home / "logs").mkdir(mode=0o700, exist_ok=True)
        manager.file.write_bytes(manager.content())
        manager.file.chmod(0o644)
    except PermissionError as error:
        raise ServiceFailed(f"{manager.file} cannot be written: a system service is installed as root.") from error
    except OSError as error:
        raise HomeUnusable(manager.file.parent, error.strerror or str(error)) from error


def _unseen(settings: Settings, environment: Mapping[str, str]) -> Iterator[str]:
    """What is set here and now that the service will not see, a line each; secrets are named, never shown or copied."""
    home_file = settings.home / ".env"
    kept = {**read_env_file(home_file), **settings.stored}
    near = read_env_file(Path.cwd() / ".env") if Path.cwd() != settings.home else {}
    for name in sorted(_known_variables(settings) & (near.keys() | environment.keys())):
        value = environment.get(name, near.get(name))
        if kept.get(name) != value and (name in environment or name not in settings.stored):
            place = "this shell" if name in environment else "the .env of this folder"
            way = f"`nanoclaw secret set {name}`" if looks_secret(name) else f"put it into {short_path(home_file)}"
            yield f"{name} is set in {place}, where the service does not see it: {way}."


def _known_variables(settings: Settings) -> set[str]:
    from nanoclaw_core.host import BUILTINS
    from nanoclaw_core.plugins import load
    from nanoclaw_core.settings import describe

    logs.silence()
    plugins = load(installed.enabled(settings.home), BUILTINS)
    manifests = [offer.value.manifest for offers in (plugins.providers(), plugins.channels()) for offer in offers.values()]
    own = {variable for variable, *_ in describe()} - {"NANOCLAW_HOME"}
    return own | {field.variable for manifest in manifests for field in manifest.fields}


def _run(*command: str) -> str:
    """The output of a service manager's command.

    Raises:
        ServiceFailed: with what it complained of.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=READY_WITHIN + 30, check=False)
    except subprocess.TimeoutExpired as error:
        raise ServiceFailed(f"`{' '.join(command)}` does not come to an end.") from error
    if done.returncode != 0:
        said = one_line(plain(done.stderr or done.stdout), 600) or f"exit code {done.returncode}"
        raise ServiceFailed(f"`{' '.join(command)}` failed: {said}")
    return done.stdout
