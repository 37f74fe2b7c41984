"""Claude Code's transcript tells which pushes of earlier lives are answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nanoclaw_runner.transcript import Turn, find_transcript, read_turns


def user(uuid: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"type": "user", "uuid": uuid, "message": {"role": "user", "content": content}, **more}


def assistant(text: str, reason: str | None = "end_turn", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": [{"type": "text", "text": text}], "stop_reason": reason}
    return {"type": "assistant", "uuid": "a", "message": message, **more}


def folded(uuid: str) -> dict[str, Any]:
    return {"type": "attachment", "attachment": {"type": "queued_command", "prompt": "x", "source_uuid": uuid}}


CALL = {
    "type": "assistant",
    "message": {"content": [{"type": "tool_use", "id": "t", "name": "Bash", "input": {}}], "stop_reason": "tool_use"},
}
RESULT = user("r", [{"type": "tool_result", "tool_use_id": "t", "content": "7"}])
INTERRUPTED = user("i", [{"type": "text", "text": "[Request interrupted by user for tool use]"}])
FAILED = assistant("API Error: 529 overloaded", "stop_sequence", isApiErrorMessage=True, apiErrorStatus=529)
CONTINUE = user("m", [{"type": "text", "text": "Continue from where you left off."}], isMeta=True)


def turns(tmp_path: Path, *entries: dict[str, Any], resume: bool = True) -> list[Turn]:
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(entry, separators=(",", ":")) + "\n" for entry in entries))
    return read_turns(path, path.stat().st_size, resume_interrupted=resume)


def test_an_answered_turn_has_its_last_text(tmp_path: Path) -> None:
    (turn,) = turns(tmp_path, user("u1", "hi"), assistant("let me see", "tool_use"), CALL, RESULT, folded("u2"), assistant("7"))
    assert (turn.members, turn.answer, turn.rerun) == (("u1", "u2"), "7", False)


@pytest.mark.parametrize("cut", [(), (CALL,), (CALL, RESULT), (assistant("half", None),), (FAILED,), (CALL, CONTINUE, CALL)])
def test_a_cut_last_turn_is_run_again(tmp_path: Path, cut: tuple[dict[str, Any], ...]) -> None:
    (turn,) = turns(tmp_path, user("u1", "hi"), *cut)
    assert turn.rerun


def test_nothing_is_run_again_when_that_is_switched_off(tmp_path: Path) -> None:
    assert not turns(tmp_path, user("u1", "hi"), CALL, resume=False)[0].rerun


def test_an_interrupted_turn_is_over(tmp_path: Path) -> None:
    (turn,) = turns(tmp_path, user("u1", "hi"), CALL, RESULT, INTERRUPTED)
    assert turn.interrupted
    assert not turn.rerun


def test_a_failed_turn_that_others_followed_stays_failed(tmp_path: Path) -> None:
    failed, after = turns(tmp_path, user("u1", "hi"), FAILED, user("u2", "there"), assistant("ok"))
    assert (failed.error, failed.status, failed.rerun, after.answer) == ("API Error: 529 overloaded", 529, False, "ok")


def test_pushes_that_were_merged_into_one_prompt_are_found_by_their_text(tmp_path: Path) -> None:
    (turn,) = turns(tmp_path, user("u3", "<m>two</m>\n<m>three</m>"), assistant("ok"))
    assert turn.holds("u2", "<m>two</m>")
    assert turn.holds("u3", "<m>three</m>")
    assert not turn.holds("u9", "<m>tw")


def test_the_same_words_in_a_new_push_are_a_new_question(tmp_path: Path) -> None:
    answered, cut = turns(tmp_path, user("u1", "again"), assistant("ok"), user("u2", "more"))
    assert not answered.holds("u9", "again")
    assert cut.holds("u9", "more")  # it is about to be run again: asking twice would answer twice


def test_subagents_and_torn_lines_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    side = json.dumps(user("s", "side", isSidechain=True), separators=(",", ":"))
    main = json.dumps(user("u1", "hi"), separators=(",", ":"))
    path.write_text(f'{side}\n{main}\n{{"type":"assistant","mess')
    assert [turn.uuid for turn in read_turns(path, 10**6, resume_interrupted=True)] == ["u1"]


def test_what_was_written_later_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    first = json.dumps(user("u1", "hi"), separators=(",", ":")) + "\n"
    path.write_text(first + json.dumps(assistant("ok"), separators=(",", ":")) + "\n")
    assert read_turns(path, len(first), resume_interrupted=True)[0].answer is None


def test_a_transcript_is_found_below_any_project(tmp_path: Path) -> None:
    path = tmp_path / ".claude" / "projects" / "-workspace" / "abc.jsonl"
    path.parent.mkdir(parents=True)
    path.touch()
    assert find_transcript(tmp_path, "abc") == path
    assert find_transcript(tmp_path, "abd") is None
