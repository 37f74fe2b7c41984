"""A whole worker ends in an orderly way, whatever breaks."""

from __future__ import annotations

import os
import signal

import anyio
import pytest
from miniature import FakeHost, Home
from nanoclaw_runner import worker
from nanoclaw_runner.engines import EngineFailed, Place
from nanoclaw_runner.frames import MAX_PREVIEW, MAX_TEXT, Failed, Heartbeat, Preview, Progress, TurnEnd, Usage, encode
from nanoclaw_runner.launch import parse_launch

NO_USAGE: dict[str, int] = {}


class Puppet:
    """An engine that does what its push says."""

    label = "puppet 1"
    background = False

    def __init__(self, place: Place) -> None:
        self._place = place
        self._orders, self._received = anyio.create_memory_object_stream[tuple[str, str]](10)
        self.pushed: list[str] = []

    async def push(self, uuid: str, text: str) -> None:
        self.pushed.append(uuid)
        await self._orders.send((uuid, text))

    async def interrupt(self) -> None:
        await self._orders.send(("", "interrupted"))

    async def run(self, reports: worker.Desk) -> None:
        async with self._orders, self._received:
            async for uuid, text in self._received:
                await self._obey(uuid, text, reports)
                if text == "end":
                    return

    async def _obey(self, uuid: str, text: str, reports: worker.Desk) -> None:
        match text:
            case "raise":
                raise EngineFailed("the puppet fell")
            case "group":
                raise ExceptionGroup("two", [KeyError("a"), EngineFailed("the string broke")])
            case "long":
                await reports.answered([uuid], "x" * (MAX_TEXT + 1), conversation="c", usage=NO_USAGE)
            case "busy":
                await reports.progressed("y\n" * 500)
            case "flood":
                await reports.progressed("note 0")
                await anyio.sleep(0.01)
                for number in range(1000):
                    await reports.progressed(f"note {number}")
            case "stir":
                await reports.answered([uuid], text, conversation="c", usage=NO_USAGE)
                self.background = True
                await reports.stirred()
            case "late":
                await reports.progressed("working")
                await reports.answered([uuid], text, conversation="c", usage=NO_USAGE)
            case "write":
                await reports.wrote("Let me see.", anew=True)
                await self._received.receive()
                await reports.wrote("It is ", anew=True)
                for letter in "forty" + "-" * MAX_PREVIEW:
                    await reports.wrote(letter)
                await self._received.receive()
                await reports.wrote("!")
                await reports.answered(self.pushed, text, conversation="c", usage=NO_USAGE)
            case "hesitate":
                await reports.wrote("Let me see.", anew=True)
                await reports.wrote("", anew=True)
            case "hasty":
                await reports.wrote("It is", anew=True)
                await reports.answered([uuid], text, conversation="c", usage=NO_USAGE)
            case "interrupted":
                await reports.turn_failed(self.pushed, "interrupted", "it\nwas", conversation="c", usage=NO_USAGE)
            case _:
                await reports.answered([uuid], text, conversation="c", usage={"model_calls": 2})


@pytest.fixture(autouse=True)
def puppet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "find_engine", lambda name: Puppet)


async def run(home: Home, worker_id: str = "w1") -> int:
    with anyio.fail_after(30):
        return await worker.work(parse_launch(home.document(engine="puppet", worker=worker_id)))


async def test_an_answer_becomes_a_frame_with_an_id_of_its_own(home: Home, host: FakeHost) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "a")
        await host.until(TurnEnd)
        await host.push("u2", "b")
        second = await host.until(TurnEnd, 2)
        await host.say('{"type": "shutdown"}')
    assert (second.id, second.covered, second.text, second.usage.model_calls) == ("w1-2", ("u2",), "b", 2)


async def test_shutdown_ends_with_code_0_and_leaves_the_spool(home: Home, host: FakeHost) -> None:
    host.acks = False
    codes: list[int] = []

    async def note_code() -> None:
        codes.append(await run(home))

    async with anyio.create_task_group() as group:
        group.start_soon(note_code)
        await host.push("u1", "a")
        await host.until(TurnEnd)
        await host.say('{"type": "shutdown"}')
    assert codes == [0]
    assert "w1-1" in (home.state / ".nanoclaw" / "spool.jsonl").read_text()


@pytest.mark.parametrize(
    ("order", "reason"), [("raise", "the puppet fell"), ("group", "the string broke"), ("end", "the engine ended")]
)
async def test_whatever_breaks_the_engine_becomes_one_failed_frame(home: Home, host: FakeHost, order: str, reason: str) -> None:
    await host.push("u1", order)
    assert await run(home) == 1
    assert [frame.detail for frame in host.of(Failed)] == [reason]


async def test_an_engine_that_cannot_be_made_is_reported(home: Home, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise EngineFailed(f"there is no engine named {name!r}")

    monkeypatch.setattr(worker, "find_engine", refuse)
    assert await run(home) == 1
    assert host.of(Failed)[0].detail == "there is no engine named 'puppet'"


async def test_a_dying_worker_does_not_wait_long_for_an_absent_host(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise EngineFailed("no")

    monkeypatch.setattr(worker, "find_engine", refuse)
    monkeypatch.setattr(worker, "LAST_WORDS", 0.05)
    assert await run(home) == 1
    assert '"failed"' in (home.state / ".nanoclaw" / "spool.jsonl").read_text()


async def test_an_answer_beyond_the_limit_is_cut_visibly(home: Home, host: FakeHost) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "long")
        text = (await host.until(TurnEnd)).text
        await host.say('{"type": "shutdown"}')
    assert len(text) == MAX_TEXT
    assert text.endswith("was cut here.]")


async def test_notes_and_failures_are_single_lines(home: Home, host: FakeHost) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "busy")
        assert len((await host.until(Progress)).note) == 200
        await host.say('{"type": "interrupt"}')
        end = await host.until(TurnEnd)
        assert (end.failure.kind, end.failure.detail, end.text) == ("interrupted", "it was", "")
        await host.say('{"type": "shutdown"}')


async def test_the_same_push_reaches_the_engine_once(home: Home, host: FakeHost) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "a")
        await host.push("u1", "a")
        await host.push("u2", "b")
        assert (await host.until(TurnEnd, 2)).covered == ("u2",)
        await host.say('{"type": "shutdown"}')


async def test_what_a_predecessor_spooled_is_sent_and_not_asked_again(home: Home, host: FakeHost) -> None:
    host.acks = False
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "a")
        await host.until(TurnEnd)
        await host.say('{"type": "shutdown"}')
    host.acks = True
    async with anyio.create_task_group() as group:
        group.start_soon(run, home, "w2")
        await host.push("u2", "b")
        await host.until(TurnEnd, 3)
        await host.say('{"type": "shutdown"}')
    assert [(end.id, end.covered) for end in host.of(TurnEnd)[1:]] == [("w1-1", ("u1",)), ("w2-1", ("u2",))]


async def test_a_heart_beats_while_a_turn_runs_and_only_then(
    home: Home, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "HEARTBEAT", 0.02)
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "busy")
        await host.until(Heartbeat, 2)
        await host.say('{"type": "interrupt"}')
        await host.until(TurnEnd)
        await host.push("u2", "last")
        await host.until(TurnEnd, 2)
        quiet = len(host.of(Heartbeat))
        await anyio.sleep(0.1)
        assert len(host.of(Heartbeat)) <= quiet + 1
        await host.say('{"type": "shutdown"}')


async def test_a_heart_beats_while_something_goes_on_in_the_background_and_once_more(
    home: Home, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "HEARTBEAT", 0.02)
    monkeypatch.setattr(Puppet, "background", True)
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "hello")
        assert (await host.until(TurnEnd)).background is True
        assert (await host.until(Heartbeat, len(host.of(Heartbeat)) + 2)).background is True
        monkeypatch.setattr(Puppet, "background", False)
        while host.of(Heartbeat)[-1].background:  # noqa: ASYNC110  # it sets no event
            await anyio.sleep(0.001)
        await host.push("u2", "last")
        assert (await host.until(TurnEnd, 2)).background is False
        await host.say('{"type": "shutdown"}')


async def test_a_host_is_told_at_once_that_an_engine_has_begun_something_by_itself(home: Home, host: FakeHost) -> None:
    """Else it would take the worker for one at rest, and freeze it."""
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "stir")
        assert (await host.until(TurnEnd)).background is False
        while not host.of(Heartbeat)[-1].background:  # noqa: ASYNC110  # it sets no event
            await anyio.sleep(0.001)
        await host.say('{"type": "shutdown"}')


async def test_a_host_is_told_with_each_connection_whether_something_goes_on(
    home: Home, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Puppet, "background", True)
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        assert (await host.until(Heartbeat)).background is True
        monkeypatch.setattr(Puppet, "background", False)
        await host.hang_up()
        assert (await host.until(Heartbeat, 2)).background is False
        await host.say_when_connected('{"type": "shutdown"}')


async def test_a_flood_of_notes_becomes_one_in_half_a_second_and_the_latest_wins(home: Home, host: FakeHost) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "flood")
        assert [(await host.until(Progress, number)).note for number in (1, 2)] == ["note 0", "note 999"]
        await host.push("u2", "the answer")
        assert (await host.until(TurnEnd)).text == "the answer"
        await host.say('{"type": "shutdown"}')
    assert len(host.of(Progress)) == 2


async def test_a_note_never_comes_after_the_answer(home: Home, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "NOTE_PAUSE", 0.01)
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "late")
        await host.until(TurnEnd)
        await anyio.sleep(0.05)
        await host.say('{"type": "shutdown"}')
    assert host.of(Progress) == []


async def test_a_push_is_not_lost_to_a_spool_that_claimed_to_answer_it(home: Home, host: FakeHost) -> None:
    forged = TurnEnd(id="x-1", covered=("u9",), text="", conversation="c", failure=None, usage=Usage())
    (home.state / ".nanoclaw").mkdir()
    (home.state / ".nanoclaw" / "spool.jsonl").write_text(encode(forged) + "\n")
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.until(TurnEnd)
        await host.push("u1", "first")  # by its answer the acknowledgement of the forged one has arrived
        await host.until(TurnEnd, 2)
        await host.push("u9", "asked later")
        assert (await host.until(TurnEnd, 3)).text == "asked later"
        await host.say('{"type": "shutdown"}')


async def test_a_replaced_worker_ends_with_code_1(home: Home, host: FakeHost) -> None:
    host.close_with = 4001
    assert await run(home) == 1


async def test_term_ends_a_worker_in_order(home: Home, host: FakeHost) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "a")
        await host.until(TurnEnd)
        os.kill(os.getpid(), signal.SIGTERM)


async def test_an_answer_is_shown_while_it_is_written_in_few_frames_of_bounded_length(home: Home, host: FakeHost) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "write", stream=True)
        first = await host.until(Preview)
        await host.push("u2", "go on", stream=True)
        second = await host.until(Preview, 2)
        await host.push("u3", "end it", stream=True)
        await host.until(TurnEnd)
        await host.say('{"type": "shutdown"}')
    assert (first.text, second.text[:12], len(second.text)) == ("Let me see.", "It is forty-", MAX_PREVIEW)
    assert len(host.of(Preview)) == 2  # what is beyond the limit changes nothing


async def test_nobody_is_shown_what_no_chat_can_show(home: Home, host: FakeHost) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "write")
        for uuid in ("u2", "u3"):
            await host.push(uuid, "go on")
        await host.until(TurnEnd)
        await host.say('{"type": "shutdown"}')
    assert host.of(Preview) == []


async def test_a_preview_never_comes_after_its_answer(home: Home, host: FakeHost) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "hasty", stream=True)
        await host.until(TurnEnd)
        await host.push("u2", "b", stream=True)
        await host.until(TurnEnd, 2)
        await host.say('{"type": "shutdown"}')
    assert host.of(Preview) == []


async def test_what_was_written_stands_until_something_new_is(home: Home, host: FakeHost) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "hesitate", stream=True)
        assert (await host.until(Preview)).text == "Let me see."
        await host.say('{"type": "shutdown"}')


async def test_a_host_that_comes_anew_is_shown_what_is_written(home: Home, host: FakeHost) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(run, home)
        await host.push("u1", "write", stream=True)
        await host.until(Preview)
        await host.hang_up()
        assert (await host.until(Preview, 2)).text == "Let me see."
        await host.say('{"type": "shutdown"}')
