"""What all tests of backups need."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="session")
def no_sync() -> Iterator[None]:
    """A restore waits for the disk, which every other program of this machine may keep busy."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "sync", lambda: None)
        yield
