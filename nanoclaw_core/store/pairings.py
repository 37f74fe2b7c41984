"""Pairings: the code that each channel was given last, as a hash, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, select, update

from nanoclaw_core.store.tables import insert_into, pairings


class PairingEnd(StrEnum):
    """Why a code is good for nothing any more, before its time is over."""

    PAIRED = "paired"  # somebody used it
    GUESSED = "guessed"  # too many guesses
    SEEN = "seen"  # it was sent where others read it


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """The last code of a channel. `used_by` is the hash of the message that was it."""

    channel: str
    code_hash: str
    expires_at: float
    guesses: int = 0
    end: PairingEnd | None = None
    used_by: str | None = None

    def is_open(self, now: float) -> bool:
        return self.end is None and now < self.expires_at


def open_pairing(conn: Connection, *, channel: str, code_hash: str, now: float, expires_at: float) -> Pairing:
    """Give the channel a code in the place of its earlier one."""
    values = {"code_hash": code_hash, "made_at": now, "expires_at": expires_at, "guesses": 0, "ending": None, "used_by": None}
    insert = insert_into(conn, pairings).values(channel=channel, **values)
    conn.execute(insert.on_conflict_do_update(index_elements=["channel"], set_=values))
    return Pairing(channel=channel, code_hash=code_hash, expires_at=expires_at)


def save_pairing(conn: Connection, pairing: Pairing) -> None:
    """Keep how a pairing stands now, unless the channel has been given another code."""
    where = (pairings.c.channel == pairing.channel, pairings.c.code_hash == pairing.code_hash)
    values = {"guesses": pairing.guesses, "ending": pairing.end and pairing.end.value, "used_by": pairing.used_by}
    conn.execute(update(pairings).where(*where).values(values))


def all_pairings(conn: Connection) -> dict[str, Pairing]:
    """The last pairing of each channel that ever had one."""
    return {
        row.channel: Pairing(
            channel=row.channel,
            code_hash=row.code_hash,
            expires_at=row.expires_at,
            guesses=row.guesses,
            end=row.ending and PairingEnd(row.ending),
            used_by=row.used_by,
        )
        for row in conn.execute(select(pairings))
    }
