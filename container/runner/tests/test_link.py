"""The link comes back by itself, and loses and doubles nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import pytest
from miniature import SECRET, FakeHost, Home
from nanoclaw_runner.frames import PROTOCOLS, Heartbeat, Hello, Progress, TurnEnd, Usage
from nanoclaw_runner.link import Link, LinkEnded
from nanoclaw_runner.spool import Spool


class Recorder:
    """Takes the host's orders."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._changed = anyio.Event()

    async def connected(self) -> None: ...

    async def push(self, uuid: str, text: str, *, stream: bool) -> None:
        self._note(f"{uuid}: {text}" + " (stream)" * stream)

    async def interrupt(self) -> None:
        self._note("interrupt")

    def _note(self, order: str) -> None:
        self.heard.append(order)
        self._changed.set()
        self._changed = anyio.Event()

    async def until(self, number: int) -> list[str]:
        with anyio.fail_after(30):
            while len(self.heard) < number:
                await self._changed.wait()
        return self.heard


def end(number: int) -> TurnEnd:
    return TurnEnd(id=f"w1-{number}", covered=("u1",), text="x" * 100_000, conversation="c", failure=None, usage=Usage())


def make_link(home: Home, secret: str = SECRET) -> tuple[Link, Spool]:
    spool = Spool(home.state / "spool.jsonl")
    spool.load()
    return Link(str(home.socket), secret, Hello(protocols=PROTOCOLS, worker="w1", engine="none"), spool), spool


@asynccontextmanager
async def linked(home: Home, orders: Recorder) -> AsyncIterator[tuple[Link, Spool]]:
    link, spool = make_link(home)
    async with anyio.create_task_group() as group:
        group.start_soon(link.run, orders)
        yield link, spool
        group.cancel_scope.cancel()


async def test_it_says_hello_and_hands_orders_on(home: Home, host: FakeHost) -> None:
    orders = Recorder()
    async with linked(home, orders):
        assert (await host.until(Hello)).worker == "w1"
        await host.push("u1", "שלום 🤖")
        await host.say_when_connected('{"type": "interrupt"}')
        assert await orders.until(2) == ["u1: שלום 🤖", "interrupt"]


async def test_a_frame_is_sent_with_every_connection_until_it_is_acknowledged(home: Home) -> None:
    host = FakeHost(home.socket)
    host.acks = False
    async with linked(home, Recorder()) as (link, spool):
        async with host.up():
            await host.until(Hello)
            await link.deliver(end(1))
            await host.until(TurnEnd)
        host.acks = True
        async with host.up():
            assert (await host.until(TurnEnd, 2)).id == "w1-1"
            with anyio.fail_after(30):
                await spool.drained()


async def test_what_was_delivered_during_an_outage_arrives_in_order(home: Home) -> None:
    host = FakeHost(home.socket)
    async with linked(home, Recorder()) as (link, spool):
        await link.deliver(end(1))
        await link.deliver(end(2))
        await link.mention(Progress(note="nobody hears this"))
        async with host.up():
            with anyio.fail_after(30):
                await spool.drained()
    assert [frame.id for frame in host.of(TurnEnd)] == ["w1-1", "w1-2"]
    assert host.of(Progress) == []


async def test_mentions_reach_a_listening_host(home: Home, host: FakeHost) -> None:
    orders = Recorder()
    async with linked(home, orders) as (link, _):
        await host.push("u1", "x")
        await orders.until(1)
        await link.mention(Heartbeat())
        await host.until(Heartbeat)


async def test_it_asks_again_when_the_secret_is_refused(home: Home, host: FakeHost) -> None:
    link, _ = make_link(home, "wrong")
    with pytest.raises(TimeoutError), anyio.fail_after(0.3):
        await link.run(Recorder())
    assert host.frames == []


async def test_it_ends_when_the_host_says_shutdown(home: Home, host: FakeHost) -> None:
    link, _ = make_link(home)
    async with anyio.create_task_group() as group:
        group.start_soon(link.run, Recorder())
        await host.until(Hello)
        with anyio.fail_after(30):
            await host.say_when_connected('{"type": "shutdown"}')


@pytest.mark.parametrize(("code", "reason"), [(4001, "replaced"), (4400, "refused a frame"), (4406, "no common protocol")])
async def test_it_does_not_come_back_when_it_is_closed_for_good(home: Home, host: FakeHost, code: int, reason: str) -> None:
    link, _ = make_link(home)
    host.close_with = code
    with pytest.raises(LinkEnded, match=reason), anyio.fail_after(30):
        await link.run(Recorder())


async def test_it_comes_back_after_any_other_close(home: Home, host: FakeHost) -> None:
    async with linked(home, Recorder()):
        host.close_with = 1011
        await host.until(Hello, 2)


async def test_garbage_from_the_host_costs_only_the_connection(home: Home, host: FakeHost) -> None:
    async with linked(home, Recorder()):
        await host.until(Hello)
        await host.say_when_connected("no json")
        await host.until(Hello, 2)
