"""What systemd and launchd are told of a host: a unit file and a property list, as text."""

from __future__ import annotations

import hashlib
import plistlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import platformdirs

from nanoclaw_core.errors import HostRunning

#: Seconds that a host may take to end, and to be ready: a change of the database's schema comes before that.
STOP_WITHIN: Final = 60
READY_WITHIN: Final = 300
#: Exit codes after which starting again would only fail again, or do harm: wrong use, another host. Not the one of a wrong
#: setting: it is also that of a disk that is full, or is not mounted yet.
_IN_VAIN: Final = (2, HostRunning.exit_code)
_PAUSE: Final = 10  # seconds between a failure and the next start
_TRIES: Final = 5  # failures within ten minutes, after which systemd leaves it
_MAC_PAUSE: Final = 60  # launchd knows no limit, and no exit codes: it tries once a minute for ever


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A host to be kept running: with which Python, on which home, for one user's session or for the whole machine."""

    python: Path
    home: Path
    is_system: bool = False
    docker_host: str = ""

    @property
    def name(self) -> str:
        """`nanoclaw` for the home that is used by default, with a few digits behind it for any other."""
        if self.home == platformdirs.user_data_path("nanoclaw"):
            return "nanoclaw"
        return f"nanoclaw-{hashlib.sha256(bytes(self.home)).hexdigest()[:6]}"

    @property
    def command(self) -> list[str]:
        """-P: what lies in the home (a json.py, say) is not imported."""
        return [str(self.python), "-P", "-m", "nanoclaw_core.cli", "serve"]

    @property
    def environment(self) -> dict[str, str]:
        """No secret: those stay in the home's .env, which only its owner can read."""
        docker = {"DOCKER_HOST": self.docker_host} if self.docker_host else {}
        return {"NANOCLAW_HOME": str(self.home), **docker}


def systemd_unit(service: Service) -> str:
    """The unit file.

    >>> unit = systemd_unit(Service(python=Path("/opt/100% mine/bin/python"), home=Path("/srv/nc")))
    >>> next(line for line in unit.splitlines() if line.startswith("ExecStart"))
    'ExecStart="/opt/100%% mine/bin/python" -P -m nanoclaw_core.cli serve'
    """
    # A user's manager knows nothing of the system's units. The host waits for its runtime anyway.
    after = [
        "Wants=network-online.target docker.service",
        "After=network-online.target docker.service",
        f"RequiresMountsFor={_quoted(str(service.home))}",
    ]
    literally = ":" if any("$" in word for word in service.command) else ""
    lines = [
        "# Written by `nanoclaw service install`, which writes it anew. Your own settings belong into `systemctl edit`.",
        "[Unit]",
        f"Description=NanoClaw on {_unspecified(service.home)}",
        *(after if service.is_system else []),
        "StartLimitIntervalSec=600",
        f"StartLimitBurst={_TRIES}",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={literally}{' '.join(map(_quoted, service.command))}",
        f"WorkingDirectory={_unspecified(service.home)}",
        *(f"Environment={_quoted(f'{name}={value}')}" for name, value in service.environment.items()),
        "SyslogIdentifier=nanoclaw",
        "Restart=on-failure",
        f"RestartSec={_PAUSE}",
        f"RestartPreventExitStatus={' '.join(map(str, _IN_VAIN))}",
        "SuccessExitStatus=130",
        f"TimeoutStartSec={READY_WITHIN}",
        f"TimeoutStopSec={STOP_WITHIN}",
        "# Only the host is asked to end: it looks after its children, and its workers live on in the container runtime.",
        "KillMode=mixed",
        "UMask=0077",
        "",
        "[Install]",
        f"WantedBy={'multi-user' if service.is_system else 'default'}.target",
        "",
    ]
    return "\n".join(lines)


def launchd_plist(service: Service) -> bytes:
    """The property list. What goes wrong before the log is open is in `logs/service.log`."""
    logs = service.home / "logs"
    entries = {
        "Label": launchd_label(service),
        "ProgramArguments": [*service.command, "--log-file", str(logs / "host.log")],
        "EnvironmentVariables": service.environment,
        "WorkingDirectory": str(service.home),
        "StandardErrorPath": str(logs / "service.log"),
        "RunAtLoad": True,
        "KeepAlive": {"SuccessfulExit": False},
        "ThrottleInterval": _MAC_PAUSE,
        "ExitTimeOut": STOP_WITHIN,
        "Umask": 0o077,
    }
    return plistlib.dumps(entries)


def launchd_label(service: Service) -> str:
    return f"dev.nanoclaw.{service.name}"


def _quoted(word: str) -> str:
    """One word of a unit file, in quotes where it needs them, and with what they do not protect taken literally."""
    if re.fullmatch(r"[\w/.=:@+-]+", word, re.ASCII):
        return word
    return '"' + _unspecified(word).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _unspecified(text: object) -> str:
    """Without systemd's % specifiers."""
    return str(text).replace("%", "%%")
