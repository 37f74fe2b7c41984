"""Places of the host that no agent may ever see, whatever a policy says."""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import platformdirs

from nanoclaw_core.sandbox.sources import Source, lineage_of

Relation = Literal["is", "is inside", "holds"]

_SYSTEM: Final = ("/proc", "/sys", "/dev")
_ENGINES: Final = (
    *("/var/lib/docker", "/var/lib/containerd", "/var/lib/containers"),
    *(f"/run/{name}" for name in ("docker.sock", "docker", "containerd", "podman", "crio", "user", "systemd", "dbus")),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """`words` say what it is. Without `inside`, what lies in it may be mounted, but not the whole or anything above it."""

    path: Path
    words: str
    inside: bool = True


def policy_folder() -> Path:
    """Where the owner's policies are: outside the home, never mounted."""
    return platformdirs.user_config_path("nanoclaw")


def forbidden_places(home: Path) -> list[Place]:
    """All of them; `home` is NanoClaw's own."""
    people = [Place(path=path, words="your home folder", inside=False) for path in _people()]
    own = [Place(path=home, words="NanoClaw's own home"), Place(path=policy_folder(), words="the folder of the policies")]
    system = [Place(path=Path(path), words="the system's view of processes and devices") for path in _SYSTEM]
    run = Place(path=Path("/run"), words="the folder of sockets", inside=False)  # what is plugged in may be in /run/media
    engines = [Place(path=path, words="a place of the container engine or of sockets") for path in _engines()]
    return [*people, *own, *system, run, *engines]


def program_places() -> list[Place]:
    """Where the host's own program lies: whoever could write there would be the host at its next start."""
    package = Path(__file__).parents[1]
    return [Place(path=path, words="the program of this host") for path in {Path(sys.prefix), package}]


def relation(source: Source, path: Path) -> Relation | None:
    """How `source` lies to `path`; by what they are, not by what they are called, where both are there."""
    lineage = lineage_of(path)
    if lineage and source.identity == lineage[-1]:
        return "is"
    if source.identity in lineage or path.is_relative_to(source.path):
        return "holds"
    if (lineage and lineage[-1] in source.lineage) or source.path.is_relative_to(path):
        return "is inside"
    return None


def trespass(source: Source, places: Iterable[Place]) -> str:
    """Why `source` lies wrong; '' where it does not."""
    for place in places:
        found = relation(source, place.path)
        if found and (found != "is inside" or place.inside):
            return f"it {found} {place.words} ({place.path})"
    return ""


def _people() -> set[Path]:
    found = {Path("~").expanduser()}
    with suppress(KeyError):
        found.add(Path(pwd.getpwuid(os.getuid()).pw_dir))
    return {path for path in found if path.is_absolute() and path != Path("/")}


def _engines() -> list[Path]:
    socket = os.environ.get("DOCKER_HOST", "").removeprefix("unix://")
    return [Path(path) for path in (*_ENGINES, *([socket] if socket.startswith("/") else []))]
