"""Which part of NanoClaw a line of the log comes from."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Final

from structlog.typing import EventDict

_CORE: Final = "nanoclaw_core"
#: Modules that log for others: the line belongs to whoever called them.
_PASSING_ON: Final = ("structlog", "logging", "pluggy", f"{_CORE}.supervise", f"{_CORE}.builtins.event_log", f"{_CORE}.cli")
_HOST: Final = "host"
_NAMES: Final = {"cli": _HOST, "control": _HOST, "supervise": _HOST, "installed": "plugins", "offers": "plugins"}


def add_component(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Note in `component` which part of the host says this: that of its task, else that of its module, else the library."""
    if "component" not in event:
        record = None if event.get("_from_structlog") else event.get("_record")
        event["component"] = component_of(record.name) if record else str(event.get("part") or _speaker())
    return event


def component_of(module: str) -> str:
    """The component that a module belongs to.

    >>> component_of("nanoclaw_core.workers.shift"), component_of("nanoclaw_core.cli.serve"), component_of("aiohttp.server")
    ('workers', 'host', 'aiohttp')
    """
    package, _, rest = module.partition(".")
    part = rest.partition(".")[0]
    return _NAMES.get(part, part or _HOST) if package == _CORE else package


def _speaker() -> str:
    """The component of the innermost module that speaks for itself. An event told to plugins is its teller's."""
    modules = list(_modules())
    own = [module for module in modules if not module.startswith(_PASSING_ON)]
    if f"{_CORE}.builtins.event_log" in modules:
        own = [module for module in own if module != f"{_CORE}.plugins"]
    return component_of(next((module for module in own if module.startswith(_CORE)), _CORE))


def _modules() -> Iterator[str]:
    frame = inspect.currentframe()
    while frame := frame and frame.f_back:
        yield frame.f_globals.get("__name__", "")
