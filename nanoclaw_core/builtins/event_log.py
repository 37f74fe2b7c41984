"""Writes down what happened, one line an event: the first listener of `nanoclaw_event`."""

from __future__ import annotations

import structlog

from nanoclaw_core.hookspecs import hookimpl
from nanoclaw_core.models import Event

log = structlog.get_logger()


@hookimpl
def nanoclaw_event(event: Event) -> None:
    log.info(event.name, **event.data)
