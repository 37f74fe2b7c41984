"""What people do to messages that were sent before: edits, reactions, and the buttons that they press.

Everything that a platform says about an earlier message is looked up here: nothing is believed of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from nanoclaw_core.mailbox import Mailboxes
from nanoclaw_core.models import Address, InboundKind, InboundMessage, MessagingGroup, OutboundRow, Quote, Session
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
        if message.kind is InboundKind.ANSWER:
            return await self._answered(message)
        found = await self.database.read(partial(_sessions, message=message))
        echoes = [await self._reacted(message, session) for session in found]
        return [echo for echo in echoes if echo is not None]

    async def as_edit(self, message: InboundMessage, session: Session) -> InboundMessage:
        """The edit, with the number under which the agent knows the message that was edited."""
        known = await (await self.mailboxes.open(session)).number_of(message.address, message.about or "")
        return message if known is None else replace(message, about=known)

    async def _reacted(self, message: InboundMessage, session: Session) -> Echo | None:
        row = await (await self.mailboxes.open(session)).sent_as(message.address, message.about or "")
        return None if row is None else Echo(session=session, message=_about(message, session.thread, row))

    async def _answered(self, message: InboundMessage) -> list[Echo]:
        session_id, _, number = (message.about or "").partition(":")
        session = await self.database.read(partial(_asker, message=message, session_id=session_id))
        if session is None or not _NUMBER.fullmatch(number):
            return []
        row = await (await self.mailboxes.open(session)).outbound_row(int(number))
        if (
            row is None
            or replace(row.to, thread=None) != replace(message.address, thread=None)
            or message.text not in _ids(row)
        ):
            return []
        label = row.choices[int(message.text) - 1]
        return [Echo(session=session, message=replace(_about(message, row.to.thread, row), text=label), question=row)]


def _ids(question: OutboundRow) -> list[str]:
    return [str(number) for number in range(1, len(question.choices) + 1)]


def _about(message: InboundMessage, thread: str | None, row: OutboundRow) -> InboundMessage:
    quote = Quote(message_id="", sender_name="you", text=row.text[:_EXCERPT])
    address = replace(message.address, thread=thread)  # platforms do not name it here
    return replace(message, address=address, about=f"s{row.seq}", reply_to=quote)


def _sessions(connection: Connection, message: InboundMessage) -> list[Session]:
    """The newest sessions of the chat, whatever the thread, that belong to agents which are wired to it."""
    group, wired = _wired(connection, message.address)
    found = [] if group is None else sessions.of_chat(connection, group.id, _SESSIONS)
    return [each for each in found if each.agent_group_id in wired]


def _asker(connection: Connection, message: InboundMessage, session_id: str) -> Session | None:
    """The session with this id, whatever its own chat, if its agent is wired to the one in which a button was pressed."""
    session = sessions.find_session(connection, session_id)
    _, wired = _wired(connection, message.address)
    return session if session is not None and session.agent_group_id in wired else None


def _wired(connection: Connection, address: Address) -> tuple[MessagingGroup | None, set[str]]:
    """The chat, and the agents that hear it."""
    group = chats.find_messaging_group(connection, address.channel, address.account, address.chat)
    return group, set() if group is None else {wiring.agent_group_id for wiring in chats.wirings_of(connection, group.id)}
