"""The frames of the link, as `container/PROTOCOL.md` describes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import ClassVar, Final, TypeAlias, TypeVar

from nanoclaw_runner.records import Misfit, record

PROTOCOLS: Final = (1,)
MAX_FRAME: Final = 16 * 2**20  # bytes
MAX_TEXT: Final = 1_000_000  # characters of an answer
MAX_NOTE: Final = 200  # characters of a progress note
MAX_DETAIL: Final = 500  # characters of a failure
MAX_PREVIEW: Final = 16_000  # characters of an answer that is being written


class FrameRefused(ValueError):
    """The other side sent what the protocol does not allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a turn ended without an answer; `kind` is model, engine or interrupted."""

    kind: str
    detail: str
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens of one end of a turn, and how often the model was called."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    model_calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The runner introduces itself."""

    type: ClassVar[str] = "hello"
    protocols: tuple[int, ...]
    worker: str
    engine: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnEnd:
    """A turn ended: `text` answers the pushes in `covered`, or `failure` says why nothing does.

    `background` is whether something goes on all the same, so that this worker must not be frozen.
    """

    type: ClassVar[str] = "turn_end"
    id: str
    covered: tuple[str, ...]
    text: str
    conversation: str
    failure: Failure | None
    usage: Usage
    background: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The engine is dead."""

    type: ClassVar[str] = "failed"
    id: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What the engine does at the moment."""

    type: ClassVar[str] = "progress"
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """The beginning of the answer that is being written, from its first character on."""

    type: ClassVar[str] = "preview"
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """The runner lives; `background` is as in `TurnEnd`."""

    type: ClassVar[str] = "heartbeat"
    background: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Welcome:
    """The host chose a version of the protocol."""

    type: ClassVar[str] = "welcome"
    protocol: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Push:
    """Something for the engine; `stream` is whether people can see its answer while it is being written."""

    type: ClassVar[str] = "push"
    uuid: str
    text: str = field(repr=False)
    stream: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """The host has stored the spooled frame `id`."""

    type: ClassVar[str] = "ack"
    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupt:
    """Stop the running turn."""

    type: ClassVar[str] = "interrupt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Shutdown:
    """End the runner."""

    type: ClassVar[str] = "shutdown"


Spooled: TypeAlias = TurnEnd | Failed
RunnerFrame: TypeAlias = Hello | TurnEnd | Failed | Progress | Preview | Heartbeat
HostFrame: TypeAlias = Welcome | Push | Ack | Interrupt | Shutdown

_FROM_RUNNER: Final[Mapping[str, type[RunnerFrame]]] = {
    kind.type: kind for kind in (Hello, TurnEnd, Failed, Progress, Preview, Heartbeat)
}
_FROM_HOST: Final[Mapping[str, type[HostFrame]]] = {kind.type: kind for kind in (Welcome, Push, Ack, Interrupt, Shutdown)}

Kind = TypeVar("Kind")


def encode(frame: RunnerFrame | HostFrame) -> str:
    """One line of JSON. Lone surrogates, which UTF-8 cannot carry, become U+FFFD."""
    line = json.dumps({"type": frame.type, **asdict(frame)}, ensure_ascii=False)
    return line.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def decode_host(line: str | bytes) -> HostFrame:
    """Read a frame of the host.

    Raises:
        FrameRefused: it is none.
    """
    return _decode(line, _FROM_HOST)


def decode_runner(line: str | bytes) -> RunnerFrame:
    """Read a frame of a runner, as the spool holds them.

    Raises:
        FrameRefused: it is none.
    """
    return _decode(line, _FROM_RUNNER)


def _decode(line: str | bytes, kinds: Mapping[str, type[Kind]]) -> Kind:
    try:
        raw = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise FrameRefused(f"no JSON: {error}") from error
    name = raw.get("type") if isinstance(raw, dict) else None
    if not isinstance(name, str) or name not in kinds:
        raise FrameRefused(f"unknown frame {name!r}")
    try:
        return record(kinds[name], raw)
    except Misfit as misfit:
        raise FrameRefused(f"{name}: {misfit}") from misfit


def one_line(text: str, limit: int) -> str:
    """`text` with every run of white space as one blank, at most `limit` characters.

    >>> one_line("API Error:\\n  529 overloaded", 14)
    'API Error: 52…'
    """
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def joined(uuids: Iterable[str]) -> tuple[str, ...]:
    """The uuids in their order, each once."""
    return tuple(dict.fromkeys(uuids))
