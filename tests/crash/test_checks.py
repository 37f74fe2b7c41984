"""The checks find what they are for: each fault is put into a sound house, and is named."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from nanoclaw_core.delivery.losses import DOUBT
from tests.crash import checks
from tests.crash.checks import Findings, Kind
from tests.crash.containers import Docker, Found
from tests.crash.house import House
from tests.crash.world import Chat, Message, Sent, World
from tests.peers.docker_relay import CuttableSocket

SURE, PLAIN = (Chat(channel=kind, name=kind, agent="Andy") for kind in ("sure", "plain"))


@dataclass(kw_only=True)
class Shelf(Docker):
    """Containers that are there because a test says so."""

    shelved: list[Found] = field(default_factory=list)

    async def found(self) -> list[Found]:
        return self.shelved


@dataclass(kw_only=True)
class Scene:
    """A house after a point in which all went well, and its one message."""

    house: House
    message: Message

    def settle(self, *outcomes: str) -> None:
        rows = [("settled", json.dumps([self.message.id]), outcome) for outcome in outcomes]
        path = self.house.home / "sessions" / "andy" / "s1" / "outbound.db"
        with closing(sqlite3.connect(path)) as db, db:
            db.execute("DELETE FROM messages")
            db.executemany("INSERT INTO messages VALUES (?, ?, ?)", rows)

    def show(self, *texts: str) -> None:
        chat = self.message.chat
        self.house.world.sent[:] = [Sent(channel=chat.channel, chat=chat.name, key=text, text=text) for text in texts]

    def append(self, *numbers: int) -> None:
        (self.house.home / "groups" / "main" / "counted").write_text("".join(f"{number}\n" for number in numbers))

    def judge(self) -> Findings:
        findings = Findings()
        checks.judge_messages(self.house, [self.message], findings)
        return findings


MakeScene = Callable[[Chat], Scene]


@pytest.fixture
def relay() -> Iterator[CuttableSocket]:
    """One that nobody connects to."""
    relay = CuttableSocket()
    yield relay
    relay._folder.cleanup()


@pytest.fixture
def make_scene(tmp_path: Path, relay: CuttableSocket) -> MakeScene:
    def make(chat: Chat) -> Scene:
        for folder in ("sessions/andy/s1", "groups/main", "workers/w1"):
            (tmp_path / folder).mkdir(parents=True)
        with closing(sqlite3.connect(tmp_path / "sessions/andy/s1/outbound.db")) as db:
            db.executescript("CREATE TABLE messages (kind, settles, outcome); CREATE TABLE pushes (uuid)")
        with closing(sqlite3.connect(tmp_path / "nanoclaw.db")) as db:
            db.executescript(
                "CREATE TABLE events (message_id, routed_at); CREATE TABLE sessions (id, attention, settled);"
                "CREATE TABLE workers (id, ended_at); INSERT INTO workers VALUES ('w1', NULL)"
            )
        house = House(
            home=tmp_path,
            world=World(tmp_path),
            containers=Shelf(shelved=[Found(name="c1", worker="w1", state="running")]),
            relay=relay,
            chats=[chat],
            variables={},
        )
        scene = Scene(house=house, message=Message(number=7, chat=chat, steps=("bash", "count", "say")))
        scene.settle("answered")
        scene.show("note 7", "reply 6, reply 7")
        scene.append(6, 7)
        house.world.counted[7].append("key")
        return scene

    return make


@pytest.fixture
def scene(make_scene: MakeScene) -> Scene:
    return make_scene(SURE)


def test_nothing_is_found_where_nothing_is_wrong(scene: Scene) -> None:
    assert scene.judge() == Findings()


def test_a_reply_is_seen_once(scene: Scene) -> None:
    scene.show("note 7", "reply 6")
    assert [fault.kind for fault in scene.judge().faults] == [Kind.LOST]
    scene.show("note 7", "reply 7", "reply 7")
    assert [fault.kind for fault in scene.judge().faults] == [Kind.DOUBLED]


def test_a_reply_that_comes_again_at_a_later_point_is_found_in_the_end(scene: Scene) -> None:
    scene.house.world.messages[7] = scene.message
    scene.show("note 7", "reply 6, reply 7")
    findings = Findings()
    checks.judge_all(scene.house, findings)
    assert findings == Findings()
    scene.show("note 7", "reply 6, reply 7", "reply 7")
    checks.judge_all(scene.house, findings)
    assert [fault.kind for fault in findings.faults] == [Kind.DOUBLED]


@pytest.mark.parametrize(("chat", "kinds", "doubts"), [(PLAIN, [], 1), (SURE, [Kind.LOST], 0)], ids=["plain", "sure"])
def test_a_doubt_stands_for_a_reply_only_where_nobody_can_know(
    make_scene: MakeScene, chat: Chat, kinds: list[Kind], doubts: int
) -> None:
    scene = make_scene(chat)
    scene.show("note 7", DOUBT)
    findings = scene.judge()
    assert [fault.kind for fault in findings.faults] == kinds
    assert findings.doubts == doubts


def test_one_doubt_stands_for_one_reply(make_scene: MakeScene) -> None:
    scene = make_scene(PLAIN)
    scene.show(DOUBT)
    assert [fault.kind for fault in scene.judge().faults] == [Kind.LOST]


@pytest.mark.parametrize(
    ("outcomes", "kind"),
    [([], Kind.STUCK), (["failed"], Kind.LOST), (["answered", "answered"], Kind.DOUBLED)],
    ids=["none", "no answer", "two"],
)
def test_a_message_has_one_outcome_which_is_an_answer(scene: Scene, outcomes: list[str], kind: Kind) -> None:
    scene.settle(*outcomes)
    assert [fault.kind for fault in scene.judge().faults] == [kind]


def test_what_was_asked_for_was_done_and_what_was_done_again_is_counted(scene: Scene) -> None:
    scene.append(7, 7)
    assert scene.judge() == Findings(bash_again=1)
    scene.house.world.counted[7].append("another key")
    assert [fault.kind for fault in scene.judge().faults] == [Kind.DOUBLED]
    scene.append()
    scene.house.world.counted.clear()
    assert [fault.kind for fault in scene.judge().faults] == [Kind.LOST, Kind.LOST]


@pytest.mark.parametrize(
    ("database", "statement"),
    [
        ("nanoclaw.db", "INSERT INTO events VALUES ('m7', NULL)"),
        ("nanoclaw.db", "INSERT INTO sessions VALUES ('s1', 2, 1)"),
        ("sessions/andy/s1/outbound.db", "INSERT INTO pushes VALUES ('u1')"),
    ],
)
def test_what_waits_is_found(scene: Scene, database: str, statement: str) -> None:
    assert checks.stuck(scene.house) == []
    with closing(sqlite3.connect(scene.house.home / database)) as db, db:
        db.execute(statement)
    assert len(checks.stuck(scene.house)) == 1


async def test_claims_containers_and_sockets_belong_together(scene: Scene) -> None:
    assert await checks.left_over(scene.house) == []
    (scene.house.home / "workers" / "w2").mkdir()
    assert await checks.left_over(scene.house) == ["folders of sockets ['w1', 'w2'] are there for claims of ['w1']"]
    (scene.house.home / "workers" / "w2").rmdir()
    scene.house.containers = Shelf(shelved=[Found(name="c1", worker="w1", state="exited")])
    assert await checks.left_over(scene.house) == ["the container c1 has exited"]
    scene.house.containers = Shelf()
    assert await checks.left_over(scene.house) == ["containers [] are there for claims of ['w1']"]
