"""Users, agents, chats, sessions and workers: each rule that the schema keeps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import Connection
from sqlalchemy.exc import NoResultFound

from nanoclaw_core.errors import InvalidPattern
from nanoclaw_core.models import AgentGroup, EngageMode, MessagingGroup, Session
from nanoclaw_core.store import agents, chats, installation, pairings, people, sessions, workers
from nanoclaw_core.store.database import Database


def make_agent(conn: Connection, name: str = "Andy", folder: str = "andy", is_main: bool = False) -> AgentGroup:
    return agents.create_agent_group(conn, name=name, folder=folder, now=1.0, is_main=is_main)


def make_chat(conn: Connection, chat: str = "42", name: str = "Family", is_group: bool = True) -> MessagingGroup:
    return chats.ensure_messaging_group(conn, channel="telegram", account="", chat=chat, name=name, is_group=is_group, now=1.0)


def make_session(conn: Connection, thread: str | None = None) -> Session:
    agent = agents.agent_group_named(conn, "Andy") or make_agent(conn)
    chat = make_chat(conn)
    return sessions.ensure_session(conn, agent_group_id=agent.id, messaging_group_id=chat.id, thread=thread, now=1.0)


def claim(conn: Connection, worker_id: str, session_id: str) -> bool:
    return workers.claim_worker(conn, worker_id=worker_id, session_id=session_id, secret_hash="h", image="i", now=1.0)


# --- people ---


async def test_an_owner_is_who_was_granted_it_everywhere(db: Database) -> None:
    def grants(conn: Connection) -> list[bool]:
        agent = make_agent(conn)
        for user in ("t:ada", "t:bob", "t:eve"):
            people.upsert_user(conn, user, user, 1.0)
        people.grant(conn, "t:ada", people.OWNER, 1.0)
        people.grant(conn, "t:bob", people.OWNER, 1.0, agent.id)
        return [people.is_owner(conn, user) for user in ("t:ada", "t:bob", "t:eve", "t:unknown")]

    assert await db.write(grants) == [True, False, False, False]


async def test_a_role_that_is_granted_twice_is_one_role(db: Database) -> None:
    def grants(conn: Connection) -> list[people.Role]:
        agent = make_agent(conn)
        people.upsert_user(conn, "t:ada", "Ada", 1.0)
        for _ in range(2):
            people.grant(conn, "t:ada", "admin", 1.0)
            people.grant(conn, "t:ada", "admin", 1.0, agent.id)
        return people.roles_of(conn, "t:ada")

    assert [role.agent_group_id is None for role in await db.write(grants)] == [True, False]


# --- agents ---


async def test_agents_are_found_by_name_before_folder_whatever_the_case(db: Database) -> None:
    def find(conn: Connection) -> list[str | None]:
        make_agent(conn, "Andy", "eva")
        make_agent(conn, "Eva", "other")
        make_agent(conn, "ÄRGER", "third")
        found = [agents.agent_group_named(conn, name) for name in ("ANDY", "eva", "OTHER", "ärger", "nobody")]
        return [None if group is None else group.folder for group in found]

    assert await db.write(find) == ["eva", "other", "other", "third", None]


@pytest.mark.parametrize("folder", ["", "global", "Global", "-a", "a/b", "..", "a" * 65, "ä", "a\n"])
async def test_a_folder_that_could_lead_elsewhere_is_refused(db: Database, folder: str) -> None:
    with pytest.raises(agents.FolderInvalid):
        await db.write(lambda conn: make_agent(conn, "Andy", folder))


@pytest.mark.parametrize(
    ("name", "folder", "is_main"), [("andy", "other", False), ("Eva", "ANDY", False), ("Eva", "eva", True)]
)
async def test_names_folders_and_the_main_agent_are_unique(db: Database, name: str, folder: str, is_main: bool) -> None:
    first = await db.write(lambda conn: make_agent(conn, "Andy", "andy", is_main=True))
    with pytest.raises(agents.AgentGroupExists):
        await db.write(lambda conn: make_agent(conn, name, folder, is_main))
    assert await db.read(agents.agent_groups) == [first]
    assert await db.read(agents.main_agent_group) == first


async def test_an_agent_that_is_not_there_is_an_error(db: Database) -> None:
    with pytest.raises(NoResultFound):
        await db.read(lambda conn: agents.agent_group(conn, "nothing"))


# --- chats ---


async def test_a_chat_is_known_once_and_its_name_refreshes(db: Database) -> None:
    first = await db.write(make_chat)
    assert await db.write(partial(make_chat, name="")) == first
    renamed = await db.write(partial(make_chat, name="Relatives"))
    assert (renamed.id, renamed.name) == (first.id, "Relatives")
    assert await db.read(lambda conn: chats.find_messaging_group(conn, "telegram", "", "42")) == renamed
    assert await db.read(lambda conn: chats.find_messaging_group(conn, "telegram", "other", "42")) is None


async def test_wiring_again_changes_the_rule(db: Database) -> None:
    def wire(conn: Connection, mode: EngageMode, pattern: str) -> list[tuple[EngageMode, str]]:
        agent = agents.agent_group_named(conn, "Andy") or make_agent(conn)
        chat = make_chat(conn)
        chats.wire(conn, messaging_group_id=chat.id, agent_group_id=agent.id, engage_mode=mode, pattern=pattern, now=1.0)
        assert chats.destinations(conn, agent.id) == [chat]
        return [(wiring.engage_mode, wiring.pattern) for wiring in chats.wirings_of(conn, chat.id)]

    assert await db.write(partial(wire, mode=EngageMode.PATTERN, pattern=".")) == [(EngageMode.PATTERN, ".")]
    assert await db.write(partial(wire, mode=EngageMode.MENTION, pattern="@A(")) == [(EngageMode.MENTION, "@A(")]
    with pytest.raises(InvalidPattern):
        await db.write(partial(wire, mode=EngageMode.PATTERN, pattern="@A("))


# --- sessions ---


async def test_a_chat_has_one_session_for_each_thread(db: Database) -> None:
    def make(conn: Connection) -> list[str]:
        return [make_session(conn, thread).id for thread in (None, "7", None, "", "7", "8")]

    plain, seven, again, empty, seven_again, eight = await db.write(make)
    assert plain == again == empty
    assert seven == seven_again
    assert len({plain, seven, eight}) == 3
    assert {session.folder for session in await db.read(sessions.sessions)} == {
        f"sessions/andy/{session_id}" for session_id in (plain, seven, eight)
    }


async def test_attention_that_came_after_the_look_is_not_settled(db: Database) -> None:
    session = await db.write(make_session)
    assert await db.read(sessions.attention) == []
    await db.write(partial(sessions.mark_attention, session_id=session.id))
    ((marked, seen),) = await db.read(sessions.attention)
    assert marked == session
    await db.write(partial(sessions.mark_attention, session_id=session.id))
    await db.write(partial(sessions.settle, session_id=session.id, seen=seen))
    ((_, later),) = await db.read(sessions.attention)
    await db.write(partial(sessions.settle, session_id=session.id, seen=later))
    await db.write(partial(sessions.settle, session_id=session.id, seen=seen))  # an old look changes nothing
    assert await db.read(sessions.attention) == []


# --- workers ---


async def test_a_session_has_one_live_worker(db: Database) -> None:
    session, other = await db.write(make_session), await db.write(partial(make_session, thread="7"))
    claims = [("w1", session), ("w2", session), ("w3", other)]
    assert [await db.write(partial(claim, worker_id=w, session_id=s.id)) for w, s in claims] == [True, False, True]
    await db.write(partial(workers.started, worker_id="w1", container_id="c1", now=2.0))
    await db.write(partial(workers.end_worker, worker_id="w1", reason="idle", now=3.0))
    await db.write(partial(workers.end_worker, worker_id="w1", reason="swept", now=4.0))
    assert await db.write(partial(claim, worker_id="w4", session_id=session.id))
    assert [worker.id for worker in await db.read(workers.live_workers)] == ["w3", "w4"]


async def test_a_live_worker_is_remembered_with_everything_that_finds_it_again(db: Database) -> None:
    session = await db.write(make_session)
    await db.write(partial(claim, worker_id="w1", session_id=session.id))
    await db.write(partial(workers.started, worker_id="w1", container_id="c1", now=2.0))
    assert await db.read(workers.live_workers) == [
        workers.WorkerRecord(
            id="w1",
            session_id=session.id,
            secret_hash="h",
            image="i",
            container_id="c1",
            claimed_at=1.0,
            started_at=2.0,
            ended_at=None,
            reason=None,
            adoptions=0,
        )
    ]


async def test_adoptions_are_counted_until_the_worker_has_proved_itself(db: Database) -> None:
    session = await db.write(make_session)
    await db.write(partial(claim, worker_id="w1", session_id=session.id))
    adopt = partial(workers.adopt_worker, worker_id="w1", container_id="c1", now=2.0)
    assert [await db.write(adopt) for _ in range(2)] == [1, 2]
    (record,) = await db.read(workers.live_workers)
    assert (record.container_id, record.started_at) == ("c1", 2.0)
    await db.write(partial(workers.forget_adoptions, worker_id="w1"))
    assert await db.write(adopt) == 1
    await db.write(partial(workers.end_worker, worker_id="w1", reason="idle", now=3.0))
    assert await db.write(adopt) is None


# --- pairings ---


async def test_a_channel_has_one_pairing_the_last(db: Database) -> None:
    begin = partial(pairings.open_pairing, channel="telegram", now=1.0, expires_at=601.0)
    await db.write(partial(begin, code_hash="first"))
    await db.write(partial(pairings.save_pairing, pairing=replace(await only_pairing(db), guesses=3, used_by="m")))
    second = await db.write(partial(begin, code_hash="second"))
    assert await only_pairing(db) == second
    assert second == pairings.Pairing(channel="telegram", code_hash="second", expires_at=601.0)


async def test_what_became_of_a_pairing_is_kept_unless_there_is_another(db: Database) -> None:
    begin = partial(pairings.open_pairing, channel="telegram", now=1.0, expires_at=601.0)
    first = await db.write(partial(begin, code_hash="first"))
    ended = replace(first, guesses=10, end=pairings.PairingEnd.GUESSED)
    await db.write(partial(pairings.save_pairing, pairing=ended))
    assert await only_pairing(db) == ended
    second = await db.write(partial(begin, code_hash="second"))
    await db.write(partial(pairings.save_pairing, pairing=ended))  # of the code before
    assert await only_pairing(db) == second


async def only_pairing(db: Database) -> pairings.Pairing:
    (found,) = (await db.read(pairings.all_pairings)).values()
    return found


def test_a_pairing_is_open_until_it_ends_or_its_time_is_over() -> None:
    pairing = pairings.Pairing(channel="telegram", code_hash="h", expires_at=601.0)
    assert [pairing.is_open(now) for now in (1.0, 600.9, 601.0)] == [True, True, False]
    assert not replace(pairing, end=pairings.PairingEnd.SEEN).is_open(1.0)


# --- the installation ---


async def test_an_installation_keeps_its_id(db: Database) -> None:
    first = await db.write(installation.installation_id)
    assert len(bytes.fromhex(first)) == 16
    assert await db.write(installation.installation_id) == first
