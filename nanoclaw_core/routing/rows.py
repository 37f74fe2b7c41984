"""How a message of the journal becomes a row for one session."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from anyio import to_thread

from nanoclaw_core.journal import JournalEntry
from nanoclaw_core.mailbox import NewRow, row_id
from nanoclaw_core.models import InboundMessage, Session
from nanoclaw_core.routing.inbox import Arrived, keep_files, keep_text

#: A longer text goes into the session's inbox as a file; the prompt holds its beginning and the file's path (characters).
INLINE_LIMIT: Final = 48_000
_EXCERPT: Final = 4_000


async def row_of(home: Path, session: Session, entry: JournalEntry, arrived: Sequence[Arrived] = ()) -> NewRow:
    """The message as a row for the session; long texts, and the files that `arrived`, lie in its inbox when this returns."""
    message, inbox = entry.message, home / session.folder / "inbox"
    row, text, attachment = row_id(session.id, entry.seq), message.text, None
    if len(text) > INLINE_LIMIT:
        attachment = f"{row}/message.txt"
        await to_thread.run_sync(keep_text, inbox / attachment, text)
        text = f"{text[:_EXCERPT]}\n[… {len(text) - _EXCERPT:,} more characters]"
    keep = partial(keep_files, inbox, row, message.files, arrived)
    return NewRow(
        id=row,
        address=message.address,
        message_id=message.message_id,
        sender_id=writer(message)[0],
        sender_name=message.sender.name,
        text=text,
        sent_at=message.sent_at,
        reply_to=message.reply_to,
        attachment=attachment,
        kind=message.kind,
        about=message.about,
        files=await to_thread.run_sync(keep) if message.files else (),
    )


def writer(message: InboundMessage) -> tuple[str, str]:
    """Who wrote it: the id of the user, and the name."""
    return message.sender.user_id(message.address.channel), message.sender.name
