"""What an engine is: the agent harness that a worker runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

ENGINES: Final = "nanoclaw.engines"  # the group of entry points


class EngineFailed(Exception):
    """The engine cannot go on; the text is one line for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an engine works: its folders, the address of the gateway inside the container, and its own options."""

    workspace: Path
    state: Path
    gateway: str
    options: Mapping[str, Any]  # each engine checks its own


class Reports(Protocol):
    """What an engine tells. Arguments are plain values, so that an engine needs no import of this package."""

    async def answered(self, covered: Sequence[str], text: str, *, conversation: str, usage: Mapping[str, int]) -> None:
        """A turn ended with `text`, which answers the pushes in `covered`; stored durably when this returns."""

    async def turn_failed(
        self,
        covered: Sequence[str],
        kind: str,
        detail: str,
        *,
        status: int | None = None,
        conversation: str,
        usage: Mapping[str, int],
    ) -> None:
        """A turn ended without an answer: `kind` is model (with the provider's `status`), engine or interrupted."""

    async def progressed(self, note: str) -> None:
        """What the engine does now; may be lost."""

    async def wrote(self, piece: str, *, anew: bool = False) -> None:
        """The engine goes on with a text that may become the answer, or begins one `anew`; may be lost."""

    async def stirred(self) -> None:
        """The engine has begun something that no push waits for."""


class Engine(Protocol):
    """An agent harness. Whatever `run` raises ends the worker; `push` and `interrupt` may be called before it is ready.

    `label` is its name and version, for people.
    """

    label: str

    @property
    def background(self) -> bool:
        """Whether it does something, or is about to, that no push waits for: its worker must not be frozen."""

    async def run(self, reports: Reports) -> None:
        """Work until cancelled."""

    async def push(self, uuid: str, text: str) -> None:
        """Take `text` into the running turn, or begin one. Each uuid must come back in exactly one report."""

    async def interrupt(self) -> None:
        """Stop the running turn, whose report then says so; pushes that wait are kept."""


EngineFactory = Callable[[Place], Engine]


def find_engine(name: str) -> EngineFactory:
    """The engine called `name`: `claude`, or an installed entry point of `nanoclaw.engines`.

    Raises:
        EngineFailed: there is none, or it cannot be imported.
    """
    if name == "claude":
        from nanoclaw_runner.claude import ClaudeEngine

        return ClaudeEngine
    from importlib.metadata import entry_points  # slow, and not needed for Claude Code

    found = entry_points(group=ENGINES, name=name)
    if not found:
        known = ", ".join(sorted({"claude", *entry_points(group=ENGINES).names}))
        raise EngineFailed(f"there is no engine named {name!r} (known: {known})")
    try:
        factory: EngineFactory = next(iter(found)).load()
    except (ImportError, AttributeError) as error:
        raise EngineFailed(f"the engine {name!r} cannot be imported: {error}") from error
    return factory
