"""An environment for each test, and one that is only looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packages.parcels import Environment, make_template


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def environment(template: Path, tmp_path: Path, nanoclaw_home: Path) -> Environment:
    return Environment(tmp_path, template, nanoclaw_home)
