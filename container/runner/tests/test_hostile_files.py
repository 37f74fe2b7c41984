"""Whatever an earlier agent left in its folders: nothing blocks the runner, and nothing is believed."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from nanoclaw_runner.archive import archive
from nanoclaw_runner.cli import ClaudeOptions, arguments
from nanoclaw_runner.engines import Place
from nanoclaw_runner.files import open_regular, write_whole
from nanoclaw_runner.frames import MAX_TEXT, Failed, FrameRefused, TurnEnd, Usage, decode_host, encode
from nanoclaw_runner.home import settle
from nanoclaw_runner.spool import MAX_FRAMES, Spool
from nanoclaw_runner.transcript import MAX_TRANSCRIPT, find_transcript, read_turns

UUID = "0b0e1d2c-0000-4000-8000-000000000000"
DEEP = b"[" * 100_000


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()
    (path / "full").touch()


def link_without_end(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def locked(path: Path) -> None:
    path.write_bytes(b"{}")
    path.chmod(0)


ODD = [fifo, folder, link_without_end, loop]
odd = pytest.mark.parametrize("plant", ODD)


async def bounded(work: Callable[..., Any], *arguments: Any) -> Any:
    """Run blocking work; a test that hangs in it fails."""
    with anyio.fail_after(30):
        return await to_thread.run_sync(work, *arguments, abandon_on_cancel=True)


def frame(**changes: Any) -> str:
    values = {"id": "w1-1", "covered": ("u1",), "text": "hi", "conversation": "c", "failure": None, "usage": Usage()}
    return encode(TurnEnd(**{**values, **changes}))


def spooled(path: Path, *lines: str | bytes) -> Spool:
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    spool = Spool(path)
    spool.load()
    return spool


@odd
async def test_what_stands_in_the_place_of_a_file_is_set_aside_and_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], plant: Callable[[Path], None]
) -> None:
    plant(tmp_path / "file")
    assert await bounded(open_regular, tmp_path / "file") is None
    assert "cannot be used" in capsys.readouterr().err
    await bounded(write_whole, tmp_path / "file", [b"a", b"b"])
    assert (tmp_path / "file").read_bytes() == b"ab"


@odd
async def test_the_instructions_arrive_whatever_stands_in_their_place(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    (tmp_path / ".nanoclaw").mkdir()
    for name in ("instructions.md", "instructions.md.new"):
        plant(tmp_path / ".nanoclaw" / name)
    place = Place(workspace=tmp_path, state=tmp_path, gateway="http://127.0.0.1:1", options={})
    options = ClaudeOptions(conversation=UUID, instructions="You are Andy.")
    words = await bounded(lambda: arguments(options, place, resume=False))
    assert words[words.index("--append-system-prompt-file") + 1] == str(tmp_path / ".nanoclaw" / "instructions.md")
    assert (tmp_path / ".nanoclaw" / "instructions.md").read_text() == "You are Andy."


@pytest.mark.parametrize("name", ["spool.jsonl", "spool.jsonl.new"])
@odd
async def test_a_spool_works_whatever_stands_in_its_place(tmp_path: Path, plant: Callable[[Path], None], name: str) -> None:
    (tmp_path / ".nanoclaw").mkdir()
    plant(tmp_path / ".nanoclaw" / name)
    spool = Spool(tmp_path / ".nanoclaw" / "spool.jsonl")
    await bounded(spool.load)
    with anyio.fail_after(30):
        await spool.put(Failed(id="w1-1", detail="x"))
        await spool.put(Failed(id="w1-2", detail="y"))
    again = Spool(tmp_path / ".nanoclaw" / "spool.jsonl")
    again.load()
    assert list(again.lines) == ["w1-1", "w1-2"]


@odd
async def test_a_spool_that_is_exchanged_while_it_is_used_costs_nothing(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    spool = Spool(tmp_path / "spool.jsonl")
    spool.load()
    await spool.put(Failed(id="w1-1", detail="x"))
    (tmp_path / "spool.jsonl").unlink()
    plant(tmp_path / "spool.jsonl")
    with anyio.fail_after(30):
        await spool.put(Failed(id="w1-2", detail="y"))
    again = Spool(tmp_path / "spool.jsonl")
    again.load()
    assert list(again.lines) == ["w1-1", "w1-2"]


async def test_a_frame_that_cannot_be_stored_is_still_there_to_be_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = Spool(tmp_path / "deep" / "spool.jsonl")
    spool.load()
    (tmp_path / "deep").rmdir()
    await spool.put(Failed(id="w1-1", detail="x"))
    assert list(spool.lines) == ["w1-1"]
    assert "cannot be written" in capsys.readouterr().err


ABSURD = [
    frame(id=""),
    frame(id="x" * 201),
    frame(id="\ud800"),  # would never match its acknowledgement
    frame(covered=("u",) * 1001),
    frame(covered=("u" * 201,)),
    frame(text="x" * (MAX_TEXT + 1)),
    frame(conversation="c" * 201),
    frame(usage=Usage(input_tokens=-1)),
    frame(usage=Usage(input_tokens=2**53 + 1)),
    frame().replace('"failure": null', '"failure": {"kind": "nonsense", "detail": ""}'),
    frame().replace('"failure": null', '"failure": {"kind": "model", "detail": "", "status": 1000000000000000000000}'),
    '{"type": "failed", "id": "f", "detail": "' + "x" * 501 + '"}',
    DEEP,
    b"\xff\xfe",
    '{"type": "heartbeat"}',
]


@pytest.mark.parametrize("line", ABSURD, ids=range(len(ABSURD)))
async def test_a_frame_that_the_host_would_refuse_is_not_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str | bytes
) -> None:
    spool = spooled(tmp_path / "spool.jsonl", line, frame(id="w1-9"))
    assert list(spool.lines) == ["w1-9"]
    assert "1 lines that are no frames" in capsys.readouterr().err


async def test_a_forged_spool_is_taken_over_up_to_its_bounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spool = spooled(tmp_path / "spool.jsonl", *(frame(id=f"x-{number}") for number in range(100_000)))
    assert len(spool.lines) == MAX_FRAMES
    assert "are ignored" in capsys.readouterr().err
    assert (tmp_path / "spool.jsonl").stat().st_size < 64 * 1024


def test_a_deep_frame_is_refused_and_no_more() -> None:
    with pytest.raises(FrameRefused):
        decode_host(DEEP)


# --- Claude Code's home -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [".nanoclaw", ".claude", ".claude/projects", ".claude/projects/-workspace"])
@pytest.mark.parametrize("plant", [fifo, link_without_end, loop, locked])
async def test_a_folder_is_a_folder_again(tmp_path: Path, plant: Callable[[Path], None], name: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    plant(tmp_path / name)
    await bounded(settle, tmp_path)
    for usable in (".nanoclaw", ".claude", ".claude/projects"):
        assert not (tmp_path / usable).is_symlink()
        (tmp_path / usable / "file").touch()
    assert find_transcript(tmp_path, UUID) is None


@pytest.mark.parametrize("name", [".claude.json", ".claude/.config.json", ".claude/.credentials.json", ".claude/settings.json"])
@pytest.mark.parametrize("plant", [fifo, link_without_end, loop, locked])
def test_nothing_that_configures_claude_code_outlives_a_worker(
    tmp_path: Path, plant: Callable[[Path], None], name: str
) -> None:
    kept = tmp_path / ".claude" / "projects" / "-workspace" / f"{UUID}.jsonl"
    kept.parent.mkdir(parents=True)
    kept.touch()
    plant(tmp_path / name)
    settle(tmp_path)
    assert name not in [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")]
    assert find_transcript(tmp_path, UUID) == kept


async def test_a_configuration_that_is_a_folder_is_set_aside(tmp_path: Path) -> None:
    folder(tmp_path / ".claude.json")
    settle(tmp_path)
    assert not (tmp_path / ".claude.json").exists()


# --- transcripts ------------------------------------------------------------------------------------------------------------


def transcript(state: Path) -> Path:
    path = state / ".claude" / "projects" / "-workspace" / f"{UUID}.jsonl"
    path.parent.mkdir(parents=True)
    return path


@odd
async def test_what_is_no_transcript_is_not_found(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    path = transcript(tmp_path)
    plant(path)
    assert await bounded(find_transcript, tmp_path, UUID) is None
    assert path not in list(path.parent.iterdir())  # else Claude Code would find it, and refuse to begin under this id


def test_a_transcript_beyond_all_measure_is_set_aside(tmp_path: Path) -> None:
    path = transcript(tmp_path)
    path.touch()
    os.truncate(path, MAX_TRANSCRIPT + 1)
    assert find_transcript(tmp_path, UUID) is None
    assert not path.exists()


async def test_forged_entries_are_skipped(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    good = {"type": "user", "uuid": "u1", "message": {"role": "user", "content": "hi"}}
    forged: list[Any] = [
        {"type": "user", "message": "no object"},
        {"type": "user", "message": {"content": 7}},
        {"type": "user", "message": {"content": [7]}},
        {"type": "assistant", "message": {"content": [{"type": "text", "text": 7}]}},
        {"type": "assistant", "attachment": 7},
    ]
    lines = [json.dumps(entry, separators=(",", ":")).encode() for entry in [good, *forged]]
    path.write_bytes(b"\n".join([*lines, b'{"type":"user","message":' + DEEP]) + b"\n")
    turns = await bounded(lambda: read_turns(path, path.stat().st_size, resume_interrupted=True))
    assert [turn.uuid for turn in turns] == ["u1"]


@odd
async def test_a_transcript_that_became_something_else_is_not_archived(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    plant(tmp_path / "t.jsonl")
    (tmp_path / ".nanoclaw").mkdir()
    await bounded(archive, tmp_path / "t.jsonl", tmp_path / ".nanoclaw" / "transcripts")
    assert list((tmp_path / ".nanoclaw" / "transcripts").iterdir()) == []
