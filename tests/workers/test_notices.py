"""What a chat is told when there is no answer."""

from __future__ import annotations

import pytest

from nanoclaw_core.models import Failure, FailureKind
from nanoclaw_core.workers import notices


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 429, 500, 503, 504, 529, 418, None])
def test_every_refusal_of_the_model_has_words_and_keeps_the_providers_own(status: int | None) -> None:
    notice = notices.of_failure(Failure(kind=FailureKind.MODEL, detail="API Error: x", status=status))
    assert notice.startswith("⚠️ I could not answer. The ")
    assert notice.endswith("(API Error: x)")


@pytest.mark.parametrize("status", [429, 500, 503, 504, 529])
def test_what_passes_by_itself_says_when_to_try_again(status: int) -> None:
    assert "few minutes" in notices.of_failure(Failure(kind=FailureKind.MODEL, detail="", status=status))


def test_a_broken_engine_is_not_blamed_on_the_model() -> None:
    notice = notices.of_failure(Failure(kind=FailureKind.ENGINE, detail="exit code 1"))
    assert "engine" in notice
    assert "model" not in notice


def test_an_interrupted_turn_is_no_failure() -> None:
    assert notices.of_failure(Failure(kind=FailureKind.INTERRUPTED, detail="")) == "(Stopped.)"


@pytest.mark.parametrize("stop", ["", "."])
def test_a_given_up_message_says_how_often_and_why_and_what_to_do(stop: str) -> None:
    notice = notices.of_lost_worker("Andy B", 3, f"The container c1 failed: its container ended with code 137{stop}")
    assert "3 times" in notice
    assert "code 137. Send it again" in notice
    assert notice.endswith("`nanoclaw logs --worker 'Andy B'`.")
