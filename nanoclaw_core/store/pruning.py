"""Takes out of the central database what is finished and old, a slice at a time: each function is one short transaction.

What is old is decided by the order in which it was stored, too: nothing is old that came after something young, whatever time
it bears. And time goes on by a week in each run at most, so that nobody forgets a year at once when a clock leaps ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import msgspec
from sqlalchemy import Connection, Select, bindparam, delete, func, select, tuple_, update

from nanoclaw_core.models import InboundMessage, Sender
from nanoclaw_core.store.tables import events, insert_into, installation, messaging_groups, sessions, strangers, workers

DAY: Final = 86400.0
YEAR: Final = 365 * DAY
#: No earlier than this was anything written: before a machine knows the time, its clock says 1970.
FIRST: Final = 1735689600.0
_STEP: Final = 7 * DAY
_TIME, _EMPTIED = "pruned_at", "emptied_to"
_EMPTY: Final = update(events).where(events.c.seq == bindparam("number")).values(payload=bindparam("text"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """What is old: what came before `before`. `now` is no later than the clock says."""

    now: float
    before: float

    def earlier(self, seconds: float) -> Horizon:
        return replace(self, before=self.before - seconds)


def horizon(conn: Connection, now: float, keep: float) -> Horizon | None:
    """What is old when things are kept for `keep` seconds; None where the clock cannot be right."""
    if now < FIRST:
        return None
    newest = conn.execute(select(events.c.received_at).order_by(events.c.seq.desc()).limit(1)).scalar() or now
    last = float(_noted(conn, _TIME) or max(newest, FIRST))
    believed = min(now, last + _STEP)
    _note(conn, _TIME, max(last, believed))
    oldest_unrouted = conn.execute(select(func.min(events.c.received_at)).where(events.c.routed_at.is_(None))).scalar()
    return Horizon(now=now, before=min(believed - keep, oldest_unrouted or believed))


def old_events(conn: Connection, old: Horizon, *, emptied: bool) -> int:
    """The number up to which messages are old: of those that are `emptied`, or of those that are not."""
    floor = int(_noted(conn, _EMPTIED) or 0)
    part = events.c.seq <= floor if emptied else events.c.seq > floor
    is_young = events.c.received_at.between(old.before, old.now + DAY)
    young = conn.execute(select(events.c.seq).where(part, is_young).order_by(events.c.seq).limit(1)).scalar()
    are_old = [part, events.c.received_at.between(FIRST, old.before)]
    if young is not None:
        are_old.append(events.c.seq < young)
    return conn.execute(select(func.max(events.c.seq)).where(*are_old)).scalar() or 0


def empty_events(conn: Connection, last: int, after: int, limit: int) -> int | None:
    """Forget what people wrote, and who, in messages from `after` to `last`; return how far this went, None at the end.

    What stays is the key by which a message that comes again is known. Messages of a chat that has work are left alone.
    """
    floor = int(_noted(conn, _EMPTIED) or 0)
    part = (events.c.seq > max(after, floor), events.c.seq <= last)
    rows = conn.execute(select(events).where(*part).order_by(events.c.seq).limit(limit)).all()
    if not rows:
        return None
    busy = {(row.channel, row.account, row.chat) for row in conn.execute(_busy_chats())}
    kept = {row.seq for row in rows if row.routed_at is None or (row.channel, row.account, row.chat) in busy}
    emptied = [{"number": row.seq, "text": _emptied(row.payload)} for row in rows if row.seq not in kept]
    if emptied:
        conn.execute(_EMPTY, emptied)
    if after <= floor:  # nothing was left alone so far
        _note(conn, _EMPTIED, min(kept, default=rows[-1].seq + 1) - 1)
    return int(rows[-1].seq)


def forget_events(conn: Connection, last: int, limit: int) -> int:
    """Delete emptied messages up to `last`; return how many."""
    floor = int(_noted(conn, _EMPTIED) or 0)
    slice_ = select(events.c.seq).where(events.c.seq <= min(last, floor)).order_by(events.c.seq).limit(limit)
    return conn.execute(delete(events).where(events.c.seq.in_(slice_))).rowcount


def forget_strangers(conn: Connection, old: Horizon, limit: int) -> int:
    """Delete the counters of chats that nobody wired and nobody wrote in for long; return how many."""
    key = (strangers.c.channel, strangers.c.account, strangers.c.chat)
    slice_ = select(*key).where(strangers.c.last_seen < old.before).limit(limit)
    return conn.execute(delete(strangers).where(tuple_(*key).in_(slice_))).rowcount


def forget_workers(conn: Connection, old: Horizon, limit: int) -> int:
    """Delete what is known of workers that ended; return how many."""
    slice_ = select(workers.c.id).where(workers.c.ended_at < old.before).limit(limit)
    return conn.execute(delete(workers).where(workers.c.id.in_(slice_))).rowcount


def give_back(conn: Connection, pages: int) -> bool:
    """Give free pages of the file back to the disk; whether there were any. A database on a server does that by itself."""
    if conn.dialect.name != "sqlite":
        return False
    pragma = conn.exec_driver_sql
    free, mode = (pragma(f"PRAGMA {name}").scalar_one() for name in ("freelist_count", "auto_vacuum"))
    if mode != 2 or not free:  # INCREMENTAL: other files, of earlier versions, use their free pages again
        return False
    for _ in range(min(free, pages)):
        pragma("PRAGMA incremental_vacuum(1)")  # Python's driver takes one step of it, and no more
    return bool(free > pages)


def _busy_chats() -> Select[tuple[str, str, str]]:
    chat = messaging_groups.c
    joined = sessions.join(messaging_groups, chat.id == sessions.c.messaging_group_id)
    return select(chat.channel, chat.account, chat.chat).select_from(joined).where(sessions.c.attention > sessions.c.settled)


def _emptied(payload: str) -> str:
    message = msgspec.json.decode(payload, type=InboundMessage)
    nobody = Sender(handle="", name="")
    return msgspec.json.encode(replace(message, text="", sender=nobody, chat_name="", reply_to=None)).decode()


def _noted(conn: Connection, key: str) -> str | None:
    return conn.execute(select(installation.c.value).where(installation.c.key == key)).scalar()


def _note(conn: Connection, key: str, value: float) -> None:
    insert = insert_into(conn, installation).values(key=key, value=str(value))
    conn.execute(insert.on_conflict_do_update(index_elements=["key"], set_={"value": str(value)}))
