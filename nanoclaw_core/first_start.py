"""What a new home is given: its owner, its main agent, and the chats of the terminal."""

from __future__ import annotations

from nanoclaw_core.models import AgentGroup, EngageMode
from nanoclaw_core.store import agents, chats, people
from nanoclaw_core.store.database import Connection

OWNER = "terminal:local"
MAIN_FOLDER = "main"
_TERMINAL = "terminal"
_EVERYTHING = "."


def ensure_first_agent(connection: Connection, name: str, now: float) -> None:
    """Make the owner, who is whoever can open the control socket, and the main agent, unless they are there."""
    if agents.main_agent_group(connection) is not None:
        return
    people.upsert_user(connection, OWNER, "", now)
    people.grant(connection, OWNER, "owner", now)
    agents.create_agent_group(connection, name=name, folder=MAIN_FOLDER, now=now, is_main=True)


def ensure_terminal_chat(connection: Connection, agent: AgentGroup, now: float) -> str:
    """The chat of the terminal with `agent`, wired so that it hears everything."""
    known = chats.find_messaging_group(connection, _TERMINAL, "", agent.folder)
    if known is not None and any(wiring.agent_group_id == agent.id for wiring in chats.wirings_of(connection, known.id)):
        return agent.folder
    group = chats.ensure_messaging_group(
        connection, channel=_TERMINAL, account="", chat=agent.folder, name="terminal", is_group=False, now=now
    )
    chats.wire(
        connection,
        messaging_group_id=group.id,
        agent_group_id=agent.id,
        engage_mode=EngageMode.PATTERN,
        pattern=_EVERYTHING,
        now=now,
    )
    return agent.folder
