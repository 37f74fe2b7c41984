"""What the host reads from a runner, and what it writes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nanoclaw_core.errors import ProtocolViolation
from nanoclaw_core.gateway import frames
from nanoclaw_core.models import Failure, FailureKind, Progress, Push, TurnEnd, Usage

GOLDEN = [
    json.loads(line) for line in (Path(__file__).parents[2] / "container" / "frames.jsonl").read_text("utf-8").splitlines()
]
READABLE = [golden for golden in GOLDEN if golden["from"] == "runner" and "frame" in golden]
REFUSED = [golden for golden in GOLDEN if "refused" in golden]
WRITTEN = {golden["name"]: golden["frame"] for golden in GOLDEN if golden["from"] == "host"}
SEEN = WRITTEN["push whose answer can be seen while it is written"]


def name_of(golden: dict[str, Any]) -> str:
    return str(golden["name"])


def turn_end(**changes: Any) -> str:
    frame: dict[str, Any] = {
        "type": "turn_end",
        "id": "w1-1",
        "covered": ["u1"],
        "text": "42",
        "conversation": "c1",
        "failure": None,
        "usage": {},
    }
    return json.dumps({**frame, **changes})


@pytest.mark.parametrize("golden", READABLE, ids=name_of)
def test_a_golden_frame_of_a_runner_is_read(golden: dict[str, Any]) -> None:
    assert frames.decode(json.dumps(golden["frame"])) is not None


@pytest.mark.parametrize("golden", REFUSED, ids=name_of)
def test_a_golden_refusal_is_refused_with_a_reason_that_fits_a_close_frame(golden: dict[str, Any]) -> None:
    with pytest.raises(ProtocolViolation) as refused:
        frames.decode(golden["refused"])
    assert 0 < len(str(refused.value).encode()) < 120


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("welcome", frames.welcome(1)),
        ("push", frames.push(Push(uuid=WRITTEN["push"]["uuid"], text=WRITTEN["push"]["text"]))),
        (
            "push whose answer can be seen while it is written",
            frames.push(Push(uuid=SEEN["uuid"], text=SEEN["text"], stream=True)),
        ),
        ("ack", frames.ack("w5f3a-1")),
        ("interrupt", frames.interrupt()),
        ("shutdown", frames.shutdown()),
    ],
)
def test_the_host_writes_the_golden_frame(name: str, written: str) -> None:
    assert json.loads(written) == WRITTEN[name]


def test_an_answer_arrives_with_everything_that_belongs_to_it() -> None:
    answer = next(golden["frame"] for golden in GOLDEN if golden["name"] == "an answer")
    assert frames.decode(json.dumps(answer)) == frames.Ended(
        end=TurnEnd(
            id="w5f3a-1",
            covered=("7f0c2f1e-0000-5000-8000-000000000001",),
            text="It is 42 — שלום 🤖 </message>",
            conversation="0b0e1d2c-0000-4000-8000-000000000000",
            usage=Usage(input_tokens=10, output_tokens=5, cache_read_tokens=100, cache_write_tokens=7, model_calls=2),
        )
    )


def test_a_failed_turn_has_no_text_whatever_the_runner_says() -> None:
    failure = {"kind": "model", "detail": "API Error:\n529", "status": 529}
    ended = frames.decode(turn_end(text="API Error: 529", failure=failure))
    assert isinstance(ended, frames.Ended)
    assert ended.end.text == ""
    assert ended.end.failure == Failure(kind=FailureKind.MODEL, detail="API Error: 529", status=529)


def test_nul_and_lone_surrogates_are_repaired_not_refused() -> None:
    ended = frames.decode(turn_end(text="a\x00b\ud83dc"))
    assert isinstance(ended, frames.Ended)
    assert ended.end.text == "a\ufffdb\ufffdc"


def test_a_heartbeat_is_progress_without_a_note() -> None:
    assert frames.decode('{"type": "heartbeat", "background": false}') == Progress(note="", background=False)


def test_a_runner_that_says_nothing_of_the_background_may_have_something_there() -> None:
    assert frames.decode('{"type": "heartbeat"}') == Progress(note="", background=True)
    ended = frames.decode(turn_end())
    assert isinstance(ended, frames.Ended)
    assert ended.end.background is True


def test_progress_says_nothing_of_the_background() -> None:
    assert frames.decode('{"type": "progress", "note": "Bash: ls", "background": true}') == Progress(note="Bash: ls")


@pytest.mark.parametrize(
    "frame",
    [
        turn_end(text="x" * 1_000_001),
        turn_end(id=""),
        turn_end(failure={"kind": "boredom", "detail": ""}),
        turn_end(usage={"input_tokens": "many"}),
        '{"type": "progress", "note": [' + "[]," * 50_000 + "[]]}",
        json.dumps({"type": "progress", "note": "x" * 201}),
        '{"mood": ' + "[" * 100_000 + "}",
        "1" * 5000,
    ],
    ids=["long text", "no id", "unknown kind", "no number", "many parts", "long note", "deep nesting", "long number"],
)
def test_what_goes_beyond_the_limits_is_refused(frame: str) -> None:
    with pytest.raises(ProtocolViolation):
        frames.decode(frame)


def test_a_text_of_the_greatest_length_is_taken() -> None:
    take: Callable[[str], object] = frames.decode
    assert isinstance(take(turn_end(text="🤖" * 1_000_000)), frames.Ended)


@pytest.mark.parametrize("forged", ["c1", "", "../../etc/passwd", "0b0e1d2c-0000-4000-8000-000000000000\n--model x"])
def test_a_conversation_that_is_no_uuid_is_not_kept(forged: str) -> None:
    """It must not be refused either: it may wait in the spool, and would end every later worker of the session."""
    ended = frames.decode(turn_end(conversation=forged))
    assert isinstance(ended, frames.Ended)
    assert ended.end.conversation == ""


@pytest.mark.parametrize(
    ("count", "kept"), [(-1, 0), (7, 7), (2**53, 2**40), (10**4000, 2**40)], ids=["below", "fine", "2**53", "huge"]
)
def test_forged_token_counts_stay_in_bounds(count: int, kept: int) -> None:
    ended = frames.decode(turn_end(usage={"input_tokens": count}))
    assert isinstance(ended, frames.Ended)
    assert ended.end.usage == Usage(input_tokens=kept)
