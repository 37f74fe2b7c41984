"""What is counted of an answer, however it comes, and whatever nonsense is in it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanoclaw_core.ledger.prices import Tokens
from nanoclaw_core.ledger.tally import Tally

STREAM = "text/event-stream; charset=utf-8"
USAGE = {"input_tokens": 10, "output_tokens": 1, "cache_read_input_tokens": 300, "cache_creation_input_tokens": 40}
KEPT = {"ephemeral_5m_input_tokens": 15, "ephemeral_1h_input_tokens": 25}


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def delta(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


START = event("message_start", message={"model": "claude-x", "usage": {**USAGE, "cache_creation": KEPT}})
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 77})
STOP = event("message_stop")


def heard(*chunks: bytes, content_type: str = STREAM, is_whole: bool = True) -> Tally:
    tally = Tally()
    tally.begin(content_type)
    for chunk in chunks:
        tally.hear(chunk)
    if is_whole:
        tally.end()
    return tally


WHOLE = Tokens(input=10, output=77, cache_read=300, cache_write=40, cache_write_1h=25)


def test_a_stream_says_at_its_beginning_what_went_in_and_at_its_end_what_came_out() -> None:
    tally = heard(START, delta("hello"), END, STOP)
    assert (tally.model, tally.tokens, tally.is_complete) == ("claude-x", WHOLE, True)


@given(st.lists(st.integers(1, 60), max_size=40))
def test_a_stream_is_counted_the_same_however_it_is_cut_into_chunks(cuts: list[int]) -> None:
    stream, chunks = START + delta('"usage" in words, {"usage": {"output_tokens": 5}}') + END + STOP, []
    for cut in cuts:
        chunks.append(stream[:cut])
        stream = stream[cut:]
    tally = heard(*chunks, stream)
    assert (tally.tokens, tally.is_complete) == (WHOLE, True)


def test_a_document_says_everything_in_one_place() -> None:
    body = json.dumps({"type": "message", "model": "claude-x", "usage": USAGE}).encode()
    tally = heard(body[:20], body[20:], content_type="application/json")
    assert (tally.tokens, tally.is_complete) == (Tokens(input=10, output=1, cache_read=300, cache_write=40), True)


def test_of_a_stream_that_is_cut_each_piece_was_a_token_at_least() -> None:
    tally = heard(START, *[delta("word ")] * 9, is_whole=False)
    assert tally.tokens is not None
    assert (tally.tokens.input, tally.tokens.output, tally.is_complete) == (10, 9, False)


def test_of_a_stream_that_is_cut_before_its_usage_nothing_is_known() -> None:
    tally = heard(START[:50], is_whole=False)
    assert (tally.tokens, tally.is_complete) == (None, False)


@pytest.mark.parametrize("value", [-1, 10**30, 2**53, "12", 1.5, True, [], {}], ids=repr)
@pytest.mark.parametrize("field", [*USAGE, "usage"])
def test_a_number_of_tokens_that_cannot_be_leaves_the_count_incomplete(field: str, value: Any) -> None:
    usage = value if field == "usage" else {**USAGE, field: value}
    for kind, body in (
        (STREAM, event("message_start", message={"model": "m", "usage": usage}) + END),
        ("application/json", json.dumps({"model": "m", "usage": usage}).encode()),
    ):
        tally = heard(body, content_type=kind)
        assert tally.is_complete is False
        assert tally.tokens is None or tally.tokens.total < 1000


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"data: {\n\n", b"[" * 5000], ids=lambda body: body[:8]
)
def test_what_is_no_answer_counts_nothing(body: bytes) -> None:
    for kind in (STREAM, "application/json", ""):
        tally = heard(body, content_type=kind)
        assert (tally.tokens, tally.is_complete) == (None, False)


def test_a_line_or_a_document_that_does_not_end_takes_bounded_memory_and_what_follows_a_line_is_heard() -> None:
    chunk = b"x" * 60_000
    tally = heard(*[b"data: " + chunk] * 50, b'"usage"\n\n', START, END)
    assert (tally.tokens, tally.is_complete) == (WHOLE, True)
    document = heard(*[chunk] * 50, content_type="application/json", is_whole=False)
    assert len(document._rest) < 2_000_000


def test_a_name_of_a_model_is_one_short_line() -> None:
    tally = heard(event("message_start", message={"model": "a\nb\x1b[1m" * 500, "usage": USAGE}))
    assert len(tally.model) <= 200
    assert tally.model.isprintable()
