"""Where the log of a command goes."""

from __future__ import annotations

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog
from structlog.typing import EventDict

from nanoclaw_core.cli.components import add_component
from nanoclaw_core.mask import Mask

_FILE_LIMIT = 10 * 1024 * 1024  # bytes; three older files are kept


class _Masked(logging.Formatter):
    """Another formatter's lines, tracebacks included, without secrets."""

    def __init__(self, formatter: logging.Formatter, mask: Mask) -> None:
        super().__init__()
        self._formatter = formatter
        self._mask = mask

    def format(self, record: logging.LogRecord) -> str:
        return self._mask(self._formatter.format(record))


def configure(level: str, file: Path | None = None, mask: Mask | None = None) -> None:
    """Send all events to `file`, or to standard error: for people where it is a terminal, as JSON lines otherwise.

    What libraries log through `logging` comes along from warnings upwards. `mask` hides in each line what it knows then.
    """
    handler: logging.Handler = logging.StreamHandler(sys.stderr)
    if file is not None:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = RotatingFileHandler(file, maxBytes=_FILE_LIMIT, backupCount=3, encoding="utf-8")
    for_people = file is None and sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        add_component,
        structlog.processors.TimeStamper(fmt="%H:%M:%S" if for_people else "iso", utc=not for_people),
    ]
    last: list[structlog.typing.Processor] = (
        [component_first, for_terminal()]
        if for_people
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    remove = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    formatter = structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[remove, *last])
    handler.setFormatter(_Masked(formatter, mask or Mask()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("nanoclaw_core").setLevel(level.upper())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: logging.getLogger("nanoclaw_core"),
    )


def for_terminal(colors: bool = True) -> structlog.dev.ConsoleRenderer:
    """What makes a line for people of an event."""
    plain = structlog.dev.plain_traceback  # others print local variables
    return structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=22, exception_formatter=plain)


def component_first(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Put the component where people look for the source of a line."""
    event["logger"] = event.pop("component", "")
    return event


def silence() -> None:
    """Log nothing: for commands whose output says what there is to say."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
