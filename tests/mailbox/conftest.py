"""A mailbox in an empty home."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanoclaw_core.mailbox import Mailbox, Mailboxes
from nanoclaw_core.models import Session


@pytest.fixture
def session() -> Session:
    return Session(id="s1", agent_group_id="a1", messaging_group_id="m1", thread=None, folder="sessions/andy/s1")


@pytest.fixture
async def mailboxes(tmp_path: Path) -> AsyncIterator[Mailboxes]:
    boxes = Mailboxes(tmp_path, now=lambda: 100.0)
    yield boxes
    await boxes.close()


@pytest.fixture
async def mailbox(mailboxes: Mailboxes, session: Session) -> Mailbox:
    return await mailboxes.open(session)
