"""What people do to messages that were sent before: edits, reactions, and the buttons that they press.

Everything that a platform says about an earlier message is looked up here: nothing is believed of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from nanoclaw_core.mailbox import Mailboxes
from nanoclaw_core.models import InboundKind, InboundMessage, OutboundRow, Quote, Session
from nanoclaw_core.store import chats, sessions
from nanoclaw_core.store.database import Connection, Database

_SESSIONS: Final = 50  # of one chat, the newest, that are asked whether a message is theirs
_NUMBER: Final = re.compile(r"[0-9]{1,18}")
_EXCERPT: Final = 400  # characters that are quoted of the earlier message


@dataclass(frozen=True, slots=True, kw_only=True)
class Echo:
    """A message as one session hears it, and the question that it answers."""

    session: Session
    message: InboundMessage
    question: OutboundRow | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Echoes:
    """Finds whose message a reaction or an answer is about."""

    database: Database
    mailboxes: Mailboxes

    async def heard_by(self, message: InboundMessage) -> list[Echo]:
        """The sessions that sent what the reaction is under, or the one that asked what is answered; often none."""
        found = await self.database.read(partial(_sessions, message=message))
        if message.kind is InboundKind.ANSWER:
            return await self._answered(message, found)
        echoes = [await self._reacted(message, session) for session in found]
        return [echo for echo in echoes if echo is not None]

    async def as_edit(self, message: InboundMessage, session: Session) -> InboundMessage:
        """The edit, with the number under which the agent knows the message that was edited."""
        known = await (await self.mailboxes.open(session)).number_of(message.address, message.about or "")
        return message if known is None else replace(message, about=known)

    async def _reacted(self, message: InboundMessage, session: Session) -> Echo | None:
        row = await (await self.mailboxes.open(session)).sent_as(message.address, message.about or "")
        return None if row is None else Echo(session=session, message=_about(message, session, row))

    async def _answered(self, message: InboundMessage, found: Sequence[Session]) -> list[Echo]:
        session_id, _, number = (message.about or "").partition(":")
        session = next((session for session in found if session.id == session_id), None)
        if session is None or not _NUMBER.fullmatch(number):
            return []
        row = await (await self.mailboxes.open(session)).outbound_row(int(number))
        if row is None or row.to.chat != message.address.chat or message.text not in _ids(row):
            return []
        label = row.choices[int(message.text) - 1]
        return [Echo(session=session, message=replace(_about(message, session, row), text=label), question=row)]


def _ids(question: OutboundRow) -> list[str]:
    return [str(number) for number in range(1, len(question.choices) + 1)]


def _about(message: InboundMessage, session: Session, row: OutboundRow) -> InboundMessage:
    quote = Quote(message_id="", sender_name="you", text=row.text[:_EXCERPT])
    address = replace(message.address, thread=session.thread)
    return replace(message, address=address, about=f"s{row.seq}", reply_to=quote)


def _sessions(connection: Connection, message: InboundMessage) -> list[Session]:
    """The newest sessions of the agents that are wired to the chat, whatever the thread: platforms do not name it here."""
    address = message.address
    group = chats.find_messaging_group(connection, address.channel, address.account, address.chat)
    if group is None:
        return []
    wired = {wiring.agent_group_id for wiring in chats.wirings_of(connection, group.id)}
    return [each for each in sessions.of_chat(connection, group.id, _SESSIONS) if each.agent_group_id in wired]
