"""Pairing and set-up in a whole host: from the code to the first answer, and what of it is kept where."""

from __future__ import annotations

from typing import Any

import anyio
import structlog

from nanoclaw_core import secrets
from nanoclaw_core.builtins.terminal import Said
from nanoclaw_core.cli.connection import connect
from nanoclaw_core.control import ControlServer, socket_path
from nanoclaw_core.host import Host
from nanoclaw_core.models import Manifest, SetupField
from nanoclaw_core.pairing import MOST_GUESSES
from nanoclaw_core.switches import switch
from tests.spine.spine import Spine, until

TOKEN = "hush-hush-token"
MANIFEST = Manifest(
    fields=(
        SetupField(variable="FAKE_RING", label="Ring"),
        SetupField(variable="FAKE_FOOD", label="Food", secret=False, default="nuts"),
    ),
    pairs=True,
)


def with_manifest(spine: Spine) -> None:
    made = spine.chat.factory
    spine.chat.factory = lambda manifest=MANIFEST: made(manifest)  # type: ignore[method-assign]  # for this chat alone


async def new_code(host: Host, channel: str = "fake") -> str:
    made: dict[str, Any] = await host.operations["pairing.begin"]({"channel": channel})
    code: str = made["code"]
    return code


async def test_who_pairs_talks_to_the_agent_and_the_code_is_kept_nowhere(spine: Spine) -> None:
    with structlog.testing.capture_logs() as events:
        async with spine.host() as host:
            code = await new_code(host)
            assert await spine.chat.say(f"/start {code}", chat="private", sender="eve", name="Eve")
            assert (await spine.texts(1))[0].startswith("You are paired: this chat is Andy's now")
            await spine.chat.say("hello", chat="private", sender="eve", name="Eve")
            assert (await spine.texts(2))[1] == "You said: hello"
    for spelt in (code, code.replace("-", "")):
        assert not spine.files_holding(spelt)
        assert spelt not in repr(events)
    assert [event["channel"] for event in events if event["event"] == "channel.paired"] == ["fake"]


async def test_a_code_made_over_the_control_socket_works_at_once(spine: Spine) -> None:
    async with spine.host() as host, anyio.create_task_group() as tasks:
        await tasks.start(ControlServer(host, socket_path(spine.home), lambda: None).serve)
        async with connect(spine.home) as client:
            code = (await client.call("pairing.begin", channel="fake"))["code"]
        await spine.chat.say(code, chat="private")
        assert (await spine.texts(1))[0].startswith("You are paired")
        tasks.cancel_scope.cancel()


async def test_a_wrong_code_leaves_nothing_but_counters(spine: Spine) -> None:
    async with spine.host() as host:
        await new_code(host)
        await spine.chat.say("AAAAA-AAAA2", chat="private")
        await spine.texts(1)
        assert not await host.journal.unrouted()
    assert not spine.files_holding("AAAAA-AAAA2")


async def test_the_owner_hears_at_the_terminal_that_guesses_have_ended_a_code(spine: Spine) -> None:
    async with spine.host() as host:
        await new_code(host)
        for number in range(MOST_GUESSES):
            await spine.chat.say("AAAAA-AAAA2", chat=f"private-{number}")
        _, chat = await host.terminal_chat(None)
        said = ""
        with host.terminal.attach(chat) as viewer:
            async for number, update in viewer:
                viewer.confirm(number)
                if isinstance(update, Said):
                    said = update.text
                    break
    assert "The pairing code that fake got at" in said
    assert "`nanoclaw channel pair fake`" in said


# --- secrets and switches ---------------------------------------------------------------------------------------------------


async def test_a_channel_gets_its_secret_and_its_defaults_and_nothing_else(spine: Spine) -> None:
    with_manifest(spine)
    secrets.put(spine.home, "FAKE_RING", TOKEN)
    secrets.put(spine.home, "OTHER_TOKEN", "not-yours")
    async with spine.host():
        assert spine.chat.context is not None
        assert spine.chat.context.settings == {"FAKE_RING": TOKEN, "FAKE_FOOD": "nuts"}
        assert [str(path) for path in spine.files_holding(TOKEN)] == ["secrets/FAKE_RING"]


async def test_a_channel_that_lacks_its_secret_is_not_made_and_says_what_asks_for_it(spine: Spine) -> None:
    with_manifest(spine)
    async with spine.host() as host:
        assert host.healths["fake"].reason == "not set up: FAKE_RING is not set (`nanoclaw channel setup fake`)"


async def test_a_channel_that_is_switched_off_is_not_made(spine: Spine) -> None:
    switch(spine.home, "fake", on=False)
    async with spine.host() as host:
        assert host.channels.keys() == {"terminal"}
        assert host.healths["fake"].reason == "switched off: `nanoclaw channel enable fake`"


async def test_the_status_shows_no_secret_that_a_channel_failed_with(spine: Spine) -> None:
    with_manifest(spine)
    secrets.put(spine.home, "FAKE_RING", TOKEN)
    async with spine.host() as host:
        await until(lambda: spine.chat.runs)
        spine.chat.break_connection(ConnectionError(f"no way to https://fake.example/bot{TOKEN}/getMe"))
        await until(lambda: host.healths["fake"].reason)
        status = await host.status()
    assert TOKEN not in repr(status)
    assert "no way to https://fake.example/bot***/getMe" in repr(status)


async def test_a_host_takes_the_rights_of_others_on_its_secrets_and_says_so(spine: Spine) -> None:
    secrets.put(spine.home, "FAKE_RING", TOKEN)
    (spine.home / "secrets" / "FAKE_RING").chmod(0o644)
    with structlog.testing.capture_logs() as events:
        async with spine.built():
            assert secrets.exposed(spine.home) == []
    assert [event["path"] for event in events if event["event"] == "secrets.mended"] == [
        str(spine.home / "secrets" / "FAKE_RING")
    ]
