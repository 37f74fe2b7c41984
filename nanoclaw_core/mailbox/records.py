"""What goes into a mailbox and what comes out of it."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from nanoclaw_core.models import (
    Address,
    EarlierCall,
    InboundKind,
    KeptFile,
    OutboundFile,
    OutboundKind,
    OutboundRow,
    Push,
    Quote,
    Row,
    Undelivered,
    Words,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRow:
    """A message for the agent, before the mailbox has numbered it. A repeated `id` is the same row."""

    id: str
    address: Address
    message_id: str
    sender_id: str
    sender_name: str
    text: str
    sent_at: float
    reply_to: Quote | None = None
    attachment: str | None = None
    kind: InboundKind = InboundKind.MESSAGE
    about: str | None = None
    files: tuple[KeptFile, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewOutbound:
    """Something to be delivered, before the mailbox has numbered it.

    The paths of `files` are relative to the session's folder.
    """

    to: Address
    text: str
    reply_to: str | None = None
    kind: OutboundKind = OutboundKind.MESSAGE
    about: str | None = None
    files: tuple[OutboundFile, ...] = ()
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutstandingPush:
    """A push that no end of a turn has covered: the rows in it, where its answer goes, and who was told how often.

    `attempts` counts the workers that took it, the first included; `worker_id` is the last of them.
    """

    push: Push
    rows: tuple[Row, ...]
    address: Address
    attempts: int
    worker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCall:
    """An agent's call of an action, before it is carried out. `digest` is that of all arguments, also where the text is cut."""

    key: str
    worker_id: str
    action: str
    arguments: str
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is known of an agent's call of an action; until it `ended`, nobody knows what it has done.

    `key` is that of the call that was carried out, which an earlier worker may have made; `said_to` is where it has spoken.
    """

    key: str
    action: str
    digest: str
    result: str | None
    is_error: bool
    ended: bool
    said_to: Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipts:
    """How far the parts of one outbound row got.

    `sent` maps parts to the platform's message ids; of those `in_flight` nobody knows whether they arrived; `attempts`
    counts how often a part of the row was begun. `is_over` when the row is finished, or was of a file that is no more.
    """

    sent: Mapping[int, str]
    in_flight: frozenset[int]
    attempts: int
    is_over: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What an action has queued for people, and why it did not arrive, where that is certain."""

    row: OutboundRow
    refused: str | None = None


def row_id(session_id: str, number: int) -> str:
    """The id of the row that a session gets for the journal's message `number`."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"nanoclaw:row:{session_id}:{number}"))


def row_values(row: NewRow) -> dict[str, object]:
    """The columns of a row in `inbound.db`."""
    return {
        "id": row.id,
        **address_values(row.address),
        "message_id": row.message_id,
        "sender_id": row.sender_id,
        "sender_name": row.sender_name,
        "text": row.text,
        "sent_at": row.sent_at,
        "quote": row.reply_to and msgspec.json.encode(row.reply_to).decode(),
        "attachment": row.attachment,
        "kind": row.kind.value,
        "about": row.about,
        "files": msgspec.json.encode(row.files).decode(),
    }


def read_row(row: sqlite3.Row) -> Row:
    """A row of `inbound.db`."""
    return Row(
        seq=row["seq"],
        id=row["id"],
        address=read_address(row),
        message_id=row["message_id"],
        sender_id=row["sender_id"],
        sender_name=row["sender_name"],
        text=row["text"],
        sent_at=row["sent_at"],
        reply_to=row["quote"] and msgspec.json.decode(row["quote"], type=Quote),
        attachment=row["attachment"],
        kind=InboundKind(row["kind"]),
        about=row["about"],
        files=msgspec.json.decode(row["files"], type=tuple[KeptFile, ...]),
    )


def outbound_values(row: NewOutbound) -> dict[str, object]:
    """The columns of what is to be delivered in `outbound.db`."""
    return {
        **address_values(row.to),
        "text": row.text,
        "reply_to": row.reply_to,
        "kind": row.kind.value,
        "about": row.about,
        "files": msgspec.json.encode(row.files, enc_hook=str).decode(),
        "choices": msgspec.json.encode(row.choices).decode(),
    }


def read_outbound(row: sqlite3.Row) -> OutboundRow:
    """A row of `outbound.db`."""
    return OutboundRow(
        seq=row["seq"],
        to=read_address(row),
        text=row["text"],
        kind=OutboundKind(row["kind"]),
        reply_to=row["reply_to"],
        settles=msgspec.json.decode(row["settles"], type=tuple[str, ...]),
        outcome=row["outcome"],
        queued_at=row["queued_at"],
        about=row["about"],
        files=msgspec.json.decode(row["files"], type=tuple[OutboundFile, ...], dec_hook=_path),
        choices=msgspec.json.decode(row["choices"], type=tuple[str, ...]),
        replaces=row["replaces"],
    )


def _path(_type: type[Path], value: str) -> Path:
    return Path(value)


def read_undelivered(row: sqlite3.Row) -> Undelivered:
    """A row of `outbound.db` beside its final receipt."""
    return Undelivered(seq=row["seq"], to=read_address(row), text=row["text"], reason=row["refused"])


def read_call(row: sqlite3.Row) -> Call:
    """A call, beside what it queued for delivery, if anything."""
    return Call(
        key=row["original"] or row["key"],
        action=row["action"],
        digest=row["digest"],
        result=row["result"],
        is_error=bool(row["is_error"]),
        ended=row["ended_at"] is not None,
        said_to=None if row["chat"] is None else read_address(row),
    )


def read_earlier_call(row: sqlite3.Row) -> EarlierCall:
    """The same, for the agent."""
    said = None if row["chat"] is None else Words(to=read_address(row), text=row["text"])
    result = row["result"] if row["ended_at"] is not None else None
    return EarlierCall(
        action=row["action"], arguments=row["arguments"], result=result, is_error=bool(row["is_error"]), said=said
    )


def address_values(address: Address) -> dict[str, object]:
    """The columns of an address, in either file."""
    return {"channel": address.channel, "account": address.account, "chat": address.chat, "thread": address.thread}


def read_address(row: sqlite3.Row) -> Address:
    """Where a row of either file comes from or goes to."""
    return Address(channel=row["channel"], account=row["account"], chat=row["chat"], thread=row["thread"])
