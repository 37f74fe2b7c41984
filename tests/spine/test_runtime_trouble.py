"""The container runtime is away, or cannot build the image: the chat is told once, and answered when that is over."""

from __future__ import annotations

import anyio
import pytest

from nanoclaw_core.errors import RuntimeUnavailable
from nanoclaw_core.models import ContainerSpec
from nanoclaw_core.testing import Reply, ScriptedModel
from tests.spine.spine import BASE_IMAGE, Spine, until


async def test_with_the_runtime_away_at_the_start_a_message_gets_one_notice_and_later_its_answer(spine: Spine) -> None:
    spine.runtime.unavailable = True
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("hello")
        (notice,) = await spine.texts(1)
        assert "Your message is kept" in notice
        assert notice.count("does not answer") == 1
        began = spine.clock.time()
        await until(lambda: spine.clock.time() > began + 30)  # some tries later
        spine.runtime.unavailable = False
        assert await spine.texts(2) == [notice, "You said: hello"]
        assert await spine.settled() == [(("message-1",), "answered")]
    assert len(spine.chat.outbox) == 2


async def test_a_second_message_during_an_outage_gets_no_second_notice(spine: Spine) -> None:
    spine.runtime.unavailable = True
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("one")
        await spine.texts(1)
        await spine.chat.say("two")
        spine.runtime.unavailable = False
        await spine.settled()
    _, answer = await spine.texts(2)
    assert answer == "You said: one\n\nYou said: two"


async def test_a_turn_goes_on_after_the_runtime_died_with_its_worker(spine: Spine, model: ScriptedModel) -> None:
    model.script(Reply.text("never", after=anyio.Event()))
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("hello")
        await model.wait_for(1)
        spine.runtime.unavailable = True
        await until(lambda: host.pool.status()["runtime"] != "running")
        spine.runtime.kill_all()
        spine.runtime.unavailable = False
        await spine.clock.advance(1)  # the watch looks again
        await spine.settled()
    assert await spine.texts(1) == ["You said: hello"]


async def test_one_call_that_the_runtime_left_unanswered_holds_nobody_up(spine: Spine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its events still flow: no news of an outage will come, nor of its end."""
    start = spine.runtime.start

    async def once(spec: ContainerSpec, first_line: bytes) -> str:
        monkeypatch.setattr(spine.runtime, "start", start)
        raise RuntimeUnavailable("fake", "it took too long")

    monkeypatch.setattr(spine.runtime, "start", once)
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("hello")
        assert (await spine.texts(2))[1] == "You said: hello"
        await spine.settled()


async def test_an_image_that_cannot_be_built_gets_one_notice_and_the_message_its_answer_later(spine: Spine) -> None:
    spine.runtime.build_failure = "no space left on device"
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("hello")
        (notice,) = await spine.texts(1)
        assert "no space left on device" in notice
        assert "nanoclaw image build" in notice
        await until(lambda: len(spine.runtime.built) >= 5)
        spine.runtime.build_failure = None
        assert (await spine.texts(2))[1:] == ["You said: hello"]
        await spine.settled()
    assert len(spine.chat.outbox) == 2


async def test_tries_without_a_worker_are_not_held_against_a_message(spine: Spine, model: ScriptedModel) -> None:
    """A turn that was cut must not be given up because the image was missing for long."""
    never = anyio.Event()
    model.script(Reply.text("never", after=never), Reply.text("never", after=never))
    async with spine.host() as host, spine.no_pauses(host):
        await spine.chat.say("hello")
        await model.wait_for(1)
        spine.runtime.images = {BASE_IMAGE}
        spine.runtime.build_failure = "the base is gone"
        spine.runtime.kill_all()
        await until(lambda: len(spine.runtime.built) >= 6)
        spine.runtime.build_failure = None
        await model.wait_for(2)
        spine.runtime.kill_all()  # the second worker that this message has broken, not the seventh
        assert (await spine.texts(2))[1] == "You said: hello"
