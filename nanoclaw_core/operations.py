"""What a person changes in the central database from the command line: by a running host, or without one."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

import msgspec

from nanoclaw_core.errors import NanoClawError, UnknownName
from nanoclaw_core.ledger.limits import change
from nanoclaw_core.ledger.words import day_of
from nanoclaw_core.models import AgentGroup, EngageMode, MessagingGroup, Wiring
from nanoclaw_core.pairing import GOOD_FOR
from nanoclaw_core.ports import Clock
from nanoclaw_core.store import agents, budgets, chats
from nanoclaw_core.store.database import Connection, Database
from nanoclaw_core.workers.folders import Folders

Json: TypeAlias = dict[str, Any]  # Any: whatever JSON holds
Operation: TypeAlias = Callable[[Json], Awaitable[Json]]
"""Takes the parameters of a request to the control socket, and returns its result."""

_EVERYTHING: Final = "."
_LONGEST_TRIGGER: Final = 1000


class ParametersInvalid(NanoClawError):
    """A request that is not as it must be: client and host are of different versions."""

    exit_code = 2


class ChatAmbiguous(NanoClawError):
    """Several chats have the name."""

    exit_code = 3

    def __init__(self, name: str, found: Sequence[str]) -> None:
        super().__init__(f"Several chats are called {name!r}. Name one by its id: {', '.join(found)}.")


class TriggerInvalid(NanoClawError):
    """A trigger that nobody could write."""

    exit_code = 2


class NewWiring(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `wiring.create` takes. `chat` is the platform's id of a chat, or a known one's name; no agent means the main one."""

    channel: str
    chat: str
    account: str | None = None
    agent: str | None = None
    mode: EngageMode = EngageMode.MENTION
    trigger: str | None = None


class _OldWiring(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    id: str


class NewBudget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `budget.set` takes; what is not said stays as it is. Dollars are in billionths."""

    agent: str
    per_day: Annotated[int, msgspec.Meta(gt=0)] | None = None
    unit: Literal["usd", "tokens"] | None = None
    warn_percent: Annotated[int, msgspec.Meta(ge=1, le=100)] | None = None
    per_minute: Annotated[int, msgspec.Meta(gt=0)] | None = None


class _OldBudget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    agent: str


class _Channel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    channel: str


class NewMount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `mount.add` and `mount.check` take; `path` is absolute and without links, no agent means the main one."""

    path: str
    agent: str | None = None
    name: str | None = None
    read_only: bool = True


class _OldMount(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    agent: str | None = None


def operations(
    database: Database, clock: Clock, begin_pairing: Callable[[str], Awaitable[str]], folders: Folders, timezone: str
) -> Mapping[str, Operation]:
    """Every operation by its name. `begin_pairing` makes a code for a channel; days are those of `timezone`."""

    async def pair(params: Json) -> Json:
        code = await begin_pairing(_read(params, _Channel).channel)
        return {"code": code, "seconds": GOOD_FOR}

    async def create(params: Json) -> Json:
        wish = _read(params, NewWiring)
        return await database.write(partial(create_wiring, wish=wish, now=clock.time()))

    async def remove(params: Json) -> Json:
        return await database.write(partial(remove_wiring, wiring_id=_read(params, _OldWiring).id))

    async def set_budget(params: Json) -> Json:
        wish = _read(params, NewBudget)
        return await database.write(partial(change_budget, wish=wish, today=day_of(clock.time(), timezone)))

    async def end_budget(params: Json) -> Json:
        return await database.write(partial(remove_budget, name=_read(params, _OldBudget).agent))

    return {
        "pairing.begin": pair,
        "wiring.create": create,
        "wiring.remove": remove,
        "budget.set": set_budget,
        "budget.remove": end_budget,
        **_mount_operations(database, folders),
    }


def _mount_operations(database: Database, folders: Folders) -> Mapping[str, Operation]:
    async def add(params: Json) -> Json:
        wish: NewMount = _read(params, NewMount)
        agent = await database.read(partial(_agent, name=wish.agent))
        return await folders.add(agent, Path(wish.path), wish.name, read_only=wish.read_only)

    async def remove(params: Json) -> Json:
        wish: _OldMount = _read(params, _OldMount)
        return await folders.remove(await database.read(partial(_agent, name=wish.agent)), wish.name)

    async def check(params: Json) -> Json:
        wish: NewMount = _read(params, NewMount)
        agent = await database.read(partial(_agent, name=wish.agent))
        return await folders.check(agent, Path(wish.path), read_only=wish.read_only)

    return {"mount.add": add, "mount.remove": remove, "mount.check": check}


def change_budget(connection: Connection, wish: NewBudget, today: str) -> Json:
    """Set what the wish says of an agent's budget.

    Raises:
        UnknownName: there is no such agent.
    """
    agent = _agent(connection, wish.agent)
    limits = {name: getattr(wish, name) for name in ("per_day", "unit", "warn_percent", "per_minute")}
    return change(connection, agent, today, **limits)


def remove_budget(connection: Connection, name: str) -> Json:
    """Let an agent spend without limit; `was_there` says whether it had one.

    Raises:
        UnknownName: there is no such agent.
    """
    agent = _agent(connection, name)
    return {"agent": agent.name, "was_there": budgets.remove_budget(connection, agent.id)}


def create_wiring(connection: Connection, wish: NewWiring, now: float) -> Json:
    """Let an agent hear a chat, or change how; `is_new` says which, `is_known` whether the chat was ever heard of.

    Raises:
        UnknownName: there is no such agent. ChatAmbiguous: several chats have the name. TriggerInvalid, InvalidPattern: how it
            is to engage makes no sense.
    """
    agent = _agent(connection, wish.agent)
    pattern = _pattern(wish, agent)
    chat, is_known = _chat(connection, wish, now)
    is_new = all(wiring.agent_group_id != agent.id for wiring in chats.wirings_of(connection, chat.id))
    ends = {"messaging_group_id": chat.id, "agent_group_id": agent.id}
    wiring = chats.wire(connection, **ends, engage_mode=wish.mode, pattern=pattern, now=now)
    return {**listed(wiring, chat, agent.name), "is_new": is_new, "is_known": is_known}


def remove_wiring(connection: Connection, wiring_id: str) -> Json:
    """Remove the wiring with this id, or the only one whose id begins so.

    Raises:
        UnknownName: there is none.
    """
    every = chats.wirings_listed(connection)
    found = [row for row in every if row[0].id == wiring_id] or [row for row in every if row[0].id.startswith(wiring_id)]
    if len(found) != 1 or not wiring_id:
        raise UnknownName("wiring", wiring_id, [wiring.id for wiring, _, _ in every])
    chats.unwire(connection, found[0][0].id)
    return listed(*found[0])


def wirings(connection: Connection) -> Json:
    """Every wiring, and the chats that wrote without one."""
    return {
        "wirings": [listed(*row) for row in chats.wirings_listed(connection)],
        "unwired": [msgspec.to_builtins(each) for each in chats.strangers_seen(connection)],
    }


def listed(wiring: Wiring, chat: MessagingGroup, agent: str) -> Json:
    """A wiring as JSON."""
    return {
        "id": wiring.id,
        "channel": chat.channel,
        "account": chat.account,
        "chat": chat.chat,
        "chat_name": chat.name,
        "is_group": chat.is_group,
        "agent": agent,
        "mode": wiring.engage_mode.value,
        "trigger": wiring.pattern,
    }


def _read(params: Json, kind: type[Any]) -> Any:  # the kind; msgspec checks it
    try:
        return msgspec.convert(params, kind)
    except msgspec.ValidationError as error:
        raise ParametersInvalid(f"The host does not take this: {error}. Restart it, if it is of an earlier version.") from error


def _agent(connection: Connection, name: str | None) -> AgentGroup:
    found = agents.main_agent_group(connection) if name is None else agents.agent_group_named(connection, name)
    if found is None:
        raise UnknownName("agent", name or "main", [group.name for group in agents.agent_groups(connection)])
    return found


def _pattern(wish: NewWiring, agent: AgentGroup) -> str:
    if wish.trigger is None:
        return _EVERYTHING if wish.mode is EngageMode.PATTERN else f"@{agent.name}"
    if not wish.trigger.strip() or not wish.trigger.isprintable() or len(wish.trigger) > _LONGEST_TRIGGER:
        raise TriggerInvalid(
            f"A trigger is 1 to {_LONGEST_TRIGGER} visible characters in one line, like '@{agent.name}'. With --mode pattern, "
            "'.' hears everything."
        )
    return wish.trigger


def _chat(connection: Connection, wish: NewWiring, now: float) -> tuple[MessagingGroup, bool]:
    """The chat that is meant, made where only its id is known, and whether it was ever heard of."""
    mine = [chat for chat in chats.chats_of(connection, wish.channel) if wish.account in (None, chat.account)]
    found = [chat for chat in mine if chat.chat == wish.chat]
    found = found or [chat for chat in mine if chat.name.casefold() == wish.chat.casefold()]
    if len(found) > 1:
        raise ChatAmbiguous(wish.chat, [_label(chat.chat, chat.account) for chat in found])
    if found:
        return found[0], True
    key = (wish.channel, wish.chat)
    seen = [each for each in chats.strangers_seen(connection) if (each.channel, each.chat) == key]
    seen = [each for each in seen if wish.account in (None, each.account)]
    if len(seen) > 1:
        raise ChatAmbiguous(wish.chat, [_label(each.chat, each.account) for each in seen])
    account = seen[0].account if seen else wish.account or ""
    # Nobody has said yet what it is. What is taken for a group is never taken for a person's own chat.
    ensure = partial(chats.ensure_messaging_group, connection, channel=wish.channel, account=account, chat=wish.chat)
    return ensure(name="", is_group=True, now=now), bool(seen)


def _label(chat: str, account: str) -> str:
    return f"{chat} --account {account}" if account else chat
