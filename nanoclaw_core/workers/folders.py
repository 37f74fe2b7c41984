"""The owner's folders that agents see: given and taken by the owner, looked at anew for each worker."""

from __future__ import annotations

import shlex
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import structlog
from anyio import to_thread

from nanoclaw_core.errors import MountRefused, UnknownName
from nanoclaw_core.models import AgentGroup, AgentMount
from nanoclaw_core.ports import Clock
from nanoclaw_core.sandbox.mounts import Judgement, MountRules, Seen, default_name
from nanoclaw_core.store import mounts as table
from nanoclaw_core.store.database import Database
from nanoclaw_core.store.tables import new_id
from nanoclaw_core.supervise import survive

log = structlog.get_logger()

Json: TypeAlias = dict[str, Any]  # whatever JSON holds
Tell: TypeAlias = Callable[[str], Awaitable[None]]
_Owned: TypeAlias = tuple[AgentGroup, AgentMount]


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """What one worker gets, and what its agent is told of it."""

    seen: tuple[Seen, ...] = ()
    words: str = ""


async def _nobody(_text: str) -> None:
    """There is no owner to be told: somebody sits at the command line."""


@dataclass(slots=True, kw_only=True)
class Folders:
    """All mounts of an installation. `tell` reaches the owner; `renew` ends an agent's workers that rest."""

    database: Database
    rules: MountRules
    clock: Clock
    tell: Tell = _nobody
    renew: Callable[[str], None] = lambda _agent: None
    _warned: set[str] = field(default_factory=set)

    async def grant(self, agent: AgentGroup) -> Granted:
        """What `agent` gets now. What is refused is left out, and the owner is told of it once."""
        everyone = await self.database.read(table.all_mounts)
        mine = [mount for owner, mount in everyone if owner.id == agent.id]
        if not mine:
            return Granted()
        judgements = [await self._judged(agent, mount, everyone) for mount in mine]
        for judgement in judgements:
            await self._report(agent, judgement)
        seen = tuple(seen for judgement in judgements for seen in judgement.mounts)
        return Granted(seen=seen, words=_words(judgements))

    async def add(self, agent: AgentGroup, source: Path, name: str | None, *, read_only: bool) -> Json:
        """Give `agent` a folder.

        Raises:
            MountRefused: the rules do not allow it, or it has it already.
        """
        wish = AgentMount(
            id=new_id(), agent_group_id=agent.id, source=source, name=name or default_name(source), read_only=read_only
        )
        judgement = await self._judged(agent, wish, await self.database.read(table.all_mounts))
        if judgement.refusal:
            raise MountRefused(source, judgement.refusal)
        await self.database.write(partial(table.add_mount, mount=wish, now=self.clock.time()))
        await self.database.write(partial(table.note_told, mount_id=wish.id, notice=_notice(judgement)))
        log.info("mount.added", agent=agent.name, source=str(source), target=wish.target, read_only=judgement.read_only)
        self.renew(agent.id)
        return _told(agent, judgement)

    async def remove(self, agent: AgentGroup, name: str) -> Json:
        """Take a folder from `agent`.

        Raises:
            UnknownName: it has none of this name.
        """
        mine = {mount.name: mount for owner, mount in await self.database.read(table.all_mounts) if owner.id == agent.id}
        if name not in mine:
            raise UnknownName(f"mount of {agent.name}", name, mine)
        await self.database.write(partial(table.remove_mount, mount_id=mine[name].id))
        log.info("mount.removed", agent=agent.name, source=str(mine[name].source))
        self.renew(agent.id)
        return {"agent": agent.name, "name": name, "source": str(mine[name].source)}

    async def check(self, agent: AgentGroup, source: Path, *, read_only: bool) -> Json:
        """What each rule says of a mount that is there or could be."""
        everyone = await self.database.read(table.all_mounts)
        known = next((mount for owner, mount in everyone if (owner.id, mount.source) == (agent.id, source)), None)
        wish = AgentMount(
            id=known.id if known else "",
            agent_group_id=agent.id,
            source=source,
            name=known.name if known else default_name(source),
            read_only=read_only,
        )
        return _told(agent, await self._judged(agent, wish, everyone))

    async def _judged(self, agent: AgentGroup, wish: AgentMount, everyone: Sequence[_Owned]) -> Judgement:
        return await to_thread.run_sync(self.rules.judged, agent, wish, everyone)

    async def _report(self, agent: AgentGroup, judgement: Judgement) -> None:
        wish, notice = judgement.wish, _notice(judgement)
        for warning in judgement.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                await survive("news of a policy", self.tell(f"{warning}. `nanoclaw doctor` says more."))
        if notice == wish.notice:
            return
        await self.database.write(partial(table.note_told, mount_id=wish.id, notice=notice))
        if notice:
            log.warning("mount.refused", agent=agent.name, source=str(wish.source), reason=notice)
            news = f"{agent.name} works {notice}. (`nanoclaw mount check {shlex.quote(str(wish.source))}` explains it.)"
            await survive("news of a mount", self.tell(news))


def listed(owned: Sequence[_Owned]) -> list[Json]:
    """Every mount as JSON."""
    return [
        {
            "agent": agent.name,
            "name": mount.name,
            "source": str(mount.source),
            "target": mount.target,
            "read_only": mount.read_only,
            "notice": mount.notice,
        }
        for agent, mount in owned
    ]


def _notice(judgement: Judgement) -> str:
    if judgement.refusal:
        return f"without its folder {judgement.wish.name}: {judgement.refusal}"
    if judgement.read_only and not judgement.wish.read_only:
        return f"with its folder {judgement.wish.name} read-only: {judgement.narrowed}"
    return ""


def _told(agent: AgentGroup, judgement: Judgement) -> Json:
    wish = judgement.wish
    return {
        "agent": agent.name,
        "name": wish.name,
        "source": str(wish.source),
        "target": wish.target,
        "allowed": bool(judgement.mounts),
        "read_only": judgement.read_only,
        "narrowed": judgement.narrowed,
        "findings": [{"rule": each.rule, "passed": each.passed, "words": each.words} for each in judgement.findings],
        "warnings": list(judgement.warnings),
    }


def _words(judgements: Sequence[Judgement]) -> str:
    """For the agent; reasons are its owner's business."""
    lines = ["", "", "## Folders of your owner", ""]
    for judgement in judgements:
        if not judgement.mounts:
            lines.append(f"- `{judgement.wish.target}` is not there: the rules of this machine do not allow it any more.")
            continue
        access = "you may read it" if judgement.read_only else "you may read and change it"
        masked = [seen.mount.source.name for seen in judgement.mounts[1:]]
        lines.append(f"- `{judgement.wish.target}`: {access}" + (f", except {', '.join(masked)}." if masked else "."))
    return "\n".join(lines)
