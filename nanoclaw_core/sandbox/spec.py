"""What a worker's container looks like: its name, user, mounts, labels, and the folders it may write."""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nanoclaw_core.errors import HomeUnusable
from nanoclaw_core.models import ContainerSpec, Limits, Mount, WorkerIdentity

INSTALLATION_LABEL: Final = "nanoclaw.installation"
WORKER_LABEL: Final = "nanoclaw.worker"
SESSION_LABEL: Final = "nanoclaw.session"
PROTOCOL_LABEL: Final = "nanoclaw.protocol"

#: The version of `container/PROTOCOL.md` that workers of this host are started for, and all that it speaks with them.
PROTOCOL: Final = 1
SUPPORTED: Final = (1,)

#: Beyond the logins, and between the ids that systemd hands out for a while (to 65519) and those of nested users (from 100000).
_FIRST_UID: Final = 70000
_UIDS: Final = 20000


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerPlace:
    """Everything that one worker's container is made of. `user` comes from `worker_user`."""

    identity: WorkerIdentity
    installation_id: str
    image: str
    user: str
    sockets: Path
    inbox: Path
    workspace: Path
    state: Path
    limits: Limits
    timezone: str = "UTC"
    extras: tuple[Mount, ...] = ()


def worker_spec(place: WorkerPlace) -> ContainerSpec:
    """The container of a worker. Its environment holds no secret: that comes in the first line of its input."""
    worker = place.identity
    return ContainerSpec(
        name=container_name(worker.agent_group.name, worker.worker_id),
        image=place.image,
        argv=(),  # the image's own command
        user=place.user,
        mounts=(
            Mount(source=place.sockets, target="/nanoclaw/sockets"),
            Mount(source=place.inbox, target="/nanoclaw/inbox"),
            Mount(source=place.workspace, target="/workspace", read_only=False),
            Mount(source=place.state, target="/home/agent", read_only=False),
            *place.extras,
        ),
        environment={"TZ": place.timezone, "LANG": "C.UTF-8", "HOME": "/home/agent", "PYTHONDONTWRITEBYTECODE": "1"},
        labels={
            INSTALLATION_LABEL: place.installation_id,
            WORKER_LABEL: worker.worker_id,
            SESSION_LABEL: worker.session_id,
            PROTOCOL_LABEL: str(PROTOCOL),
        },
        limits=place.limits,
    )


def container_name(agent: str, worker_id: str) -> str:
    """A name that a person recognises in `docker ps`, in the letters that Docker allows.

    >>> container_name("Café Ω & Söhne", "w5f3a")
    'nanoclaw-caf-s-hne-w5f3a'
    """
    words = re.sub(r"[^a-z0-9]+", "-", agent.lower()).strip("-")[:32].strip("-")
    return f"nanoclaw-{words or 'agent'}-{worker_id}"


def worker_user(installation_id: str) -> str:
    """The 'uid:gid' of all workers of an installation, always the same.

    For a host that runs as root it belongs to no login: a host user with the same id could read a worker's memory through
    /proc. Another host has no choice but its own, and needs no right to give folders away.
    """
    if os.getuid() != 0:
        return f"{os.getuid()}:{os.getgid()}"
    start = int.from_bytes(hashlib.sha256(installation_id.encode()).digest()[:4]) % _UIDS
    uid = next(uid for step in range(_UIDS) if not _is_login(uid := _FIRST_UID + (start + step) % _UIDS))
    return f"{uid}:{uid}"


def prepare_folder(path: Path, uid: int, gid: int) -> None:
    """Make `path`, whose parent exists, a folder that only `uid` can enter; what is in it stays untouched.

    A worker can write in such a folder, so no link is followed and nothing below it is opened.

    Raises:
        HomeUnusable: it is something else, or cannot be given to `uid`.
    """
    try:
        if not path.is_symlink():
            path.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _give(descriptor, uid, gid)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise HomeUnusable(path, error.strerror or str(error)) from error


def _give(descriptor: int, uid: int, gid: int) -> None:
    found = os.fstat(descriptor)
    if (found.st_uid, found.st_gid) != (uid, gid):
        os.fchown(descriptor, uid, gid)
    if stat.S_IMODE(found.st_mode) != 0o700:
        os.fchmod(descriptor, 0o700)


def _is_login(uid: int) -> bool:
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True
