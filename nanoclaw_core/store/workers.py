"""Workers: each life of a container, and the rule that a session has one at a time."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, func, select, update

from nanoclaw_core.store.tables import insert_into
from nanoclaw_core.store.tables import workers as table


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """What is known of one worker; `container_id` is None until it was started, `ended_at` and `reason` until it ended.

    `adoptions` counts the hosts that took it over since it last finished a turn: those before them died.
    """

    id: str
    session_id: str
    secret_hash: str
    image: str
    container_id: str | None
    claimed_at: float
    started_at: float | None
    ended_at: float | None
    reason: str | None
    adoptions: int


def claim_worker(
    conn: Connection, *, worker_id: str, session_id: str, secret_hash: str, image: str, now: float, after: str | None = None
) -> bool:
    """Take the session for a new worker; False when it has a live one.

    `after` is the worker that the caller ended before: noting that may have failed, as on a full disk.
    """
    if after is not None:
        end_worker(conn, after, "its end could not be noted", now)
    values = {"id": worker_id, "session_id": session_id, "secret_hash": secret_hash, "image": image, "claimed_at": now}
    claim = insert_into(conn, table).values(values).on_conflict_do_nothing().returning(table.c.id)
    return conn.execute(claim).one_or_none() is not None


def started(conn: Connection, worker_id: str, container_id: str, now: float) -> None:
    """Note the container in which the worker lives."""
    conn.execute(update(table).where(table.c.id == worker_id).values(container_id=container_id, started_at=now))


def adopt_worker(conn: Connection, worker_id: str, container_id: str, now: float) -> int | None:
    """Take over a live worker that another host started; return its `adoptions`, None when it is not live any more."""
    values = {
        "container_id": container_id,
        "started_at": func.coalesce(table.c.started_at, now),
        "adoptions": table.c.adoptions + 1,
    }
    live = (table.c.id == worker_id, table.c.ended_at.is_(None))
    return conn.execute(update(table).where(*live).values(values).returning(table.c.adoptions)).scalar_one_or_none()


def forget_adoptions(conn: Connection, worker_id: str) -> None:
    """Count its adoptions anew: it finished a turn, or its host ends in order."""
    conn.execute(update(table).where(table.c.id == worker_id).values(adoptions=0))


def end_worker(conn: Connection, worker_id: str, reason: str, now: float) -> None:
    """Free the session; the first reason stays."""
    live = (table.c.id == worker_id, table.c.ended_at.is_(None))
    conn.execute(update(table).where(*live).values(ended_at=now, reason=reason))


def live_workers(conn: Connection) -> list[WorkerRecord]:
    """The workers that have not ended, oldest first."""
    query = select(table).where(table.c.ended_at.is_(None)).order_by(table.c.claimed_at, table.c.id)
    return [WorkerRecord(**row) for row in conn.execute(query).mappings()]
