"""The runner speaks the protocol of `container/frames.jsonl`, word for word."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nanoclaw_runner.frames import FrameRefused, Progress, decode_host, decode_runner, encode, one_line

GOLDEN = [json.loads(line) for line in (Path(__file__).parents[2] / "frames.jsonl").read_text().splitlines()]
KNOWN_EXTRA = {"mood"}


def named(*, refused: bool) -> list[Any]:
    return [pytest.param(golden, id=golden["name"]) for golden in GOLDEN if ("refused" in golden) is refused]


@pytest.mark.parametrize("golden", named(refused=False))
def test_a_golden_frame_survives_decoding_and_encoding(golden: dict[str, Any]) -> None:
    decode = decode_runner if golden["from"] == "runner" else decode_host
    expected = {key: value for key, value in golden["frame"].items() if key not in KNOWN_EXTRA}
    assert json.loads(encode(decode(json.dumps(golden["frame"])))) == expected


@pytest.mark.parametrize("golden", named(refused=True))
def test_what_must_be_refused_is_refused(golden: dict[str, Any]) -> None:
    decode = decode_runner if golden["from"] == "runner" else decode_host
    with pytest.raises(FrameRefused):
        decode(golden["refused"])


@pytest.mark.parametrize("line", ['{"type": "heartbeat"}', '{"type": "push", "uuid": 1, "text": "x"}', "[]", b"\xff"])
def test_what_no_host_sends_is_refused(line: str | bytes) -> None:
    with pytest.raises(FrameRefused):
        decode_host(line)


def test_true_is_no_number() -> None:
    with pytest.raises(FrameRefused, match="protocol must be int"):
        decode_host('{"type": "welcome", "protocol": true}')


def test_lone_surrogates_are_replaced_because_utf8_cannot_carry_them() -> None:
    line = encode(Progress(note="a \ud83d b \ud83e\udd16"))
    assert json.loads(line.encode())["note"] == "a \ufffd b 🤖"


def test_a_note_is_one_line_of_bounded_length() -> None:
    assert one_line("a\n  b" + "c" * 300, 200) == "a b" + "c" * 196 + "…"
