"""Folders are given and taken; for each worker they are looked at anew, and the owner hears once of what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from nanoclaw_core.errors import HomeUnusable, MountRefused, UnknownName
from nanoclaw_core.models import AgentGroup
from nanoclaw_core.operations import Json, operations
from nanoclaw_core.store import agents
from nanoclaw_core.store.mounts import all_mounts
from nanoclaw_core.workers.folders import Folders, listed
from tests.house import House, open_house
from tests.mounts.conftest import Land


@dataclass(kw_only=True)
class Yard:
    """A land with agents in its home; `told` is what the owner heard, `renewed` whose workers were ended."""

    land: Land
    house: House
    bea: AgentGroup
    folders: Folders
    told: list[str] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)

    async def ask(self, method: str, **params: object) -> Json:
        async def begin(channel: str) -> str:
            return channel

        return await operations(self.house.database, self.house.clock, begin, self.folders, "UTC")[method](params)

    async def notices(self) -> list[str]:
        return [each["notice"] for each in listed(await self.house.database.read(all_mounts))]


@pytest.fixture
async def yard(land: Land) -> AsyncIterator[Yard]:
    async with open_house(land.home) as house:
        create = partial(agents.create_agent_group, name="Bea", folder="bea", now=1.0)
        bea = await house.database.write(create)
        folders = Folders(database=house.database, rules=land.rules, clock=house.clock)
        yard = Yard(land=land, house=house, bea=bea, folders=folders)

        async def tell(text: str) -> None:
            yard.told.append(text)

        folders.tell, folders.renew = tell, yard.renewed.append
        yield yard


async def test_a_folder_that_is_given_is_granted_and_told_to_its_agent_alone(yard: Yard) -> None:
    notes = yard.land.folder("notes")
    made = await yard.ask("mount.add", path=str(notes))
    assert (made["agent"], made["target"], made["read_only"]) == ("Andy", "/workspace-extra/notes", True)
    granted = await yard.folders.grant(yard.house.agent)
    assert [each.mount.source for each in granted.seen] == [notes]
    assert "`/workspace-extra/notes`: you may read it." in granted.words
    assert await yard.folders.grant(yard.bea) == await yard.folders.grant(yard.bea)
    assert (await yard.folders.grant(yard.bea)).words == ""


async def test_a_change_ends_the_workers_of_that_agent(yard: Yard) -> None:
    await yard.ask("mount.add", path=str(yard.land.folder("notes")), agent="bea")
    await yard.ask("mount.remove", name="notes", agent="Bea")
    assert yard.renewed == [yard.bea.id, yard.bea.id]
    assert await yard.house.database.read(all_mounts) == []


async def test_what_the_rules_refuse_is_not_kept(yard: Yard) -> None:
    with pytest.raises(MountRefused, match="it is your home folder"):
        await yard.ask("mount.add", path=str(yard.land.person))
    assert await yard.house.database.read(all_mounts) == []


async def test_the_same_again_is_refused(yard: Yard) -> None:
    notes = str(yard.land.folder("notes"))
    await yard.ask("mount.add", path=notes)
    with pytest.raises(MountRefused, match="of the same agent"):
        await yard.ask("mount.add", path=notes, name="again")


async def test_unknown_names_are_said_to_be_unknown(yard: Yard) -> None:
    with pytest.raises(UnknownName, match="Known: none"):
        await yard.ask("mount.remove", name="notes")
    with pytest.raises(UnknownName, match="nobody"):
        await yard.ask("mount.check", path="/srv", agent="nobody")


async def test_a_check_changes_nothing_and_judges_what_is_there_by_itself(yard: Yard) -> None:
    notes = yard.land.folder("notes")
    await yard.ask("mount.add", path=str(notes))
    found = await yard.ask("mount.check", path=str(notes), read_only=False)
    assert (found["allowed"], found["read_only"], found["name"]) == (True, False, "notes")
    assert len(await yard.house.database.read(all_mounts)) == 1


async def test_what_is_refused_later_is_left_out_and_its_owner_told_once(yard: Yard) -> None:
    notes, music = yard.land.folder("notes"), yard.land.folder("music")
    for path in (notes, music):
        await yard.ask("mount.add", path=str(path))
    (notes / ".env").touch()
    for _ in range(2):
        granted = await yard.folders.grant(yard.house.agent)
    assert [each.mount.source for each in granted.seen] == [music]
    assert "`/workspace-extra/notes` is not there" in granted.words
    (told,) = yard.told
    assert told.startswith("Andy works without its folder notes: it holds '.env'")
    assert await yard.notices() == ["", told[len("Andy works ") :].partition(". (")[0]]


async def test_it_is_told_again_after_it_was_well(yard: Yard) -> None:
    notes = yard.land.folder("notes")
    await yard.ask("mount.add", path=str(notes))
    for _ in range(2):
        (notes / ".env").touch()
        await yard.folders.grant(yard.house.agent)
        (notes / ".env").unlink()
        await yard.folders.grant(yard.house.agent)
    assert len(yard.told) == 2
    assert await yard.notices() == [""]


async def test_a_folder_that_became_a_link_is_refused(yard: Yard) -> None:
    notes = yard.land.folder("notes")
    await yard.ask("mount.add", path=str(notes))
    notes.rmdir()
    notes.symlink_to(yard.land.home)
    assert (await yard.folders.grant(yard.house.agent)).seen == ()


async def test_a_bad_change_of_the_allowlist_is_told_once_and_changes_nothing(yard: Yard) -> None:
    await yard.ask("mount.add", path=str(yard.land.folder("notes")))
    yard.land.write_text("{")
    for _ in range(2):
        assert len((await yard.folders.grant(yard.house.agent)).seen) == 1
    (told,) = yard.told
    assert "what it said before still holds" in told


async def test_what_may_not_be_written_any_more_is_read_only_and_said(yard: Yard) -> None:
    notes = yard.land.folder("notes")
    await yard.ask("mount.add", path=str(notes), read_only=False)
    yard.land.write(allowedRoots=[{"path": str(yard.land.root), "allowReadWrite": False}])
    granted = await yard.folders.grant(yard.house.agent)
    assert granted.seen[0].mount.read_only
    assert "read-only" in yard.told[0]


async def test_an_agent_hears_no_reason(yard: Yard) -> None:
    notes = yard.land.folder("notes")
    await yard.ask("mount.add", path=str(notes))
    (notes / "id_rsa").touch()
    assert "id_rsa" not in (await yard.folders.grant(yard.house.agent)).words
    assert str(Path(notes)) not in (await yard.folders.grant(yard.house.agent)).words


async def test_a_worker_starts_also_where_its_owner_cannot_be_told(yard: Yard) -> None:
    async def fail(_text: str) -> None:
        raise HomeUnusable(yard.land.home, "the disk is full")

    yard.folders.tell = fail
    notes = yard.land.folder("notes")
    await yard.ask("mount.add", path=str(notes))
    (notes / "id_rsa").touch()
    assert (await yard.folders.grant(yard.house.agent)).seen == ()
