"""A world for one host, and the model that it asks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nanoclaw_core.testing import ScriptedModel
from tests.spine.spine import Containers, Spine

API_KEY = "sk-test-of-the-spine"


@pytest.fixture
async def spine(nanoclaw_home: Path) -> AsyncIterator[Spine]:
    """Without a credential: the demo provider answers."""
    async with Containers() as runtime:
        yield Spine(home=nanoclaw_home, runtime=runtime)


@pytest.fixture
async def model(spine: Spine, nanoclaw_scripted_model: ScriptedModel) -> ScriptedModel:
    """The model that the provider `anthropic` asks."""
    spine.variables |= {"ANTHROPIC_API_KEY": API_KEY, "ANTHROPIC_BASE_URL": nanoclaw_scripted_model.url}
    return nanoclaw_scripted_model
