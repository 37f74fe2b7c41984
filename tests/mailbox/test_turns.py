"""From rows that wait to the end of a turn, which happens at once and once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from nanoclaw_core.mailbox import Call, Mailbox, Mailboxes, NewCall, NewOutbound, NewRow
from nanoclaw_core.models import (
    Address,
    EarlierCall,
    Failure,
    FailureKind,
    FileKind,
    InboundKind,
    KeptFile,
    OutboundFile,
    OutboundKind,
    Push,
    Quote,
    Session,
    TurnEnd,
    Usage,
    Words,
)

HERE = Address(channel="telegram", chat="42", thread="7", account="bot")
THERE = Address(channel="terminal", chat="me")


def row(number: int, address: Address = HERE) -> NewRow:
    return NewRow(
        id=f"row-{number}",
        address=address,
        message_id=str(number),
        sender_id="telegram:7",
        sender_name="Ada",
        text=f"text {number}",
        sent_at=1.5,
    )


def answer(text: str, to: Address = HERE) -> NewOutbound:
    return NewOutbound(to=to, text=text)


def end(*covered: str, frame: str = "w1-1", text: str = "ok") -> TurnEnd:
    return TurnEnd(id=frame, covered=covered, text=text, conversation="c1")


async def push(mailbox: Mailbox, uuid: str, *numbers: int, worker_id: str = "w1") -> None:
    await mailbox.record_push(Push(uuid=uuid, text=f"push {uuid}"), [f"row-{number}" for number in numbers], worker_id)


async def waiting(mailbox: Mailbox) -> list[str]:
    return [row.message_id for row in await mailbox.waiting()]


async def due(mailbox: Mailbox) -> list[str]:
    return [row.text or f"settled {','.join(row.settles)}: {row.outcome}" for row in await mailbox.due()]


# --- rows ---


async def test_a_row_comes_back_whole(mailbox: Mailbox) -> None:
    files = (
        KeptFile(name="cat.jpg", kind=FileKind.PHOTO, path="row-1/cat.jpg"),
        KeptFile(name="film", kind=FileKind.VIDEO, problem="it is too large"),
    )
    whole = replace(
        row(1),
        reply_to=Quote(message_id="0", sender_name="Bob", text="x"),
        attachment="inbox/1.txt",
        text="🤖\n",
        kind=InboundKind.EDIT,
        about="41",
        files=files,
    )
    assert await mailbox.add_rows([whole]) == 1
    (stored,) = await mailbox.waiting()
    assert NewRow(**{name: getattr(stored, name) for name in NewRow.__dataclass_fields__}) == whole


async def test_what_is_to_be_delivered_comes_back_whole(mailbox: Mailbox) -> None:
    file = OutboundFile(name="a.pdf", path=Path("outbox/u1/a.pdf"), size=3, media_type="application/pdf")
    whole = replace(answer("Shall I?"), reply_to="40", about="41", files=(file,), choices=("Yes", "No"))
    assert await mailbox.add_outbound("k", whole)
    (stored,) = await mailbox.due()
    assert NewOutbound(**{name: getattr(stored, name) for name in NewOutbound.__dataclass_fields__}) == whole


async def test_an_answer_takes_the_place_of_the_preview_that_was_shown_last_in_its_chat(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1), row(2)])
    await push(mailbox, "u1", 1)
    for message_id in ("90", "91"):
        await mailbox.note_preview(HERE, message_id)
    await mailbox.note_preview(THERE, "92")
    await mailbox.end_turn(end("u1"), [answer("first"), answer("second")], "answered")
    await push(mailbox, "u2", 2)
    await mailbox.end_turn(end("u2", frame="w1-2"), [answer("third")], "answered")
    shown = {row.text: row.replaces for row in await mailbox.due() if row.text}
    assert shown == {"first": "91", "second": None, "third": None}


async def test_a_preview_without_any_answer_is_handed_to_the_sign_of_the_end(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1)])
    await push(mailbox, "u1", 1)
    await mailbox.note_preview(HERE, "90")
    await mailbox.end_turn(end("u1"), [], "answered")
    (settled,) = await mailbox.due()
    assert (settled.kind, settled.replaces) == (OutboundKind.SETTLED, "90")
    assert await mailbox.preview(HERE) is None


async def test_words_in_mid_turn_take_the_place_of_a_preview_once_and_only_if_asked_to(mailbox: Mailbox) -> None:
    await mailbox.add_outbound("a", answer("before"), in_place=True)
    await mailbox.note_preview(HERE, "90")
    await mailbox.add_outbound("b", answer("beside"))
    await mailbox.add_outbound("a", answer("before"), in_place=True)  # a repetition
    assert await mailbox.preview(HERE) == "90"
    await mailbox.add_outbound("c", answer("instead"), in_place=True)
    await mailbox.add_outbound("d", answer("after"), in_place=True)
    shown = {row.text: row.replaces for row in await mailbox.due()}
    assert shown == {"before": None, "beside": None, "instead": "90", "after": None}


async def test_rows_wait_in_order_and_a_repeated_id_is_one_row(mailbox: Mailbox) -> None:
    assert await mailbox.add_rows([row(3), row(1)]) == 2
    assert await mailbox.add_rows([row(1), row(2), row(3)]) == 1
    assert await mailbox.add_rows([]) == 0
    assert await waiting(mailbox) == ["3", "1", "2"]
    assert [row.message_id for row in await mailbox.waiting(limit=2)] == ["3", "1"]


# --- pushes ---


async def test_a_pushed_row_no_longer_waits_and_is_outstanding(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1), row(2), row(3)])
    await push(mailbox, "u1", 1, 2)
    assert await waiting(mailbox) == ["3"]
    (pushed,) = await mailbox.outstanding()
    assert (pushed.push, pushed.address) == (Push(uuid="u1", text="push u1"), HERE)
    assert [row.message_id for row in pushed.rows] == ["1", "2"]
    assert (pushed.attempts, pushed.worker_id) == (1, "w1")


async def test_the_same_push_recorded_again_is_the_same_push(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1)])
    await push(mailbox, "u1", 1)
    await push(mailbox, "u1", 1, worker_id="w2")
    assert [(pushed.attempts, pushed.worker_id) for pushed in await mailbox.outstanding()] == [(1, "w1")]


async def test_a_push_holds_rows_that_wait_and_nothing_else(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1), row(2)])
    await mailbox.fail_rows(["row-1"], [], "failed")
    for numbers in ((1,), (2, 9), ()):
        with pytest.raises(ValueError, match="do not wait"):
            await push(mailbox, "u1", *numbers)
    assert await mailbox.outstanding() == []
    assert await waiting(mailbox) == ["2"]


async def test_attempts_count_the_workers_that_took_a_push(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1), row(2)])
    await push(mailbox, "u1", 1)
    await push(mailbox, "u2", 2)
    await mailbox.begin_attempt(["u1"], "w2")
    pushes = await mailbox.outstanding()
    assert [(pushed.push.uuid, pushed.attempts, pushed.worker_id) for pushed in pushes] == [("u1", 2, "w2"), ("u2", 1, "w1")]


# --- the end of a turn ---


async def test_the_end_of_a_turn_answers_settles_and_acknowledges(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1), row(2), row(3)])
    await push(mailbox, "u1", 1)
    await push(mailbox, "u2", 2)
    assert await mailbox.end_turn(end("u1", "u2"), [answer("first"), answer("second", THERE)], "answered")
    first, second, settled = await mailbox.due()
    assert (first.to, first.text, second.to, second.text) == (HERE, "first", THERE, "second")
    assert (settled.kind, settled.to, settled.settles, settled.outcome) == (OutboundKind.SETTLED, HERE, ("1", "2"), "answered")
    assert await mailbox.outstanding() == []
    assert await waiting(mailbox) == ["3"]
    assert await mailbox.conversation() == "c1"


async def test_a_repeated_frame_changes_nothing(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1)])
    await push(mailbox, "u1", 1)
    assert await mailbox.end_turn(end("u1"), [answer("ok")], "answered")
    assert not await mailbox.end_turn(end("u1"), [answer("ok")], "answered")
    assert await due(mailbox) == ["ok", "settled 1: answered"]


async def test_an_end_that_covers_nothing_outstanding_says_nothing(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1)])
    await push(mailbox, "u1", 1)
    assert await mailbox.end_turn(end("u1"), [], "answered")
    assert not await mailbox.end_turn(end("u1", "unknown", frame="w2-1"), [answer("again")], "answered")
    assert await due(mailbox) == ["settled 1: answered"]


async def test_uuids_that_are_unknown_do_not_hide_the_known_one(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1)])
    await push(mailbox, "u1", 1)
    assert await mailbox.end_turn(end("unknown", "u1"), [answer("ok")], "answered")
    assert await due(mailbox) == ["ok", "settled 1: answered"]


async def test_a_turn_leaves_its_times_tokens_and_failure(mailbox: Mailbox, tmp_path: object) -> None:
    await mailbox.add_rows([row(1)])
    await push(mailbox, "u1", 1)
    failure = Failure(kind=FailureKind.MODEL, detail="529 overloaded", status=529)
    failed = replace(end("u1"), failure=failure, usage=Usage(input_tokens=3, model_calls=2))
    await mailbox.end_turn(failed, [answer("sorry")], "model")
    (turn,) = await mailbox._run("outbound", lambda db: [dict(turn) for turn in db.execute("SELECT * FROM turns")])
    assert turn == {
        "id": "w1-1",
        "started_at": 100.0,
        "ended_at": 100.0,
        "outcome": "model",
        "detail": "529 overloaded",
        "input_tokens": 3,
        "output_tokens": 0,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "model_calls": 2,
        "worker": "w1",
    }


class BreaksOff(Sequence[NewOutbound]):
    """Answers of which the second cannot be stored."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: object) -> NewOutbound:  # type: ignore[override]  # never sliced
        raise NotImplementedError

    def __iter__(self) -> Iterator[NewOutbound]:
        yield answer("first")
        raise RuntimeError("broke off")


async def test_an_end_that_breaks_off_has_not_happened_and_can_come_again(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1)])
    await push(mailbox, "u1", 1)
    with pytest.raises(RuntimeError, match="broke off"):
        await mailbox.end_turn(end("u1"), BreaksOff(), "answered")
    assert await due(mailbox) == []
    assert len(await mailbox.outstanding()) == 1
    assert await mailbox.end_turn(end("u1"), [answer("ok")], "answered")


async def test_rows_are_kept_apart_by_the_address_that_they_came_from(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1), row(2, THERE), row(3)])
    assert await mailbox.fail_rows(["row-1", "row-2", "row-3"], [answer("no")], "failed")
    assert await due(mailbox) == ["no", "settled 1,3: failed", "settled 2: failed"]


async def test_rows_fail_once_whether_they_were_pushed_or_not(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1), row(2)])
    await push(mailbox, "u1", 1)
    assert await mailbox.fail_rows(["row-1", "row-2"], [answer("no")], "failed")
    assert not await mailbox.fail_rows(["row-2", "row-1"], [answer("no")], "failed")
    assert not await mailbox.end_turn(end("u1"), [answer("late")], "answered")
    assert await due(mailbox) == ["no", "settled 1,2: failed"]
    assert await mailbox.outstanding() == []


async def test_a_later_row_may_be_acknowledged_before_an_earlier_one(mailbox: Mailbox) -> None:
    await mailbox.add_rows([row(1), row(2, THERE), row(3)])
    await push(mailbox, "u1", 3)
    await mailbox.end_turn(end("u1"), [], "answered")
    assert await waiting(mailbox) == ["1", "2"]
    await mailbox.fail_rows(["row-1"], [], "failed")
    assert await waiting(mailbox) == ["2"]
    await mailbox.add_rows([row(4)])
    assert await waiting(mailbox) == ["2", "4"]


# --- actions ---


async def test_an_action_queues_once_for_each_key(mailbox: Mailbox) -> None:
    assert await mailbox.add_outbound("k1", answer("one"))
    assert not await mailbox.add_outbound("k1", answer("one again"))
    assert await due(mailbox) == ["one"]


def call(key: str, worker: str = "w1", digest: str = "d1", action: str = "roll_dice") -> NewCall:
    return NewCall(key=key, worker_id=worker, action=action, arguments='{"sides":6}', digest=digest)


def known(key: str, result: str | None = None, *, is_error: bool = False) -> Call:
    ended = result is not None
    return Call(key=key, action="roll_dice", digest="d1", result=result, is_error=is_error, ended=ended)


async def test_a_call_is_begun_and_answered_once(mailbox: Mailbox) -> None:
    assert await mailbox.begin_call(call("k1")) is None
    assert await mailbox.begin_call(call("k1")) == known("k1")
    assert await mailbox.end_call("k1", "six", False)
    assert not await mailbox.end_call("k1", "five", True)
    assert await mailbox.begin_call(call("k1")) == known("k1", "six")


async def test_a_call_that_failed_says_so_to_whoever_repeats_it(mailbox: Mailbox) -> None:
    await mailbox.begin_call(call("k1"))
    await mailbox.end_call("k1", "no dice", True)
    assert await mailbox.begin_call(call("k1")) == known("k1", "no dice", is_error=True)


async def test_a_call_that_was_never_begun_has_no_answer(mailbox: Mailbox) -> None:
    assert not await mailbox.end_call("k1", "sent", False)


async def test_a_call_says_where_it_has_spoken(mailbox: Mailbox) -> None:
    await mailbox.begin_call(call("k1"))
    await mailbox.add_outbound("call-k1", answer("hi"))
    assert await mailbox.begin_call(call("k1")) == replace(known("k1"), said_to=HERE)


async def test_a_call_that_a_dead_worker_made_stands_for_one_repetition(mailbox: Mailbox) -> None:
    for key in ("k1", "k2"):
        await mailbox.begin_call(call(key))
        await mailbox.end_call(key, f"result of {key}", False)
    assert await mailbox.unheard_calls("w2") == {"k1", "k2"}
    assert await mailbox.begin_call(call("k3", "w2")) == known("k1", "result of k1")
    assert await mailbox.begin_call(call("k3", "w2")) == known("k1", "result of k1")  # the same request again
    assert await mailbox.begin_call(call("k4", "w2")) == known("k2", "result of k2")
    assert await mailbox.begin_call(call("k5", "w2")) is None


async def test_a_repetition_whose_worker_dies_too_is_repeated_once_more(mailbox: Mailbox) -> None:
    await mailbox.begin_call(call("k1"))
    await mailbox.end_call("k1", "six", False)
    await mailbox.begin_call(call("k2", "w2"))
    assert await mailbox.unheard_calls("w3") == {"k2"}
    assert await mailbox.begin_call(call("k3", "w3")) == known("k1", "six")
    assert await mailbox.begin_call(call("k4", "w3")) is None


async def test_a_call_without_an_end_is_ended_under_both_its_names(mailbox: Mailbox) -> None:
    await mailbox.begin_call(call("k1"))
    assert await mailbox.begin_call(call("k2", "w2")) == known("k1")
    assert await mailbox.end_call("k2", "six", False)
    assert await mailbox.begin_call(call("k1")) == known("k1", "six")
    assert await mailbox.begin_call(call("k2", "w2")) == known("k1", "six")


async def test_an_original_that_ends_later_ends_its_repetition(mailbox: Mailbox) -> None:
    await mailbox.begin_call(call("k1"))
    await mailbox.begin_call(call("k2", "w2"))
    await mailbox.end_call("k1", "six", False)
    assert await mailbox.begin_call(call("k2", "w2")) == known("k1", "six")


@pytest.mark.parametrize(
    "other",
    [call("k2", "w1"), call("k2", "w2", digest="d2"), call("k2", "w2", action="flip_coin")],
    ids=["of the same worker", "with other arguments", "of another action"],
)
async def test_another_call_is_no_repetition(mailbox: Mailbox, other: NewCall) -> None:
    await mailbox.begin_call(call("k1"))
    assert await mailbox.begin_call(other) is None


async def test_a_call_whose_result_was_heard_is_not_taken_for_its_repetition(mailbox: Mailbox) -> None:
    await mailbox.begin_call(call("k1"))
    await mailbox.heard_calls(["k1"])
    assert await mailbox.unheard_calls("w2") == set()
    assert await mailbox.begin_call(call("k2", "w2")) is None


@pytest.mark.parametrize("way", ["end_turn", "fail_rows"])
async def test_a_call_is_made_again_in_another_turn(mailbox: Mailbox, way: str) -> None:
    await mailbox.add_rows([row(1)])
    await push(mailbox, "u1", 1)
    await mailbox.begin_call(call("k1"))
    await mailbox.end_call("k1", "six", False)
    if way == "end_turn":
        await mailbox.end_turn(end("u1"), [], "answered")
    else:
        await mailbox.fail_rows(["row-1"], [], "failed")
    assert await mailbox.unheard_calls("w2") == set()
    assert await mailbox.earlier_calls() == []
    assert await mailbox.begin_call(call("k2", "w2")) is None


async def test_the_last_calls_of_a_turn_are_told_oldest_first_each_once(mailbox: Mailbox) -> None:
    for number in range(1, 5):
        await mailbox.begin_call(call(f"k{number}", digest=f"d{number}"))
    await mailbox.begin_call(call("k5", "w2", digest="d4"))  # the fourth again
    await mailbox.end_call("k2", "six" * 1000, True)
    await mailbox.add_outbound("call-k3", answer("hi"))
    plain = EarlierCall(action="roll_dice", arguments='{"sides":6}', result=None)
    assert await mailbox.earlier_calls(3) == [
        replace(plain, result=("six" * 1000)[:2000], is_error=True), replace(plain, said=Words(to=HERE, text="hi")), plain
    ]  # fmt: skip


# --- delivery ---


async def test_receipts_tell_which_parts_arrived_and_which_perhaps(mailbox: Mailbox) -> None:
    await mailbox.add_outbound("k1", answer("long"))
    (long,) = await mailbox.due()
    for part in (0, 1, 2):
        await mailbox.sending(long.seq, part)
    await mailbox.sent(long.seq, 0, "m0")
    await mailbox.not_sent(long.seq, 2, "busy")
    await mailbox.sending(long.seq, 1)
    receipts = await mailbox.receipt(long.seq)
    assert (receipts.sent, receipts.in_flight, receipts.attempts) == ({0: "m0"}, frozenset({1}), 4)
    assert await due(mailbox) == ["long"]


async def test_only_a_final_receipt_ends_delivery_in_whatever_order(mailbox: Mailbox) -> None:
    for number in range(4):
        await mailbox.add_outbound(f"k{number}", answer(str(number)))
    one, two, three, four = await mailbox.due()
    await mailbox.delivered(three.seq)
    assert await due(mailbox) == ["0", "1", "3"]
    await mailbox.undeliverable(one.seq, "blocked")
    await mailbox.delivered(one.seq)
    assert await due(mailbox) == ["1", "3"]
    await mailbox.delivered(two.seq)
    await mailbox.delivered(four.seq)
    assert await due(mailbox) == []
    await mailbox.add_outbound("k9", answer("9"))
    assert await due(mailbox) == ["9"]


async def test_a_mailbox_is_idle_when_all_is_heard_and_delivered(mailbox: Mailbox) -> None:
    assert await mailbox.is_idle()
    await mailbox.add_rows([row(1)])
    assert not await mailbox.is_idle()
    await push(mailbox, "u1", 1)
    assert not await mailbox.is_idle()
    await mailbox.end_turn(end("u1"), [], "answered")
    assert not await mailbox.is_idle()
    (settled,) = await mailbox.due()
    await mailbox.delivered(settled.seq)
    assert await mailbox.is_idle()


async def test_what_is_finished_is_not_looked_at_again(mailboxes: Mailboxes, session: Session) -> None:
    """However long the history: SQLite's own count of steps stays the same."""
    mailbox = await mailboxes.open(session)

    async def steps() -> int:
        counted = 0

        def count() -> int:
            nonlocal counted
            counted += 1
            return 0

        for side in ("inbound", "outbound"):
            await mailbox._run(side, lambda db: db.set_progress_handler(count, 1))
        await mailbox.waiting()
        await mailbox.due()
        await mailbox.is_idle()
        for side in ("inbound", "outbound"):
            await mailbox._run(side, lambda db: db.set_progress_handler(None, 1))  # type: ignore[arg-type]
        return counted

    async def history(numbers: range) -> None:
        await mailbox.add_rows([row(number) for number in numbers])
        await mailbox.fail_rows([f"row-{number}" for number in numbers], [answer("no")], "failed")
        for outbound in await mailbox.due():
            await mailbox.delivered(outbound.seq)

    await history(range(10))
    short = await steps()
    await history(range(10, 2000))
    assert await steps() <= short + 10
