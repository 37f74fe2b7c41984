"""Setting the channel up says whose token it is, or what is wrong with it."""

from __future__ import annotations

import pytest

from nanoclaw_core import ChannelRevoked, NanoClawError
from nanoclaw_telegram.check import check
from tests.peers.telegram import Refusal, TelegramPeer


async def test_a_good_token_is_told_with_its_bot(platform: TelegramPeer, settings: dict[str, str]) -> None:
    settings["TELEGRAM_BOT_TOKEN"] += "\n"
    settings["TELEGRAM_API_URL"] += "/"
    assert await check(settings) == "@andy_test_bot (Andy); in groups it sees what is meant for it"


@pytest.mark.parametrize("token", ["", "nonsense", "123456789:AAwrong"])
async def test_a_bad_token_is_told(settings: dict[str, str], token: str) -> None:
    with pytest.raises(ChannelRevoked):
        await check(settings | {"TELEGRAM_BOT_TOKEN": token})


async def test_a_telegram_that_is_away_is_told(platform: TelegramPeer, settings: dict[str, str]) -> None:
    platform.script("getMe", Refusal(code=502, description="Bad Gateway"))
    with pytest.raises(NanoClawError, match="Bad Gateway"):
        await check(settings)
