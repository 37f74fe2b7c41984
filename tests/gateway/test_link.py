"""The link: who may hold it, in which order things are told, and what ends it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import anyio
import pytest
from aiohttp import WSMsgType, WSServerHandshakeError
from structlog.testing import capture_logs

from nanoclaw_core.gateway import link as link_module
from nanoclaw_core.models import Push

END = {
    "type": "turn_end",
    "id": "w1-1",
    "covered": ["u1"],
    "text": "42",
    "conversation": "c1",
    "failure": None,
    "usage": {"model_calls": 1},
}
HELLO = {"type": "hello", "protocols": [1], "worker": "w1", "engine": "test 1"}


async def closed_with(link: Any) -> int:
    """Read until the host closes; the code it gave."""
    with anyio.fail_after(30):
        while (await link.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.ERROR):
            pass
    return int(link.close_code)


async def test_a_turn_goes_down_and_its_end_comes_up(rig: Any) -> None:
    async with rig.link() as link:
        assert await link.receive_json() == {"type": "welcome", "protocol": 1}
        await rig.heard.wait_for("connected")
        await rig.heard.links[0].push(Push(uuid="u1", text="six times seven?"))
        assert await link.receive_json() == {"type": "push", "uuid": "u1", "text": "six times seven?", "stream": False}
        await link.send_json(END)
        assert (await rig.heard.wait_for("turn_ended")).text == "42"
        assert await link.receive_json() == {"type": "ack", "id": "w1-1"}


async def test_a_runner_that_does_not_read_loses_its_link(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was stopped, say: whoever speaks to it must not wait for ever."""
    monkeypatch.setattr(link_module, "PATIENCE", 0.05)
    async with rig.link() as link:
        await link.receive_json()
        await rig.heard.wait_for("connected")
        link._conn.transport.pause_reading()
        await rig.heard.links[0].push(Push(uuid="u1", text="x" * 8_000_000))
        await rig.heard.wait_for("disconnected")


async def test_an_end_is_acknowledged_only_when_it_is_stored(rig: Any) -> None:
    rig.heard.storing = anyio.Event()
    async with rig.link() as link:
        await link.receive_json()
        await link.send_json(END)
        await rig.heard.began_to_store.wait()
        with anyio.move_on_after(0.05) as waiting:
            await link.receive()
        assert waiting.cancelled_caught
        rig.heard.storing.set()
        assert await link.receive_json() == {"type": "ack", "id": "w1-1"}


async def test_an_end_is_stored_whole_even_if_the_runner_is_gone_meanwhile(rig: Any) -> None:
    rig.heard.storing = anyio.Event()
    async with rig.link() as link:
        await link.send_json(END)
        await rig.heard.began_to_store.wait()
        link._response.connection.transport.abort()
    await anyio.wait_all_tasks_blocked()
    rig.heard.storing.set()
    await rig.heard.wait_for("disconnected")
    assert rig.heard.names == ["connected", "turn_ended", "disconnected"]


async def test_interrupt_and_shutdown_reach_the_runner_and_a_broken_link_is_silent(rig: Any) -> None:
    async with rig.link() as link:
        await link.receive_json()
        await rig.heard.wait_for("connected")
        (held,) = rig.heard.links
        await held.interrupt()
        await held.shutdown()
        assert [(await link.receive_json())["type"] for _ in range(2)] == ["interrupt", "shutdown"]
    await rig.heard.wait_for("disconnected")
    await held.push(Push(uuid="u1", text="too late"))


async def test_progress_heartbeats_and_the_engines_death_are_told_in_order(rig: Any) -> None:
    async with rig.link() as link:
        await link.receive_json()
        await link.send_json({"type": "progress", "note": "Bash: id -u"})
        await link.send_json({"type": "heartbeat"})
        await link.send_json({"type": "failed", "id": "w1-2", "detail": "Claude Code ended with code 137"})
        assert await link.receive_json() == {"type": "ack", "id": "w1-2"}
    assert [what for _, _, what in rig.heard.log[1:4]] == ["Bash: id -u", "", "Claude Code ended with code 137"]


@pytest.mark.parametrize("secret", ["wrong", "", "\N{SNOWMAN}"])
async def test_without_the_secret_there_is_no_link(rig: Any, secret: str) -> None:
    with capture_logs() as logs, pytest.raises(WSServerHandshakeError, match="401"):
        async with rig.link(secret=secret):
            pass
    assert [entry["event"] for entry in logs] == ["link.wrong_secret"]
    assert rig.heard.log == []


async def test_no_common_version_closes_with_4406_and_blames_nobody(rig: Any) -> None:
    async with rig.link(hello={**HELLO, "protocols": [7, 8]}) as link:
        assert await closed_with(link) == 4406
    assert rig.heard.log == []


async def test_the_highest_common_version_is_chosen(rig: Any) -> None:
    async with rig.link(hello={**HELLO, "protocols": [9, 1]}) as link:
        assert (await link.receive_json())["protocol"] == 1


@pytest.mark.parametrize(
    ("hello", "then", "reason"),
    [
        ({**HELLO, "worker": "w2"}, None, "the hello of another worker"),
        (END, None, "the first frame is no hello"),
        (HELLO, HELLO, "a second hello"),
        (HELLO, {"type": "sudo"}, "Invalid value 'sudo'"),
        (HELLO, ["no object"], "Expected `object`"),
    ],
    ids=["another worker", "no hello", "two hellos", "unknown type", "no object"],
)
async def test_who_breaks_the_protocol_is_closed_with_4400_and_reported(rig: Any, hello: Any, then: Any, reason: str) -> None:
    async with rig.link(hello=hello) as link:
        if then is not None:
            await link.send_json(then)
        assert await closed_with(link) == 4400
    assert (await rig.heard.wait_for("failed")).startswith(f"broke the protocol: {reason}")


async def test_a_binary_frame_breaks_the_protocol(rig: Any) -> None:
    async with rig.link() as link:
        await link.send_bytes(b"\x00")
        assert await closed_with(link) == 4400


async def test_a_frame_beyond_16_mib_ends_the_link(rig: Any) -> None:
    async with rig.link() as link:
        with suppress(ConnectionError):  # the host does not wait for the end of it
            await link.send_str("x" * (16 * 1024 * 1024 + 1))
        assert "exceeds limit" in await rig.heard.wait_for("failed")


async def test_silence_instead_of_a_hello_is_not_waited_for(make_rig: Any) -> None:
    async with make_rig(hello_within=0.01) as rig, rig.link(hello={}) as link:
        assert await closed_with(link) == 4400
        assert await rig.heard.wait_for("failed") == "broke the protocol: no hello within 0.01 s"


async def test_a_new_link_replaces_the_old_one_without_a_disconnect(rig: Any) -> None:
    async with rig.link() as old:
        await rig.heard.wait_for("connected")
        async with rig.link() as new:
            assert await closed_with(old) == 4001
            await rig.heard.wait_for("connected", times=2)
            await rig.heard.links[-1].push(Push(uuid="u1", text="hello"))
            assert [(await new.receive_json())["type"] for _ in range(2)] == ["welcome", "push"]
    await rig.heard.wait_for("disconnected")
    assert rig.heard.names == ["connected", "connected", "disconnected"]


async def test_what_the_old_link_said_is_told_before_the_new_one_counts(rig: Any) -> None:
    rig.heard.storing = anyio.Event()
    async with rig.link() as old:
        await old.send_json(END)
        await rig.heard.began_to_store.wait()
        async with rig.link() as new:
            assert (await new.receive_json())["type"] == "welcome"
            await anyio.wait_all_tasks_blocked()
            assert rig.heard.names == ["connected"]
            rig.heard.storing.set()
            await rig.heard.wait_for("connected", times=2)
            assert rig.heard.names == ["connected", "turn_ended", "connected"]


async def test_a_wrong_secret_does_not_disturb_the_link(rig: Any) -> None:
    async with rig.link() as link:
        await link.receive_json()
        with pytest.raises(WSServerHandshakeError):
            async with rig.link(secret="wrong"):
                pass
        await link.send_str(json.dumps(END))
        assert (await link.receive_json())["type"] == "ack"


async def test_what_the_engine_writes_is_told_with_what_cannot_be_stored_repaired(rig: Any) -> None:
    async with rig.link() as link:
        await link.send_json({"type": "preview", "text": "It is\u0000 \ud83d"})
        assert await rig.heard.wait_for("previewed") == "It is\ufffd \ufffd"


async def test_of_a_flood_of_previews_only_the_first_one_is_heard(rig: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_module, "PREVIEW_PAUSE", 3600.0)
    async with rig.link() as link:
        for number in range(1000):
            await link.send_json({"type": "preview", "text": f"number {number}"})
        await link.send_json(END)
        await rig.heard.wait_for("turn_ended")
    assert [what for name, _, what in rig.heard.log if name == "previewed"] == ["number 0"]


async def test_a_preview_beyond_its_limit_breaks_the_protocol(rig: Any) -> None:
    async with rig.link() as link:
        await link.send_json({"type": "preview", "text": "x" * 16_000})
        await rig.heard.wait_for("previewed")
        await link.send_json({"type": "preview", "text": "x" * 16_001})
        assert await closed_with(link) == 4400
    assert "broke the protocol" in await rig.heard.wait_for("failed")
