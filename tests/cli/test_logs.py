"""What the log shows to people, and what it never shows."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from nanoclaw_core.builtins import event_log
from nanoclaw_core.cli import logs
from nanoclaw_core.gateway import caller
from nanoclaw_core.mask import Mask
from nanoclaw_core.models import Event
from nanoclaw_core.supervise import Health, supervise, survive
from nanoclaw_core.testing import FakeClock


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Give the next test the logging that this one found."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)


def fail(secret: str) -> None:
    raise ValueError(f"it broke, {len(secret)}")


@pytest.mark.parametrize("on_a_terminal", [True, False])
def test_a_traceback_shows_no_values_of_variables(
    on_a_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = "-".join(["the", "secret"])
    monkeypatch.setattr("sys.stderr.isatty", lambda: on_a_terminal)
    logs.configure("info")
    try:
        fail(secret)
    except ValueError:
        structlog.get_logger().warning("survived", exc_info=True)
    printed = capsys.readouterr().err
    assert "it broke, 10" in printed
    assert "in fail" in printed
    assert secret not in printed


# --- components and secrets -------------------------------------------------------------------------------------------------


def lines_of(path: Path) -> list[dict[str, Any]]:  # Any: as diverse as events
    return [json.loads(line) for line in path.read_text().splitlines()]


async def test_every_line_names_the_component_that_speaks(tmp_path: Path) -> None:
    logs.configure("info", tmp_path / "host.log")
    tell = teller("nanoclaw_core.workers.life", event_log.nanoclaw_event)
    tell(Event(name="worker.ended", at=0.0, data={}))
    complaints = caller.Complaints(worker="w1")
    complaints.warn("refused")
    await survive("check", broken(), warn=complaints.warn)
    logging.getLogger("aiohttp.server").warning("odd")
    with structlog.contextvars.bound_contextvars(component="channel parrot"):
        complaints.warn("in the channel's task")
        logging.getLogger("parrots.wire").warning("cut")
    components = [line["component"] for line in lines_of(tmp_path / "host.log")]
    assert components == ["workers", "gateway", "gateway", "aiohttp", "channel parrot", "channel parrot"]


def teller(module: str, hear: Callable[[Event], None]) -> Callable[[Event], None]:
    """A function of `module` that has plugins hear of an event, by way of the module that calls them."""
    through: dict[str, Any] = {"__name__": "nanoclaw_core.plugins", "hear": hear}
    exec("def tell(event): hear(event)", through)  # noqa: S102
    teller: dict[str, Any] = {"__name__": module, "tell": through["tell"]}
    exec("def say(event): tell(event)", teller)  # noqa: S102
    said: Callable[[Event], None] = teller["say"]
    return said


async def broken() -> None:
    raise ValueError("it broke")


async def test_a_part_that_failed_is_the_one_that_speaks(tmp_path: Path) -> None:
    logs.configure("info", tmp_path / "host.log")

    class Stopped(BaseException):
        pass

    async def run(_: object) -> None:
        raise ValueError("it broke")

    class StoppedClock(FakeClock):
        async def sleep(self, seconds: float) -> None:
            raise Stopped

    with pytest.raises(Stopped):
        await supervise(run, Health(name="delivery"), StoppedClock())
    assert [line["component"] for line in lines_of(tmp_path / "host.log")] == ["delivery"]


@pytest.mark.parametrize("to_file", [True, False])
def test_a_secret_in_an_error_of_a_library_is_hidden_with_its_traceback(
    to_file: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = Mask()
    logs.configure("info", tmp_path / "host.log" if to_file else None, mask)
    mask.add(['sk-"secret"-1'])  # the host learns it only after the log has begun
    try:
        raise ValueError('cannot use sk-"secret"-1')
    except ValueError:
        structlog.get_logger().warning("survived", exc_info=True, headers={"x-api-key": "unknown-key"})
        logging.getLogger("library").exception('it was sk-"secret"-1')
    printed = (tmp_path / "host.log").read_text() if to_file else capsys.readouterr().err
    assert printed.count("cannot use ***") >= 2
    assert "it was ***" in printed
    assert "secret" not in printed.replace("test_a_secret", "")
    assert "unknown-key" not in printed
