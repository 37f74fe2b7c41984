"""The contract of lines of `nanoclaw doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import anyio
import pytest

from nanoclaw_core.errors import ModelUnavailable, RuntimeUnavailable
from nanoclaw_core.ports import Check, CheckContext, CheckResult, CheckStatus, Provider, Runtime
from nanoclaw_core.testing.clock import FakeClock
from nanoclaw_core.testing.contracts.report import capability


@pytest.mark.anyio
class CheckContract:
    """The rules of a `Check`. Inherit, name the class Test…, and supply the fixture `check`; perhaps `variables`, `context`."""

    @pytest.fixture
    def check(self) -> Check:
        raise NotImplementedError("a fixture `check` that returns the check under test")

    @pytest.fixture
    def variables(self) -> Mapping[str, str]:
        """What is set: a secret that no line may show."""
        return {"EXAMPLE_API_KEY": "sk-a-secret-of-the-contract"}

    @pytest.fixture
    def context(self, nanoclaw_home: Path, variables: Mapping[str, str]) -> CheckContext:
        """An empty home on a machine on which nothing answers."""
        return CheckContext(
            home=nanoclaw_home,
            variables=variables,
            plugins=(),
            fields=(),
            host=None,
            runtime=_no_runtime,
            provider=_no_provider,
            clock=FakeClock(),
        )

    @capability("lines")
    async def test_every_line_says_something_and_nothing_twice(self, check: Check, context: CheckContext) -> None:
        lines = await _lines(check, context)
        assert all(line.name and line.reason for line in lines)
        assert len({(line.name, line.reason) for line in lines}) == len(lines)

    @capability("lines")
    async def test_whatever_failed_comes_with_what_to_do(self, check: Check, context: CheckContext) -> None:
        assert [line.reason for line in await _lines(check, context) if line.status is CheckStatus.FAIL and not line.fix] == []

    @capability("secrets")
    async def test_no_line_shows_the_value_of_a_variable(
        self, check: Check, context: CheckContext, variables: Mapping[str, str]
    ) -> None:
        assert [value for value in variables.values() if value in repr(await _lines(check, context))] == []

    @capability("harmless")
    async def test_looking_changes_nothing(self, check: Check, context: CheckContext) -> None:
        before = _everything_below(context.home)
        await _lines(check, context)
        assert _everything_below(context.home) == before


async def _lines(check: Check, context: CheckContext) -> list[CheckResult]:
    with anyio.fail_after(check.time_limit):
        return [line async for line in check.run(context)]


def _everything_below(home: Path) -> dict[str, tuple[int, bytes]]:
    files = (path for path in home.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mode, path.read_bytes()) for path in files}


def _no_runtime() -> Runtime:
    raise RuntimeUnavailable("none", "this is a test")


def _no_provider() -> Provider:
    raise ModelUnavailable("this is a test")
