"""A session whose mailbox is broken begins anew: its chat is told, and what was certainly not answered is heard again."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import structlog
from anyio import to_thread

from nanoclaw_core.journal import Journal, JournalEntry
from nanoclaw_core.mailbox import MailboxBroken, NewOutbound, row_id
from nanoclaw_core.mailbox.renewal import begin_anew, remains_of
from nanoclaw_core.models import Address, OutboundKind, Session, Wiring
from nanoclaw_core.ports import Clock, Wake
from nanoclaw_core.routing.router import is_engaged
from nanoclaw_core.routing.rows import row_of
from nanoclaw_core.store import chats, sessions
from nanoclaw_core.store.database import Connection, Database

log = structlog.get_logger()

_WEEK: Final = 7 * 86400.0  # nobody waits any longer for an answer; and history is kept for at least as long
_NOTICE: Final = (
    "⚠️ My record of this conversation was damaged or deleted, so I have begun a new one. I still know what we talked about, "
    "but messages of mine that were on their way may be missing{again}. If you wait for an answer, send your message again. "
    "What is left of the old record is kept in {folder} (broken-…)."
)
_AGAIN: Final = "; {count} of yours without an answer I take up again now"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """The `Renew` of all mailboxes. `wake` and `deliver` are told of the session afterwards."""

    database: Database
    journal: Journal
    home: Path
    clock: Clock
    wake: Wake
    deliver: Wake

    async def renew(self, session: Session, broken: MailboxBroken) -> None:
        """Move the broken pair aside and put a new one in its place. Cut off at any point, it is done whole the next time.

        Raises:
            MailboxUnusable: the disk does not allow it; nothing has changed.
        """
        await self.database.write(partial(sessions.mark_attention, session_id=session.id))
        chat, wirings = await self.database.read(partial(_place_of, session=session))
        heard = [each for each in await self._heard(chat) if any(is_engaged(wiring, each.message) for wiring in wirings)]
        folder = self.home / session.folder
        remains = await to_thread.run_sync(remains_of, folder)
        unanswered = set(remains.unanswered([row_id(session.id, each.seq) for each in heard]))
        rows = [await row_of(self.home, session, each) for each in heard if row_id(session.id, each.seq) in unanswered]
        again = _AGAIN.format(count=len(rows)) if rows else ""
        notice = NewOutbound(to=chat, text=_NOTICE.format(again=again, folder=folder), kind=OutboundKind.NOTICE)
        copy = await to_thread.run_sync(begin_anew, folder, remains, rows, notice, self.clock.time())
        log.error("mailbox.renewed", session=session.id, reason=str(broken.reason), copy=str(copy), again=len(rows))
        self.wake(session.id)
        self.deliver(session.id)

    async def _heard(self, chat: Address) -> list[JournalEntry]:
        return await self.journal.heard(chat, self.clock.time() - _WEEK)


def _place_of(connection: Connection, session: Session) -> tuple[Address, list[Wiring]]:
    """The session's chat, and what makes its agent hear it."""
    group = chats.messaging_group(connection, session.messaging_group_id)
    wirings = chats.wirings_of(connection, group.id)
    address = Address(channel=group.channel, account=group.account, chat=group.chat, thread=session.thread)
    return address, [wiring for wiring in wirings if wiring.agent_group_id == session.agent_group_id]
