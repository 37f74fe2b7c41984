"""What agents call has its effect once, whatever dies in between."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import anyio
import pytest

from nanoclaw_core.errors import ActionRefused
from nanoclaw_core.mailbox import Mailbox, MailboxUnusable, NewCall, NewOutbound
from nanoclaw_core.models import WorkerIdentity
from nanoclaw_core.ports import Action, ActionCall, Outcome
from tests.house import CHAT
from tests.workers.crew import Crew, until


@dataclass(frozen=True, kw_only=True)
class Nothing:
    """No parameters."""


async def unused(call: ActionCall, _: Nothing) -> str:
    raise AssertionError("the gateway calls it")


COUNT = Action(name="count", description="Count.", parameters=Nothing, handler=unused)
SAY = replace(COUNT, name="say", idempotent=True)


@dataclass
class Effect:
    """Something that must not happen twice; it waits for `leave`, and dies with its host where there is none to come."""

    keys: list[str] = field(default_factory=list)
    began: anyio.Event = field(default_factory=anyio.Event)
    leave: anyio.Event = field(default_factory=anyio.Event)
    is_error: bool = False
    words: str = ""

    async def __call__(self, call: ActionCall) -> Outcome:
        self.keys.append(call.key)
        if self.words:
            await call.host.send(self.words)
        self.began.set()
        await self.leave.wait()
        return Outcome(text=f"counted {len(self.keys)}", is_error=self.is_error)


@pytest.fixture
def effect() -> Effect:
    effect = Effect()
    effect.leave.set()
    return effect


@pytest.fixture
async def caller(crew: Crew) -> WorkerIdentity:
    """A worker in the middle of a turn."""
    await crew.row("hello")
    _, link = await crew.linked()
    await until(lambda: link.pushes)
    return crew.doors.opened[0]


def successor(caller: WorkerIdentity) -> WorkerIdentity:
    return replace(caller, worker_id="w2")


async def once(
    crew: Crew, caller: WorkerIdentity, effect: Effect, key: str, arguments: str = "{}", action: Action[Any] = COUNT
) -> tuple[bool, str]:
    outcome = await crew.pool.actions.once(caller, action, key, arguments, effect)
    return outcome.is_error, outcome.text


async def host_dies_in(crew: Crew, caller: WorkerIdentity, effect: Effect, action: Action[Any] = COUNT) -> None:
    """A call that comes to nothing: nobody hears of its end."""
    effect.leave = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(once, crew, caller, effect, "k1", "{}", action)
        await effect.began.wait()
        tasks.cancel_scope.cancel()
    effect.leave.set()


@pytest.mark.parametrize("is_error", [False, True])
async def test_the_same_call_again_hears_the_stored_outcome(
    crew: Crew, caller: WorkerIdentity, effect: Effect, is_error: bool
) -> None:
    effect.is_error = is_error
    for _ in range(2):
        assert await once(crew, caller, effect, "k1") == (is_error, "counted 1")
    assert await once(crew, caller, effect, "k2") == (is_error, "counted 2")
    assert effect.keys == ["k1", "k2"]


async def test_of_two_at_once_the_second_waits_for_the_outcome_of_the_first(
    crew: Crew, caller: WorkerIdentity, effect: Effect
) -> None:
    effect.leave = anyio.Event()
    heard: list[tuple[bool, str]] = []

    async def ask() -> None:
        heard.append(await once(crew, caller, effect, "k1"))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(ask)
        await effect.began.wait()
        await crew.house.mailbox.unheard_calls("nobody")  # after the others have looked
        effect.leave.set()
    assert heard == [(False, "counted 1")] * 3
    assert effect.keys == ["k1"]


async def test_a_call_that_a_host_died_in_is_not_made_again_but_explained(
    crew: Crew, caller: WorkerIdentity, effect: Effect
) -> None:
    await host_dies_in(crew, caller, effect)
    for _ in range(2):
        is_error, text = await once(crew, caller, effect, "k1")
        assert is_error
        assert "whether it had an effect is not known" in text
        assert "sent" not in text
    assert effect.keys == ["k1"]


async def test_an_unknown_outcome_does_not_hide_the_words_that_are_on_their_way(
    crew: Crew, caller: WorkerIdentity, effect: Effect
) -> None:
    effect.words = "counting"
    await host_dies_in(crew, caller, effect)
    _, text = await once(crew, caller, effect, "k1")
    assert "The message that it was to send is sent." in text
    assert await crew.outbound() == ["counting"]


@pytest.mark.parametrize("again", ["k1", "k2"], ids=["the same id", "a new id"])
async def test_an_idempotent_action_runs_again_under_its_first_key_and_its_words_are_sent_once(
    crew: Crew, caller: WorkerIdentity, effect: Effect, again: str
) -> None:
    effect.words = "on it"
    await host_dies_in(crew, caller, effect, SAY)
    worker = caller if again == "k1" else successor(caller)
    assert await once(crew, worker, effect, again, action=SAY) == (False, "counted 2")
    assert effect.keys == ["k1", "k1"]
    assert await crew.outbound() == ["on it"]


async def test_a_successor_that_makes_the_same_call_hears_its_outcome_once(
    crew: Crew, caller: WorkerIdentity, effect: Effect
) -> None:
    await once(crew, caller, effect, "k1")
    is_error, text = await once(crew, successor(caller), effect, "k2")
    assert not is_error
    assert text.endswith("\ncounted 1")
    assert "was not done again" in text
    assert await once(crew, successor(caller), effect, "k3") == (False, "counted 2")
    assert effect.keys == ["k1", "k3"]


async def test_what_the_successors_engine_remembers_is_no_repetition(
    crew: Crew, caller: WorkerIdentity, effect: Effect
) -> None:
    await once(crew, caller, effect, "k1")
    assert await crew.pool.actions.unheard(successor(caller)) == {"k1"}
    await crew.pool.actions.heard(successor(caller), ["k1"])
    assert await once(crew, successor(caller), effect, "k2") == (False, "counted 2")


async def test_a_successor_waits_for_a_call_that_outlives_its_worker(
    crew: Crew, caller: WorkerIdentity, effect: Effect
) -> None:
    effect.leave = anyio.Event()
    heard: list[tuple[bool, str]] = []

    async def ask(worker: WorkerIdentity, key: str) -> None:
        heard.append(await once(crew, worker, effect, key))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask, caller, "k1")
        await effect.began.wait()
        tasks.start_soon(ask, successor(caller), "k2")
        await anyio.wait_all_tasks_blocked()
        effect.leave.set()
    assert [text.rpartition("\n")[2] for _, text in heard] == ["counted 1", "counted 1"]
    assert effect.keys == ["k1"]


async def test_an_id_that_stands_for_another_call_is_refused(crew: Crew, caller: WorkerIdentity, effect: Effect) -> None:
    await once(crew, caller, effect, "k1")
    with pytest.raises(ActionRefused, match="another call had the same id"):
        await once(crew, caller, effect, "k1", '{"sides":6}')
    assert effect.keys == ["k1"]


async def test_an_id_that_stands_for_an_unfinished_call_runs_no_other_one(
    crew: Crew, caller: WorkerIdentity, effect: Effect
) -> None:
    await host_dies_in(crew, caller, effect, SAY)
    with pytest.raises(ActionRefused, match="another call had the same id"):
        await once(crew, caller, effect, "k1", '{"text":"another"}', SAY)
    assert effect.keys == ["k1"]


async def test_what_was_said_before_the_host_died_counts_as_the_answer_of_the_turn(crew: Crew, effect: Effect) -> None:
    mailbox = crew.house.mailbox
    await crew.row("hello")
    worker, link = await crew.linked()
    await until(lambda: link.pushes)
    digest = hashlib.sha256(b"{}").hexdigest()
    await mailbox.begin_call(NewCall(key="k1", worker_id=worker, action="say", arguments="{}", digest=digest))
    await mailbox.add_outbound("call-k1", NewOutbound(to=CHAT, text="all is said"))
    await mailbox.end_call("k1", "said", False)
    assert await once(crew, crew.doors.opened[0], effect, "k1", action=SAY) == (False, "said")
    await crew.answer(worker, *link.pushes, text="<internal>nothing to add</internal>")
    assert await crew.outbound() == ["all is said", "settled"]


async def test_an_outcome_that_cannot_be_stored_is_no_answer(
    crew: Crew, caller: WorkerIdentity, effect: Effect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(self: Mailbox, *arguments: object) -> None:
        raise MailboxUnusable(Path("outbound.db"), "disk full")

    with monkeypatch.context() as patched:
        patched.setattr(Mailbox, "end_call", fail)
        with pytest.raises(MailboxUnusable):
            await once(crew, caller, effect, "k1")
    is_error, text = await once(crew, caller, effect, "k1")
    assert is_error
    assert "not known" in text
    assert effect.keys == ["k1"]


async def test_a_worker_whose_session_has_ended_can_do_nothing(crew: Crew, effect: Effect) -> None:
    stranger = WorkerIdentity(worker_id="w9", session_id="gone", agent_group=crew.house.agent, secret_hash="")
    with pytest.raises(ActionRefused, match="at its end"):
        await once(crew, stranger, effect, "k1")
    assert await crew.pool.actions.unheard(stranger) == set()
    await crew.pool.actions.heard(stranger, ["k1"])
    assert effect.keys == []


async def test_an_outcome_survives_the_host_with_its_long_arguments_cut(
    crew: Crew, caller: WorkerIdentity, effect: Effect
) -> None:
    long = '{"text":"' + "é" * 5000 + '"}'
    await once(crew, caller, effect, "k1", long)
    await crew.house.mailbox.close()
    assert await once(crew, caller, effect, "k1", long) == (False, "counted 1")
    (earlier,) = await crew.house.mailbox.earlier_calls()
    assert earlier.arguments == long[:1000] + "…"
    assert earlier.result == "counted 1"
