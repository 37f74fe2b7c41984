"""Records out of JSON: what arrives is checked once, here, and is typed from then on."""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


class Misfit(ValueError):
    """A value that does not have the shape it must have; the text names the field."""


def record(kind: type[T], raw: object, name: str = "") -> T:
    """Make a `kind` (a dataclass) out of a JSON object; unknown keys are ignored, and nothing is converted.

    Raises:
        Misfit: a field is missing or of another type.
    """
    if not isinstance(raw, dict):
        raise Misfit(f"{name or kind.__name__} must be an object")
    hints = get_type_hints(kind)
    values = {}
    for part in fields(kind):  # type: ignore[arg-type]  # a dataclass, which TypeVar cannot say
        if part.name in raw:
            values[part.name] = _fit(raw[part.name], hints[part.name], f"{name}.{part.name}" if name else part.name)
        elif part.default is MISSING:
            raise Misfit(f"{name}.{part.name} is missing" if name else f"{part.name} is missing")
    return kind(**values)


def _fit(value: object, hint: Any, name: str) -> Any:  # a type hint is any object
    if is_dataclass(hint) and isinstance(hint, type):
        return record(hint, value, name)
    if get_origin(hint) is UnionType:
        return None if value is None else _fit(value, get_args(hint)[0], name)
    if get_origin(hint) is tuple and isinstance(value, list):
        return tuple(_fit(item, get_args(hint)[0], name) for item in value)
    if type(value) is not (get_origin(hint) or hint):  # exactly: True is no number here
        raise Misfit(f"{name} must be {hint.__name__ if isinstance(hint, type) else hint}, not {type(value).__name__}")
    return value
