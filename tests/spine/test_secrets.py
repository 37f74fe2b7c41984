"""Where secrets are not: with a worker, in the database, in the log. Nor are people's words in the log."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
import structlog
from sqlalchemy.exc import DatabaseError

from nanoclaw_core.cli import logs
from nanoclaw_core.errors import TryLater
from nanoclaw_core.mask import Mask
from nanoclaw_core.models import ContainerSpec
from nanoclaw_core.testing import Reply, ScriptedModel
from nanoclaw_core.upstream import HttpUpstream
from tests.spine.conftest import API_KEY
from tests.spine.spine import Spine, routed

WORDS = "the-purple-elephant-said"


async def test_the_providers_key_is_in_nothing_that_a_worker_gets(spine: Spine, model: ScriptedModel) -> None:
    model.script(Reply.tool("Bash", {"command": "env; cat /proc/self/environ | tr '\\0' '\\n'; cat /proc/$PPID/cmdline"}))
    async with spine.host():
        await spine.chat.say("look around")
        await spine.settled()
        assert not spine.files_holding(API_KEY)
    assert API_KEY not in repr(spine.runtime.specs)
    assert API_KEY not in repr(spine.runtime.documents)
    assert not spine.files_holding(API_KEY)
    assert model.calls[0].headers["x-api-key"] == API_KEY  # added on the host
    assert API_KEY not in repr([call.json for call in model.calls])


async def test_the_secret_of_a_link_is_kept_nowhere(spine: Spine) -> None:
    with structlog.testing.capture_logs() as events:
        async with spine.host():
            await spine.chat.say("!bash cat /proc/$PPID/environ | tr '\\0' '\\n'; cat /proc/$PPID/cmdline; env; set")
            await spine.settled()
            secret = spine.runtime.documents[0]["secret"]
            assert not spine.files_holding(secret)
            assert spine.files_holding(hashlib.sha256(secret.encode()).hexdigest())
    assert secret not in repr(spine.runtime.specs)
    assert secret not in repr(events)
    assert not spine.files_holding(secret)


async def test_each_worker_has_a_secret_of_its_own(spine: Spine) -> None:
    for count in (1, 2):
        async with spine.host():
            await spine.chat.say("hello")
            await spine.settled(count)
    first, second = spine.runtime.documents
    assert first["secret"] != second["secret"]
    assert first["worker"] != second["worker"]


async def test_the_log_holds_no_word_of_anybody(spine: Spine, model: ScriptedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not of the person, not of the model, not of a tool: whether it goes well, is refused, repeated or fails with a bug."""
    send = Reply.tool("mcp__nanoclaw__send_message", {"text": f"{WORDS} send"})
    bash = Reply.tool("Bash", {"command": f"echo {WORDS} bash"})
    nobody = Reply.tool("mcp__nanoclaw__send_message", {"text": f"{WORDS} send", "to": f"{WORDS}"})
    model.script(send, bash, nobody, Reply.text(f'{WORDS} <message to="{WORDS}">no</message>'))
    model.script(Reply.error(400, "invalid_request_error", f"{WORDS} cannot be read"))
    with structlog.testing.capture_logs() as events:
        async with spine.host(trace_plugins=True) as host:
            await spine.chat.say(f"{WORDS} one", chat_name=WORDS, name=WORDS)
            await spine.settled(1)
            await spine.chat.say(f"{WORDS} two")
            await spine.settled(2)
            await spine.chat.say(f"{WORDS} three", chat="elsewhere")
            spine.chat.fail_next(TryLater("not now"))
            await spine.chat.say(f"{WORDS} four" + "x" * 50_000)
            await routed(host)
            await host.delivery._clock.asleep(2)  # type: ignore[attr-defined]  # it is the test's own
    assert WORDS not in repr(events)
    assert {"message.routed", "worker.started", "turn.ended", "delivery.sent"} <= {event["event"] for event in events}


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[Path, Mask]]:
    """The log of a host in a file, as `nanoclaw serve` writes it, and what it hides."""
    root = logging.getLogger()
    before = list(root.handlers), root.level
    mask = Mask()
    logs.configure("debug", tmp_path / "host.log", mask)
    yield tmp_path / "host.log", mask
    for handler in root.handlers:
        handler.close()
    root.handlers[:], root.level = before


async def test_a_secret_in_an_error_of_a_provider_or_a_plugin_is_hidden_in_the_log(
    spine: Spine, model: ScriptedModel, log: tuple[Path, Mask], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever raises it, with whatever text: the line says that it happened, with its traceback, and *** for the secret."""
    path, mask = log

    def fail(*_: object) -> NoReturn:
        raise RuntimeError(f"the provider cannot use {API_KEY}")

    async with spine.host(mask=mask):
        with monkeypatch.context() as patched:
            patched.setattr(HttpUpstream, "respond", fail)
            await spine.chat.say("hello")
            await spine.texts(1)
        spine.chat.fail_next(RuntimeError(f"the channel cannot use {API_KEY}"))
        await spine.chat.say("again")
        await spine.texts(2)
    written = path.read_text()
    assert "the provider cannot use ***" in written
    assert "the channel cannot use ***" in written
    assert "Traceback" in written
    assert API_KEY not in written


async def test_the_secret_of_a_link_in_an_error_of_the_runtime_is_hidden_in_the_log(
    spine: Spine, log: tuple[Path, Mask], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, mask = log
    documents: list[bytes] = []
    start = spine.runtime.start

    async def fail_once(spec: ContainerSpec, first_line: bytes) -> str:
        monkeypatch.setattr(spine.runtime, "start", start)
        documents.append(first_line)
        raise RuntimeError(f"cannot write {first_line!r}")

    monkeypatch.setattr(spine.runtime, "start", fail_once)
    async with spine.host(mask=mask) as host, spine.no_pauses(host):
        await spine.chat.say("hello")
        await spine.settled()
    secret = json.loads(documents[0])["secret"]
    assert "cannot write " in path.read_text()
    assert secret not in path.read_text()


async def test_an_error_of_the_database_repeats_no_word_of_anybody(spine: Spine) -> None:
    async with spine.host() as host:
        await host.database.write(lambda connection: connection.exec_driver_sql("DROP TABLE events"))
        with pytest.raises(DatabaseError) as failure:
            await spine.chat.say(WORDS)
    assert WORDS not in str(failure.value)


async def test_a_failed_turn_leaves_a_line_in_the_log(spine: Spine, model: ScriptedModel) -> None:
    model.script(Reply.error(401, "authentication_error", "invalid x-api-key"))
    with structlog.testing.capture_logs() as events:
        async with spine.host():
            await spine.chat.say("hello")
            await spine.settled()
    (line,) = [event for event in events if event["event"] == "turn.failed"]
    assert (line["log_level"], line["kind"], line["status"]) == ("warning", "model", 401)


async def test_the_key_is_in_no_text_of_the_settings(spine: Spine, model: ScriptedModel) -> None:
    async with spine.built() as host:
        assert API_KEY not in repr(host.settings)
        assert API_KEY not in repr(await host.status())
