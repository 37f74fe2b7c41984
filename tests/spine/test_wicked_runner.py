"""What comes over a worker's socket from somebody who does not keep to the protocol, in a host that goes on."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
import yarl

from nanoclaw_core.gateway import uploads
from nanoclaw_core.host import Host
from tests.spine.spine import Spine, runner_that, until

IDLE = "import signal; signal.pause()"


class Puppet:
    """A runner whose every frame is written by the test. It plays the worker that the host started last."""

    def __init__(self, spine: Spine, host: Host, document: dict[str, Any]) -> None:  # Any: as in the launch document
        self.spine = spine
        self.host = host
        self.worker: str = document["worker"]
        self.secret: str = document["secret"]

    @asynccontextmanager
    async def connect(self, secret: str | None = None) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        path = str(self.spine.home / "workers" / self.worker / "gateway.sock")
        headers = {"Authorization": f"Bearer {secret or self.secret}"}
        async with (
            aiohttp.ClientSession(connector=aiohttp.UnixConnector(path)) as session,
            session.ws_connect("http://gateway/link", headers=headers, max_msg_size=0) as link,
        ):
            yield link

    @asynccontextmanager
    async def client(self) -> AsyncIterator[aiohttp.ClientSession]:
        """Requests as its engine makes them, each over a connection of its own."""
        path = str(self.spine.home / "workers" / self.worker / "gateway.sock")
        connector = aiohttp.UnixConnector(path, force_close=True)
        async with aiohttp.ClientSession("http://gateway", connector=connector) as session:
            yield session

    async def greet(self, link: aiohttp.ClientWebSocketResponse, worker: str | None = None) -> None:
        await link.send_json({"type": "hello", "protocols": [1], "worker": worker or self.worker, "engine": "puppet"})

    @asynccontextmanager
    async def linked(self) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        async with self.connect() as link:
            await self.greet(link)
            assert (await link.receive_json())["type"] == "welcome"
            yield link

    def end(self, number: int, covered: Sequence[str], text: str) -> str:
        frame = {"type": "turn_end", "id": f"{self.worker}-{number}", "covered": covered, "text": text}
        return json.dumps({**frame, "conversation": "c1", "failure": None, "usage": {}})


Stage = AbstractAsyncContextManager[Puppet]


@pytest.fixture
def stage(spine: Spine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    return _set(spine, monkeypatch, tmp_path)


@asynccontextmanager
async def _set(spine: Spine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Puppet]:
    """The first worker, which has one message to answer; the next ones are real."""
    async with spine.host() as host, spine.no_pauses(host):
        with monkeypatch.context() as patch:
            runner_that(patch, tmp_path, IDLE)
            await spine.chat.say("hello")
            document = await spine.runtime.started(1)
        yield Puppet(spine, host, document)


async def answered_by_the_next_worker(spine: Spine) -> None:
    assert await spine.texts(1) == ["You said: hello"]
    assert await spine.settled() == [(("message-1",), "answered")]
    assert len(spine.runtime.documents) == 2


async def close_code(link: aiohttp.ClientWebSocketResponse) -> int | None:
    """How the host ends this link; its frames before that are passed over."""
    async for _ in link:
        pass
    return link.close_code


@pytest.mark.parametrize(
    "frame",
    ["garbage", "[]", '{"type": "rm -rf"}', '{"type": "turn_end", "id": 7}', '{"type": "hello"}', "[" * 100_000],
    ids=["no JSON", "no object", "unknown type", "wrong fields", "second hello", "nested"],
)
async def test_a_frame_that_is_none_ends_the_worker_and_the_message_is_answered(stage: Stage, spine: Spine, frame: str) -> None:
    async with stage as puppet:
        async with puppet.linked() as link:
            await link.send_str(frame)
            assert await close_code(link) == 4400
        await answered_by_the_next_worker(spine)


async def test_bytes_end_the_worker(stage: Stage, spine: Spine) -> None:
    async with stage as puppet:
        async with puppet.linked() as link:
            await link.send_bytes(b"\x00\xff")
            assert await close_code(link) == 4400
        await answered_by_the_next_worker(spine)


async def test_a_frame_beyond_the_limit_ends_the_worker(stage: Stage, spine: Spine) -> None:
    async with stage as puppet:
        with suppress(ConnectionError):  # the host hangs up before it has heard it all
            async with puppet.linked() as link:
                await link.send_str(puppet.end(1, [], "x" * (16 * 1024 * 1024)))
                await close_code(link)
        await answered_by_the_next_worker(spine)


async def test_a_hello_in_another_workers_name_ends_the_worker(stage: Stage, spine: Spine) -> None:
    async with stage as puppet:
        async with puppet.connect() as link:
            await puppet.greet(link, worker="w000000000000")
            assert await close_code(link) == 4400
        await answered_by_the_next_worker(spine)


async def test_a_wrong_secret_is_refused_and_harms_nobody(stage: Stage, spine: Spine) -> None:
    async with stage as puppet:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            async with puppet.connect(secret="guessed"):
                pass
        assert refused.value.status == 401
        async with puppet.linked() as link:
            push = await link.receive_json()
            await link.send_str(puppet.end(1, [push["uuid"]], "I am the real one."))
            assert await spine.texts(1) == ["I am the real one."]
        assert len(spine.runtime.documents) == 1


async def test_an_end_that_covers_pushes_of_another_session_says_nothing_anywhere(stage: Stage, spine: Spine) -> None:
    async with stage as puppet:
        await spine.wire(puppet.host, chat="chat-2")
        async with puppet.linked() as link:
            push = await link.receive_json()
            await link.send_str(puppet.end(1, ["00000000-0000-0000-0000-000000000000"], "Send me your password."))
            assert await link.receive_json() == {"type": "ack", "id": f"{puppet.worker}-1"}
            await link.send_str(puppet.end(2, [push["uuid"], "another"], "The answer."))
            await spine.settled()
        assert await spine.texts(1) == ["The answer."]
        assert not spine.files_holding("password")


async def test_a_repeated_end_is_stored_once_and_acknowledged_each_time(stage: Stage, spine: Spine) -> None:
    async with stage as puppet:
        async with puppet.linked() as link:
            push = await link.receive_json()
            for _ in range(3):
                await link.send_str(puppet.end(1, [push["uuid"]], "The answer."))
                assert await link.receive_json() == {"type": "ack", "id": f"{puppet.worker}-1"}
            await spine.chat.say("again")
            push = await link.receive_json()
            await link.send_str(puppet.end(2, [push["uuid"]], "The second answer."))
            await spine.settled(2)
        assert await spine.texts(2) == ["The answer.", "The second answer."]
        assert len(spine.chat.settlements) == 2


async def test_a_second_link_takes_the_place_of_the_first(stage: Stage, spine: Spine) -> None:
    async with stage as puppet, puppet.linked() as first:
        push = await first.receive_json()
        async with puppet.linked() as second:
            assert await close_code(first) == 4001
            assert await second.receive_json() == push
            await second.send_str(puppet.end(1, [push["uuid"]], "The answer."))
            assert await spine.texts(1) == ["The answer."]
            await spine.settled()


async def test_an_end_that_was_not_acknowledged_is_taken_from_the_next_link(stage: Stage, spine: Spine) -> None:
    async with stage as puppet:
        async with puppet.linked() as link:
            push = await link.receive_json()
            await link.send_str(puppet.end(1, [push["uuid"]], "The answer."))
        async with puppet.linked() as link:
            await link.send_str(puppet.end(1, [push["uuid"]], "The answer."))
            while (await link.receive_json())["type"] != "ack":
                pass
        assert await spine.texts(1) == ["The answer."]
        assert len(await spine.settled()) == 1


async def test_files_that_are_not_what_they_say_leave_nothing_anywhere(stage: Stage, spine: Spine) -> None:
    name, length = "0" * 64 + "-" + "0" * 16, {"Content-Length": str(2**40)}
    async with stage as puppet:
        before = set(spine.home.rglob("*"))
        async with puppet.client() as client:
            for path, content, headers, status in (
                (f"/files/{name}", b"another content", {}, 422),
                (f"/files/{name}", b"huge", length, 413),
                ("/files/..%2f..%2f..%2f..%2fnanoclaw.db", b"x", {}, 404),
                (f"/files/{name}%2f..%2f..%2foutbound.db", b"x", {}, 404),
                (f"/files/{name}%00", b"x", {}, 404),
            ):
                with suppress(aiohttp.ClientConnectionError):  # what is refused is not heard to its end
                    async with client.put(yarl.URL(path, encoded=True), data=content, headers=headers) as answer:
                        assert (path, answer.status) == (path, status)
        made = set(spine.home.rglob("*")) - before
        assert {path.name for path in made if "outbox" in path.parts} == {"outbox"}
        spine.runtime.kill_all()
        await answered_by_the_next_worker(spine)


async def test_a_flood_of_files_ends_at_its_limit_and_the_host_goes_on(
    stage: Stage, spine: Spine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "MOST_FILES", 5)
    statuses: Counter[int] = Counter()
    content = hashlib.sha256(b"x").hexdigest()

    async def flood(client: aiohttp.ClientSession, number: int) -> None:
        async with client.put(f"/files/{content}-{number:016x}", data=b"x") as answer:
            statuses[answer.status] += 1

    async with stage as puppet:
        async with puppet.client() as client, anyio.create_task_group() as tasks:
            for number in range(60):
                tasks.start_soon(flood, client, number)
        assert statuses.keys() == {201, 429}
        assert statuses[201] in (5, 6)  # two come at a time
        spine.runtime.kill_all()
        await answered_by_the_next_worker(spine)


async def test_a_file_that_a_call_makes_up_is_not_read(stage: Stage, spine: Spine) -> None:
    async with stage as puppet:
        async with puppet.client() as client:
            for upload in ("../outbound.db", "/etc/passwd", "0" * 64 + "-" + "0" * 16):
                arguments = {"path": {"path": "/etc/passwd", "upload": upload}, "to": "family"}
                params = {"name": "send_file", "arguments": arguments}
                message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
                async with client.post("/mcp", json=message) as answer:
                    assert (await answer.json())["result"]["isError"]
        spine.runtime.kill_all()
        await answered_by_the_next_worker(spine)


async def test_a_runner_that_breaks_the_rules_every_time_is_given_up(
    spine: Spine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runner_that(monkeypatch, tmp_path, IDLE)
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("hello")
        for life in (1, 2, 3):
            puppet = Puppet(spine, host, await spine.runtime.started(life))
            async with puppet.linked() as link:
                await link.send_str("garbage")
                await close_code(link)
        (notice,) = await spine.texts(1)
        assert "broke the protocol" in notice
        await spine.settled()
        await until(lambda: not host.pool.shifts)
