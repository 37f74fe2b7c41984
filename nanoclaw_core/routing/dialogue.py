"""The words between an agent and its people: names of destinations, prompts, answers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial

from anyio import to_thread

from nanoclaw_core.errors import ActionRefused
from nanoclaw_core.models import Address, AgentGroup, EarlierCall, MessagingGroup, Row, Undelivered, Words
from nanoclaw_core.routing.answer import Part, parse_answer, strip_internal
from nanoclaw_core.routing.prompt import format_prompt, format_reminder, instructions, key_of
from nanoclaw_core.store import chats
from nanoclaw_core.store.database import Database

# Longer texts are parsed in a thread: regular expressions over a megabyte would hold up everybody else.
_LONG = 20_000


class AgentDialogue:
    """The `Dialogue` of every agent of this installation."""

    def __init__(self, database: Database, timezone: str) -> None:
        self._database = database
        self._timezone = timezone

    async def instructions(self, agent_group: AgentGroup) -> str:
        return instructions(agent_group.name, list(await self._destinations(agent_group)))

    async def reminder(self, agent_group: AgentGroup, earlier: Sequence[EarlierCall]) -> str:
        return format_reminder(earlier, await self._names(agent_group))

    async def prompt(self, agent_group: AgentGroup, rows: Sequence[Row], undelivered: Sequence[Undelivered] = ()) -> str:
        names = await self._names(agent_group)
        return await to_thread.run_sync(format_prompt, rows, names, self._timezone, undelivered)

    async def answers(self, agent_group: AgentGroup, reply_to: Address, text: str) -> list[Words]:
        parts = parse_answer(text) if len(text) < _LONG else await to_thread.run_sync(parse_answer, text)
        return await self._words(agent_group, reply_to, parts)

    async def beginning(self, agent_group: AgentGroup, reply_to: Address, text: str) -> str:
        words = await self._words(agent_group, reply_to, parse_answer(text, is_whole=False))
        return next((each.text for each in words if each.to == reply_to), "")

    async def _words(self, agent_group: AgentGroup, reply_to: Address, parts: Sequence[Part]) -> list[Words]:
        if all(part.to is None for part in parts):
            return [Words(to=reply_to, text=part.text) for part in parts]
        destinations = await self._destinations(agent_group)
        return [_addressed(part, reply_to, destinations) for part in parts]

    async def name(self, agent_group: AgentGroup, to: Address) -> str | None:
        return (await self._names(agent_group)).get(key_of(to))

    async def find(self, agent_group: AgentGroup, name: str) -> Address:
        destinations = await self._destinations(agent_group)
        if name not in destinations:
            raise ActionRefused(f"There is no destination {name!r}. Known: {', '.join(destinations) or 'none'}.")
        return destinations[name]

    def visible(self, text: str) -> str:
        return strip_internal(text).strip()

    async def _names(self, agent_group: AgentGroup) -> dict[tuple[str, str, str], str]:
        return {key_of(address): name for name, address in (await self._destinations(agent_group)).items()}

    async def _destinations(self, agent_group: AgentGroup) -> dict[str, Address]:
        return destination_names(await self._database.read(partial(chats.destinations, agent_group_id=agent_group.id)))


def destination_names(groups: Sequence[MessagingGroup]) -> dict[str, Address]:
    """A short, unique name for every chat, in the given order, made of the chat's own name.

    Private chats come first: no group can take a person's name by being renamed, and so hear what was meant for the person.

    >>> family = [MessagingGroup(id=i, channel="c", account="", chat=i, name="Our Family!", is_group=True) for i in "ab"]
    >>> [*destination_names(family)]
    ['our-family', 'our-family-2']
    """
    names: dict[str, Address] = {}
    for group in sorted(groups, key=lambda group: group.is_group):
        base = re.sub(r"[\W_]+", "-", (group.name or f"{group.channel}-{group.chat}").lower()).strip("-") or "unnamed"
        name, count = base, 1
        while name in names:
            count += 1
            name = f"{base}-{count}"
        names[name] = Address(channel=group.channel, account=group.account, chat=group.chat)
    return names


def _addressed(part: Part, reply_to: Address, destinations: dict[str, Address]) -> Words:
    if part.to is None:
        return Words(to=reply_to, text=part.text)
    if part.to in destinations:
        found = destinations[part.to]
        # The chat that is being answered keeps its thread.
        return Words(to=reply_to if key_of(found) == key_of(reply_to) else found, text=part.text)
    known = ", ".join(destinations)
    return Words(
        to=reply_to, text=f"(There is no destination “{part.to}”; known: {known}. This was meant for it:)\n\n{part.text}"
    )
