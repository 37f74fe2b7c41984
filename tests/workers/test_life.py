"""A worker's life is made in one order and undone in the other, whatever fails on the way."""

from __future__ import annotations

import stat

import pytest

from nanoclaw_core.errors import ContainerFailed, HomeUnusable, RuntimeUnavailable
from nanoclaw_core.mailbox import NewCall
from nanoclaw_core.store import workers
from nanoclaw_core.workers.life import Life
from tests.workers.crew import Crew


@pytest.fixture
def life(crew: Crew) -> Life:
    return Life.of(crew.desk, crew.house.session, crew.house.agent)


async def live(crew: Crew) -> list[str]:
    return [record.id for record in await crew.house.database.read(workers.live_workers)]


async def test_a_life_is_claimed_while_it_lasts(crew: Crew, life: Life) -> None:
    await life.begin(crew.house.mailbox, resume=True)
    assert await live(crew) == [life.worker_id]
    assert [identity.worker_id for identity in crew.doors.opened] == [life.worker_id]
    await life.end("done")
    assert await live(crew) == []
    assert crew.doors.closed == [life.worker_id]
    assert crew.runtime.done == ["start c1", "stop c1", "remove c1"]


async def test_a_session_has_one_worker_at_a_time(crew: Crew, life: Life) -> None:
    await life.begin(crew.house.mailbox, resume=True)
    second = Life.of(crew.desk, crew.house.session, crew.house.agent)
    with pytest.raises(ContainerFailed, match="another worker"):
        await second.begin(crew.house.mailbox, resume=True)
    await second.end("refused")
    assert await live(crew) == [life.worker_id]
    assert len(crew.runtime.specs) == 1


@pytest.mark.parametrize("resume", [True, False])
async def test_the_launch_document_says_whether_a_cut_turn_goes_on(crew: Crew, life: Life, resume: bool) -> None:
    await life.begin(crew.house.mailbox, resume=resume)
    (document,) = crew.runtime.documents
    assert document["options"]["resume_interrupted"] is resume
    assert document["worker"] == life.worker_id
    assert document["secret"] == life.secret


async def begin_call(crew: Crew) -> None:
    call = NewCall(key="k1", worker_id="w1", action="roll", arguments="{}", digest="d1")
    await crew.house.mailbox.begin_call(call)
    await crew.house.mailbox.end_call("k1", "six", False)


async def test_whoever_takes_up_a_cut_turn_is_told_what_was_called_in_it(crew: Crew, life: Life) -> None:
    await begin_call(crew)
    await life.begin(crew.house.mailbox, resume=True)
    (document,) = crew.runtime.documents
    assert "<result>six</result>" in document["options"]["resume_prompt"]


@pytest.mark.parametrize("resume", [True, False])
async def test_nobody_is_told_of_nothing_or_of_another_turn(crew: Crew, life: Life, resume: bool) -> None:
    if not resume:
        await begin_call(crew)
    await life.begin(crew.house.mailbox, resume=resume)
    (document,) = crew.runtime.documents
    assert "resume_prompt" not in document["options"]


async def test_the_folders_of_a_worker_are_closed_to_others(crew: Crew, life: Life) -> None:
    await life.begin(crew.house.mailbox, resume=True)
    modes = {mount.target: stat.S_IMODE(mount.source.stat().st_mode) for mount in crew.runtime.specs[0].mounts[1:]}
    assert modes == {"/nanoclaw/inbox": 0o755, "/workspace": 0o700, "/home/agent": 0o700}


async def test_a_start_that_fails_leaves_no_claim_and_no_door(crew: Crew, life: Life) -> None:
    crew.runtime.answers = False
    with pytest.raises(RuntimeUnavailable):
        await life.begin(crew.house.mailbox, resume=True)
    await life.end("failed")
    assert await live(crew) == []
    assert crew.doors.closed == [life.worker_id]


async def test_a_container_that_cannot_be_stopped_still_frees_the_session(crew: Crew, life: Life) -> None:
    await life.begin(crew.house.mailbox, resume=True)
    crew.runtime.answers = False
    await life.end("the runtime is away")
    assert await live(crew) == []
    assert crew.doors.closed == [life.worker_id]


async def test_the_last_words_of_a_worker_are_kept(crew: Crew, life: Life) -> None:
    await life.begin(crew.house.mailbox, resume=True)
    await life.end("done")
    assert (crew.house.home / "logs" / "workers" / f"{life.name}.log").read_bytes() == b"its last words"


async def test_a_workspace_that_is_a_link_is_refused(crew: Crew, life: Life) -> None:
    groups = crew.house.home / "groups"
    groups.mkdir()
    (groups / "andy").symlink_to("/etc")
    with pytest.raises(HomeUnusable, match="andy"):
        await life.begin(crew.house.mailbox, resume=True)


async def test_a_secret_is_in_no_text_of_a_life(crew: Crew, life: Life) -> None:
    assert life.secret not in repr(life)
