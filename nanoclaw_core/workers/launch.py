"""What a worker is given at its start: an identity, a secret, and the launch document of `container/PROTOCOL.md`."""

from __future__ import annotations

import hashlib
import json
import secrets
import uuid
from collections.abc import Mapping, Sequence

from nanoclaw_core.models import AgentGroup, Session, WorkerIdentity
from nanoclaw_core.sandbox.mounts import Seen
from nanoclaw_core.sandbox.spec import PROTOCOL


def new_identity(session: Session, agent_group: AgentGroup) -> tuple[WorkerIdentity, str]:
    """A worker that never was before, and the secret of its link, which is kept nowhere else."""
    secret = secrets.token_urlsafe(32)
    identity = WorkerIdentity(
        worker_id="w" + secrets.token_hex(6),
        session_id=session.id,
        agent_group=agent_group,
        secret_hash=hashlib.sha256(secret.encode()).hexdigest(),
    )
    return identity, secret


def first_conversation(session: Session) -> str:
    """The id under which the engine begins a session's first conversation: the same after a crash as before it."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"nanoclaw:conversation:{session.id}"))


def launch_document(
    identity: WorkerIdentity,
    secret: str,
    engine: str,
    options: Mapping[str, object],
    files: Mapping[str, object],
    seen: Sequence[Seen] = (),
) -> bytes:
    """The line that the runner reads from its standard input; without `files`, no action takes any.

    `seen` are the owner's folders: the runner compares what was mounted with what the host looked at.
    """
    mounts = [{"path": each.mount.target, "device": each.identity[0], "inode": each.identity[1]} for each in seen]
    document = {
        "protocol": PROTOCOL,
        "worker": identity.worker_id,
        "secret": secret,
        "socket": "/nanoclaw/sockets/gateway.sock",
        "workspace": "/workspace",
        "state": "/home/agent",
        "engine": engine,
        "options": dict(options),
        **({"files": dict(files)} if files else {}),
        **({"mounts": mounts} if mounts else {}),
    }
    return json.dumps(document).encode() + b"\n"
