"""Whatever a host does between any two steps of a backup: the restored home has lost nothing, and repeats nothing."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
import pytest
from anyio import from_thread
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanoclaw_core.mailbox import snapshot
from nanoclaw_core.mailbox.files import MailboxFiles
from tests.backup.shop import CHATS, Shop, open_shop, restored

STEPS = ("say", "route", "push", "end", "deliver")
one_step = st.tuples(st.sampled_from(STEPS), st.integers(0, len(CHATS) - 1))
some_steps = st.lists(one_step, max_size=8)
Steps = list[tuple[str, int]]


async def do(shop: Shop, steps: Steps, said: list[tuple[str, str]]) -> None:
    for step, number in steps:
        if step == "say":
            said.append((CHATS[number], await shop.say(CHATS[number])))
        elif step == "route":
            await shop.route()
        elif (known := await shop.sessions()) and number < len(known):
            await getattr(shop, step)(known[number])


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(before=st.lists(one_step, max_size=20), meanwhile=st.lists(some_steps, max_size=4), after=some_steps)
def test_every_message_has_one_outcome(before: Steps, meanwhile: list[Steps], after: Steps) -> None:
    with tempfile.TemporaryDirectory(prefix="nc") as folder:
        anyio.run(check, Path(folder), before, meanwhile, after)


async def check(folder: Path, before: Steps, meanwhile: list[Steps], after: Steps) -> None:
    said: list[tuple[str, str]] = []
    async with open_shop(folder / "old") as old:
        said += [(chat, await old.say(chat)) for chat in CHATS[:2]]
        await old.run()
        await do(old, before, said)
        told_before, hooks = set(old.told), iter(meanwhile)
        await old.back_up(folder / "backup", between=lambda: from_thread.run(do, old, next(hooks, []), said))
        told_meanwhile = set(old.told) - told_before
        await do(old, after, [])  # which the restored home never hears of
    await restored(folder / "backup", folder / "new")
    async with open_shop(folder / "new") as new:
        await new.run()
        assert await new.is_idle()
        for chat, message in said:  # a platform repeats what it is not sure of
            await new.say(chat, message)
        news = [await new.say(chat) for chat in CHATS]  # whose numbers the old home has given to others
        await new.run()
        assert len(new.told) == len(set(new.told))
        assert not told_before & set(new.told)
        assert {message for _, message in said} - told_before - told_meanwhile <= set(new.told)
        assert set(news) <= set(new.told)


@pytest.fixture
def folder(nanoclaw_home: Path) -> Path:
    return nanoclaw_home


async def test_what_was_routed_after_its_mailbox_was_copied_is_routed_again(folder: Path) -> None:
    async with open_shop(folder / "old", chats=CHATS[:1]) as old:
        await old.say(CHATS[0], "first")
        await old.run()

        async def meanwhile() -> None:
            await old.say(CHATS[0], "second")
            await old.route()

        await old.back_up(folder / "backup", between=lambda: from_thread.run(meanwhile))
    await restored(folder / "backup", folder / "new")
    async with open_shop(folder / "new") as new:
        await new.run()
        assert new.told == ["second"]


async def test_what_was_being_done_when_its_mailbox_was_copied_is_done_again_though_it_was_done_meanwhile(folder: Path) -> None:
    async with open_shop(folder / "old", chats=CHATS[:1]) as old:
        await old.say(CHATS[0], "first")
        await old.route()
        (session,) = await old.sessions()
        await old.push(session)
        await old.back_up(folder / "backup", between=lambda: from_thread.run(old.run))
        assert not await old.marked()
    await restored(folder / "backup", folder / "new")
    async with open_shop(folder / "new") as new:
        assert await new.marked()
        await new.run()
        assert new.told == ["first"]


async def test_both_files_of_a_mailbox_are_of_one_moment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever writes between the two copies would leave one that is older than the other, which a host refuses."""
    async with open_shop(folder / "old", chats=CHATS[:1]) as old:
        await old.say(CHATS[0], "first")
        await old.run()
        (session,) = await old.sessions()

        def meddle() -> None:
            with closing(MailboxFiles(old.home / session.folder)) as files:
                with files.transaction("inbound") as inbound:
                    inbound.execute("CREATE TEMP TABLE one AS SELECT * FROM rows LIMIT 1")
                    inbound.execute("UPDATE one SET seq = 9, id = 'x'")
                    inbound.execute("INSERT INTO rows SELECT * FROM one")
                with files.transaction("outbound") as outbound:
                    outbound.execute("UPDATE acknowledged SET floor = 9")

        meddler = Thread(target=meddle)

        class Meddled(sqlite3.Connection):
            def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:  # Any: see the class
                if sql.startswith("SELECT count"):
                    result = super().execute(sql, *parameters)
                    if not meddler.ident:
                        meddler.start()
                        meddler.join(0.3)  # it waits for the locks; without them it would be through
                    return result
                return super().execute(sql, *parameters)

        def meddled(path: Path) -> closing[sqlite3.Connection]:
            return closing(sqlite3.connect(path, isolation_level=None, factory=Meddled))

        monkeypatch.setattr(snapshot, "_open", meddled)
        await old.back_up(folder / "backup")
        meddler.join()
    await restored(folder / "backup", folder / "new")
    async with open_shop(folder / "new") as new:
        await new.run()
        assert await new.is_idle()
