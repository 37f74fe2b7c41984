"""Public names on their way out: they work until the release that they name, and warn whoever uses them."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import Any


def outgoing(door: str, name: str, module: str, replacement: str, removal: str) -> Any:  # the type of the name asked for
    """The object `name` of `door`, which lives in the door's `module`; a warning says what takes its place, and until when."""
    text = f"{door}.{name} is deprecated and will be removed in nanoclaw-core {removal}: use {replacement} instead."
    warnings.warn(text, DeprecationWarning, stacklevel=3)  # past the door's `__getattr__`, to the line that asks
    return getattr(import_module(f"{door}.{module}"), name)
