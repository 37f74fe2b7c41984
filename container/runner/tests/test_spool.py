"""Frames that matter survive the runner's death."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from nanoclaw_runner import spool as spools
from nanoclaw_runner.frames import TurnEnd, Usage, encode
from nanoclaw_runner.spool import Spool


def end(number: int, text: str = "hi") -> TurnEnd:
    return TurnEnd(id=f"w1-{number}", covered=(f"u{number}",), text=text, conversation="c", failure=None, usage=Usage())


async def test_a_successor_finds_what_was_not_acknowledged(tmp_path: Path) -> None:
    first = Spool(tmp_path / "deep" / "spool.jsonl")
    first.load()
    for number in (1, 2, 3):
        await first.put(end(number, "two\nlines — 🤖"))
    await first.remove("w1-2")
    second = Spool(tmp_path / "deep" / "spool.jsonl")
    second.load()
    assert [second.covers(uuid) for uuid in ("u1", "u2", "u3")] == [True, False, True]
    assert list(second.lines.values()) == [encode(end(1, "two\nlines — 🤖")), encode(end(3, "two\nlines — 🤖"))]


async def test_a_torn_last_line_is_dropped_and_the_next_frame_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    path.write_bytes(encode(end(1)).encode() + b"\n" + encode(end(2)).encode()[:40])
    torn = Spool(path)
    torn.load()
    await torn.put(end(3))
    fresh = Spool(path)
    fresh.load()
    assert list(fresh.lines) == ["w1-1", "w1-3"]


async def test_other_garbage_in_the_file_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "spool.jsonl"
    path.write_bytes(b'\xff\xfe\n{"type": "heartbeat"}\n' + encode(end(1)).encode() + b"\n")
    spool = Spool(path)
    spool.load()
    assert list(spool.lines) == ["w1-1"]


async def test_a_full_spool_waits_for_an_acknowledgement_and_keeps_the_oldest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spools, "MAX_FRAMES", 2)
    spool = Spool(tmp_path / "spool.jsonl")
    spool.load()
    await spool.put(end(1))
    await spool.put(end(2))
    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(spool.put, end(3))
            await anyio.wait_all_tasks_blocked()
            assert list(spool.lines) == ["w1-1", "w1-2"]
            await spool.remove("w1-1")
    assert list(spool.lines) == ["w1-2", "w1-3"]


async def test_an_unknown_acknowledgement_is_fine(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.jsonl")
    spool.load()
    await spool.remove("w0-99")
    assert spool.lines == {}
