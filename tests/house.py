"""A small house for tests: a real database and real mailboxes with one agent in one chat."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from sqlalchemy import Connection, create_engine

from nanoclaw_core.journal import Journal
from nanoclaw_core.mailbox import Mailbox, Mailboxes
from nanoclaw_core.models import Address, AgentGroup, EngageMode, MessagingGroup, Session
from nanoclaw_core.ports import Channel, Clock
from nanoclaw_core.routing.arrivals import Arrivals
from nanoclaw_core.store import agents, chats, sessions
from nanoclaw_core.store.database import Database, open_database
from nanoclaw_core.store.migrate import migrate
from nanoclaw_core.testing import FakeClock

CHAT = Address(channel="fake", chat="chat-1")


@dataclass(frozen=True, kw_only=True)
class House:
    home: Path
    clock: FakeClock
    database: Database
    mailboxes: Mailboxes
    agent: AgentGroup
    chat: MessagingGroup
    session: Session
    mailbox: Mailbox


@cache
def _template() -> Path:
    """A database with its schema, made once: importing the migrations is slow."""
    path = Path(tempfile.mkdtemp(prefix="nc")) / "template.db"
    engine = create_engine(f"sqlite:///{path}")
    migrate(engine, None)
    engine.dispose()
    return path


def arrivals(home: Path, clock: Clock, journal: Journal, channels: Mapping[str, Channel] | None = None) -> Arrivals:
    """What fetches files of at most 1 MiB for a router; the disk always has room."""

    async def require_room() -> None:
        pass

    return Arrivals(
        folder=home / "arrivals",
        channels={} if channels is None else channels,
        clock=clock,
        limit=1024 * 1024,
        require_room=require_room,
        released=journal.look_again,
    )


@asynccontextmanager
async def open_house(home: Path) -> AsyncIterator[House]:
    clock = FakeClock()
    shutil.copy(_template(), home / "nanoclaw.db")
    async with open_database(home / "nanoclaw.db", backups=None) as database:
        agent, chat, session = await database.write(partial(_furnish, now=clock.time()))
        mailboxes = Mailboxes(home, now=clock.time)
        mailbox = await mailboxes.open(session)
        try:
            yield House(
                home=home,
                clock=clock,
                database=database,
                mailboxes=mailboxes,
                agent=agent,
                chat=chat,
                session=session,
                mailbox=mailbox,
            )
        finally:
            await mailboxes.close()


def _furnish(connection: Connection, now: float) -> tuple[AgentGroup, MessagingGroup, Session]:
    agent = agents.create_agent_group(connection, name="Andy", folder="andy", now=now, is_main=True)
    chat = chats.ensure_messaging_group(
        connection, channel="fake", account="", chat=CHAT.chat, name="Family", is_group=False, now=now
    )
    wire = partial(chats.wire, connection, messaging_group_id=chat.id, agent_group_id=agent.id, now=now)
    wire(engage_mode=EngageMode.PATTERN, pattern=".")
    session = sessions.ensure_session(connection, agent_group_id=agent.id, messaging_group_id=chat.id, thread=None, now=now)
    sessions.mark_attention(connection, session.id)
    return agent, chat, session
