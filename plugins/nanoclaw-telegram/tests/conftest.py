"""The channel under test, a host and a Telegram of its own; every test runs under all guards."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from nanoclaw_telegram.channel import TelegramChannel
from tests.peers.host import Host
from tests.peers.telegram import TelegramPeer


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Telegram's library is bound to asyncio."""
    return "asyncio"


@pytest.fixture(autouse=True)
def guards(nanoclaw_environment_guard: None, nanoclaw_network_guard: None, nanoclaw_loop_guard: None) -> None:
    """No test leaves this machine, changes the environment for the next one, or blocks the event loop."""


@pytest.fixture
async def platform() -> AsyncIterator[TelegramPeer]:
    async with TelegramPeer() as running:
        yield running


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def settings(platform: TelegramPeer) -> dict[str, str]:
    """What the owner has set."""
    return {"TELEGRAM_BOT_TOKEN": platform.token, "TELEGRAM_API_URL": platform.url}


@pytest.fixture
def telegram(host: Host, settings: dict[str, str]) -> TelegramChannel:
    """The channel under test."""
    return TelegramChannel(host.context(settings))
