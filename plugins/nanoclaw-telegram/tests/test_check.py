"""Setting the channel up says whose token it is, or what is wrong with it."""

from __future__ import annotations

import re

import pytest

from nanoclaw_core import CredentialRefused, NanoClawError
from nanoclaw_telegram import MANIFEST, check
from tests.peers.telegram import Refusal, TelegramPeer


async def test_a_good_token_is_told_with_its_bot(settings: dict[str, str]) -> None:
    settings["TELEGRAM_BOT_TOKEN"] += "\n"
    settings["TELEGRAM_API_URL"] += "/"
    assert await check(settings) == "@andy_test_bot, Andy; in groups it sees what is meant for it"


@pytest.mark.parametrize("token", ["", "nonsense", "123456789:AAwrong"])
async def test_a_bad_token_is_refused_and_not_shown(settings: dict[str, str], token: str) -> None:
    with pytest.raises(CredentialRefused) as raised:
        await check(settings | {"TELEGRAM_BOT_TOKEN": token})
    assert "BotFather" in str(raised.value)
    assert not token or token not in str(raised.value)


async def test_a_bot_of_another_program_is_refused(platform: TelegramPeer, settings: dict[str, str]) -> None:
    platform.webhook = "https://bot.example"
    with pytest.raises(CredentialRefused, match=r"@andy_test_bot is in use.*webhook"):
        await check(settings)


async def test_a_telegram_that_is_away_is_told(platform: TelegramPeer, settings: dict[str, str]) -> None:
    platform.script("getMe", Refusal(code=502, description="Bad Gateway"))
    with pytest.raises(NanoClawError, match="Bad Gateway") as raised:
        await check(settings)
    assert not isinstance(raised.value, CredentialRefused)


@pytest.mark.parametrize(
    ("token", "is_one"),
    [
        ("123456789:AAF-the_token_of_a_test-bot_0123456", True),
        ("123456789", False),
        ("AAF-the_token_of_a_test-bot_0123456", False),
        ("bot123456789:AAF-the_token_of_a_test-bot_0123456", False),
        ("123456789:AAF-the_token of_a_test-bot_0123456", False),
    ],
)
def test_what_looks_like_a_token(token: str, is_one: bool) -> None:
    assert bool(re.fullmatch(MANIFEST.fields[0].pattern, token)) is is_one
