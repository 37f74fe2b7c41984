"""What all tests of backups need."""

from __future__ import annotations

import os

import pytest


@pytest.fixture(autouse=True)
def no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore waits for the disk, which every other program of this machine may keep busy."""
    monkeypatch.setattr(os, "sync", lambda: None)
