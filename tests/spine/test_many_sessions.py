"""A home with many sessions: a start looks at those alone that have work, whatever lies in the folders of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from anyio import to_thread

from bench.crowd import make_crowd, session_folder
from nanoclaw_core.mailbox import box
from nanoclaw_core.mailbox.files import MailboxFiles
from tests.spine.spine import Spine, routed


async def test_a_start_opens_the_mailboxes_of_marked_sessions_alone(spine: Spine, monkeypatch: pytest.MonkeyPatch) -> None:
    await make_crowd(spine.home, 300, now=spine.clock.time(), messages=1)
    for number in range(300):
        await to_thread.run_sync(spoil, session_folder(spine.home, number))
    opened: list[Path] = []

    class Noted(MailboxFiles):
        def __init__(self, folder: Path) -> None:
            opened.append(folder)
            super().__init__(folder)

    monkeypatch.setattr(box, "MailboxFiles", Noted)
    async with spine.host() as host:
        assert opened == []
        await spine.chat.say("hello")
        await routed(host)
        await spine.settled()
    assert {folder.name for folder in opened}.isdisjoint(f"s{number}" for number in range(300))
    assert len(set(opened)) == 1
    assert await spine.texts(1) == ["You said: hello"]


def spoil(folder: Path) -> None:
    """Nobody could read this without noticing."""
    for name in ("inbound.db", "outbound.db"):
        (folder / name).write_bytes(b"garbage " * 512)
