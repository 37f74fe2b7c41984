"""When something cannot be delivered: who hears of it, where, and in which words.

The agent is told by its next prompt (see `Mailbox.untold`), the chat where it can be, the owner in a chat of the main agent.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from nanoclaw_core.first_start import ensure_terminal_chat
from nanoclaw_core.mailbox import Mailboxes, NewOutbound
from nanoclaw_core.models import Address, MessagingGroup, OutboundKind, OutboundRow, Session
from nanoclaw_core.ports import Channel
from nanoclaw_core.store import agents, chats, sessions
from nanoclaw_core.store.database import Connection, Database

DOUBT = "(A message before this one may not have arrived whole: the connection broke while it was being sent.)"
_ALL = "(A message for this chat could not be delivered: {reason})"
_REST = "(The rest of this message could not be delivered: {reason})"
_OWNER = (
    "⚠️ A message of {agent} to {chat} could not be delivered: {reason}. The agent is told at its next turn. "
    "`nanoclaw messages` lists the messages that people wrote, `nanoclaw why NUMBER` what became of one."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """A message that was given up; `is_part` when its beginning has arrived."""

    session_id: str
    row: OutboundRow
    reason: str
    is_part: bool

    def for_chat(self) -> NewOutbound:
        """What is said in the chat that misses it."""
        text = (_REST if self.is_part else _ALL).format(reason=self.reason.rstrip("."))
        return NewOutbound(to=self.row.to, text=text, kind=OutboundKind.NOTICE)


async def tell_owner(
    database: Database, mailboxes: Mailboxes, channels: Mapping[str, Channel], news: Loss | str, failing: Address, now: float
) -> str:
    """Queue the news for the owner, once a day, away from the channel that fails; return the session whose mailbox holds it."""
    found, text = await database.write(partial(_news, channels=channels, news=news, failing=failing, now=now))
    session, chat = found
    mailbox = await mailboxes.open(session)
    to = Address(channel=chat.channel, account=chat.account, chat=chat.chat)
    day = time.strftime("%Y-%m-%d", time.gmtime(now))
    about = news.session_id if isinstance(news, Loss) else ""
    key = hashlib.sha256(f"{about} {failing} {text} {day}".encode()).hexdigest()
    await mailbox.add_outbound(f"loss-{key}", NewOutbound(to=to, text=text, kind=OutboundKind.NOTICE))
    return session.id


def owners_chat(
    connection: Connection, channels: Mapping[str, Channel], failing: Address, now: float
) -> tuple[Session, MessagingGroup]:
    """Where the owner looks: the main agent's first direct chat on another channel that runs, best one that shows news at once.

    The terminal's is the last resort: it is there always, and keeps the news until somebody comes.
    """
    main = agents.main_agent_group(connection)
    assert main is not None  # noqa: S101  # made at the first start
    terminal = ensure_terminal_chat(connection, main, now)

    def rank(chat: MessagingGroup) -> int:
        return channels[chat.channel].capabilities.patient

    direct = [chat for chat in chats.destinations(connection, main.id) if not chat.is_group]
    others = [chat for chat in direct if chat.channel in channels and chat.channel != failing.channel]
    last = chats.find_messaging_group(connection, "terminal", "", terminal)
    chosen = min(others, key=rank, default=last)
    assert chosen is not None  # noqa: S101  # it was made above
    ensure = partial(sessions.ensure_session, connection, agent_group_id=main.id, messaging_group_id=chosen.id)
    return ensure(thread=None, now=now), chosen


def _news(
    connection: Connection, channels: Mapping[str, Channel], news: Loss | str, failing: Address, now: float
) -> tuple[tuple[Session, MessagingGroup], str]:
    """Where the owner is told, and what; the session is marked before its mailbox is touched."""
    found = owners_chat(connection, channels, failing, now)
    sessions.mark_attention(connection, found[0].id)
    return found, f"⚠️ {news}" if isinstance(news, str) else _of_loss(connection, news)


def _of_loss(connection: Connection, loss: Loss) -> str:
    to = loss.row.to
    session = sessions.session(connection, loss.session_id)
    agent = agents.agent_group(connection, session.agent_group_id)
    chat = chats.find_messaging_group(connection, to.channel, to.account, to.chat)
    name = f"“{chat.name}” ({to.channel})" if chat and chat.name else f"{to.chat} ({to.channel})"
    return _OWNER.format(agent=agent.name, chat=name, reason=loss.reason.rstrip("."))
