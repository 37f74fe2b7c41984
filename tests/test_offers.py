"""What a channel of a plugin may do wrong while it is being made: it loses only itself."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from nanoclaw_core import Channel, ChannelContext, ChannelFactory, hookimpl, offers
from nanoclaw_core.offers import make_channels
from nanoclaw_core.plugins import load
from nanoclaw_core.settings import load as load_settings
from nanoclaw_core.supervise import Health, State
from nanoclaw_core.testing import FakeChannel, FakeClock

Create = Callable[[ChannelContext], Channel]


@pytest.fixture
def released() -> Iterator[threading.Event]:
    """Set when the test is over, for what hangs until then."""
    event = threading.Event()
    yield event
    event.set()


async def made(home: Path, monkeypatch: pytest.MonkeyPatch, **creates: Create) -> tuple[dict[str, Channel], dict[str, Health]]:
    """The channels that are made of these, and how all of them are."""
    platform: Any = ModuleType("nanoclaw_test_offers")
    factories = [ChannelFactory(name=name, summary="", create=create) for name, create in creates.items()]
    platform.nanoclaw_channels = hookimpl(lambda: factories)
    monkeypatch.setitem(sys.modules, "nanoclaw_test_offers", platform)
    settings = replace(load_settings({"NANOCLAW_HOME": "/nonexistent"}, home), home=home)
    return await make_channels(
        settings,
        load((), ("nanoclaw_test_offers",)),
        FakeClock(),
        lambda _, values: ChannelContext(settings=values, wake=lambda _: None),
    )


async def test_a_channel_that_calls_sys_exit_while_it_is_made_takes_nobody_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(_: ChannelContext) -> Channel:
        raise SystemExit("this library needs a licence")

    channels, healths = await made(tmp_path, monkeypatch, bad=leave, good=lambda _: FakeChannel())
    assert list(channels) == ["good"]
    assert (healths["bad"].state, healths["bad"].reason) == (State.ENDED, "SystemExit: this library needs a licence")


async def test_a_channel_that_hangs_while_it_is_made_does_not_keep_the_host_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, released: threading.Event
) -> None:
    def hang(_: ChannelContext) -> Channel:
        released.wait()
        return FakeChannel()

    monkeypatch.setattr(offers, "MADE_WITHIN", 0.01)
    channels, healths = await made(tmp_path, monkeypatch, hangs=hang, good=lambda _: FakeChannel())
    assert "good" in channels
    assert healths["hangs"].state is State.ENDED
    assert healths["hangs"].reason.startswith("its plugin did not make it within 0.01 s")
