"""A host whose database another one takes over ends at its next write, and leaves the workers to the other."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest

from nanoclaw_core.errors import DatabaseTaken
from nanoclaw_core.store.database import open_database
from nanoclaw_core.testing import Reply, ScriptedModel
from tests.spine.spine import Spine


async def lose_the_database(spine: Spine, meanwhile: Callable[[], Awaitable[object]]) -> None:
    """Run a host, let another one take its database over after `meanwhile`, and wait for the host's end."""
    async with spine.host():
        await meanwhile()
        async with open_database(spine.home / "nanoclaw.db", backups=None) as other:
            await other.write(lambda conn: None)
        with pytest.raises(DatabaseTaken):
            await spine.chat.say("is anybody there?")
        await anyio.sleep_forever()


async def test_a_host_that_lost_its_database_ends_with_the_reason(spine: Spine) -> None:
    with pytest.raises(ExceptionGroup) as ended:
        await lose_the_database(spine, anyio.lowlevel.checkpoint)
    assert ended.group_contains(DatabaseTaken, match="writes nothing more")


async def test_its_workers_live_on(spine: Spine, model: ScriptedModel) -> None:
    async def in_mid_turn() -> None:
        await spine.chat.say("hello")
        await model.wait_for(1)

    model.script(Reply.text("never", after=anyio.Event()))
    with pytest.raises(ExceptionGroup):
        await lose_the_database(spine, in_mid_turn)
    assert len(await spine.runtime.living()) == 1
