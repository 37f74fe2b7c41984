"""The frames of the link, as `container/PROTOCOL.md` defines them: runners' JSON becomes records, ours becomes JSON."""

from __future__ import annotations

import json
import uuid
from typing import Annotated, Final

import msgspec

from nanoclaw_core.errors import ProtocolViolation
from nanoclaw_core.gateway import documents
from nanoclaw_core.models import Failure, FailureKind, Progress, Push, TurnEnd, Usage, clean_text

MOST_BYTES: Final = 16 * 1024 * 1024
SHAPE: Final = documents.Shape(quotes=20_000, bare=100_000)
MOST_PREVIEW: Final = 16_000
_MOST_DETAIL: Final = 2000
_MOST_TOKENS: Final = 2**40  # what a forged count may add to a sum without bursting a column

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Hello(msgspec.Struct, frozen=True, tag="hello"):
    """A runner says who it is and which versions of the protocol it speaks."""

    protocols: Annotated[tuple[int, ...], msgspec.Meta(max_length=100)]
    worker: Id
    engine: str


class Ended(msgspec.Struct, frozen=True):
    """A turn ended; acknowledged once it is stored."""

    end: TurnEnd


class Failed(msgspec.Struct, frozen=True, tag="failed"):
    """The engine is dead."""

    id: Id
    detail: str


class _Usage(msgspec.Struct, frozen=True):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    model_calls: int = 0


class _Failure(msgspec.Struct, frozen=True):
    kind: FailureKind
    detail: str
    status: int | None = None


class _TurnEnd(msgspec.Struct, frozen=True, tag="turn_end"):
    id: Id
    covered: Annotated[tuple[Id, ...], msgspec.Meta(max_length=1000)]
    text: Annotated[str, msgspec.Meta(max_length=1_000_000)]
    conversation: Annotated[str, msgspec.Meta(max_length=200)]
    failure: _Failure | None
    usage: _Usage
    background: bool = True  # a runner that says nothing of it may have something going on


class _Progress(msgspec.Struct, frozen=True, tag="progress"):
    note: Annotated[str, msgspec.Meta(max_length=200)]


class Preview(msgspec.Struct, frozen=True, tag="preview"):
    """The answer that is being written, as far as it is."""

    text: Annotated[str, msgspec.Meta(max_length=MOST_PREVIEW)]


class _Heartbeat(msgspec.Struct, frozen=True, tag="heartbeat"):
    background: bool = True


Report = Hello | Ended | Failed | Progress | Preview


def decode(data: str) -> Report:
    """Read one frame of a runner; a heartbeat is progress without a note.

    Raises:
        ProtocolViolation: it is none that a runner may send; the reason fits into a close frame.
    """
    try:
        # Not msgspec's own parser: it refuses lone surrogates, which a model may well write and `clean_text` repairs.
        document = documents.read(data.encode("utf-8", "surrogatepass"), SHAPE)
        frame = msgspec.convert(document, Hello | _TurnEnd | Failed | _Progress | Preview | _Heartbeat)
    except msgspec.ValidationError as error:
        raise ProtocolViolation(clean_text(str(error))[:100]) from error
    except documents.TooIntricate as error:
        raise ProtocolViolation(str(error)) from error
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation("a frame that is no JSON") from error
    match frame:
        case _TurnEnd():
            return Ended(end=_turn_end(frame))
        case _Progress():
            return Progress(note=clean_text(frame.note))
        case Preview():
            return Preview(text=clean_text(frame.text))
        case _Heartbeat():
            return Progress(note="", background=frame.background)
        case Failed():
            return Failed(id=clean_text(frame.id), detail=_detail(frame.detail))
    return frame


def _turn_end(frame: _TurnEnd) -> TurnEnd:
    return TurnEnd(
        id=clean_text(frame.id),
        covered=tuple(clean_text(uuid) for uuid in frame.covered),
        text="" if frame.failure else clean_text(frame.text),
        conversation=_conversation(frame.conversation),
        failure=_failure(frame.failure),
        usage=Usage(**{name: min(max(count, 0), _MOST_TOKENS) for name, count in msgspec.structs.asdict(frame.usage).items()}),
        background=frame.background,
    )


def _conversation(text: str) -> str:
    """A UUID, or '': the host then keeps the one it knows. A forged one in the spool would come back with every start."""
    try:
        return str(uuid.UUID(text))
    except ValueError:
        return ""


def _failure(frame: _Failure | None) -> Failure | None:
    return Failure(kind=frame.kind, detail=_detail(frame.detail), status=frame.status) if frame else None


def _detail(text: str) -> str:
    return clean_text(" ".join(text[: 10 * _MOST_DETAIL].split()))[:_MOST_DETAIL]


def welcome(protocol: int) -> str:
    return json.dumps({"type": "welcome", "protocol": protocol})


def push(push: Push) -> str:
    return json.dumps({"type": "push", "uuid": push.uuid, "text": push.text, "stream": push.stream})


def ack(frame_id: str) -> str:
    return json.dumps({"type": "ack", "id": frame_id})


def interrupt() -> str:
    return json.dumps({"type": "interrupt"})


def shutdown() -> str:
    return json.dumps({"type": "shutdown"})
