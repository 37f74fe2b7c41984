"""What is installed in the environment of this interpreter, what needs what, and what would not fit together."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import invalidate_caches, metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from nanoclaw_core import __version__
from nanoclaw_core.installed import CORE, GROUP


@dataclass(frozen=True, slots=True, kw_only=True)
class Distribution:
    """A distribution, installed or to be. `name` is normalised; `editable` is the folder of an editable one, else ''."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    editable: str = ""
    record: str = ""

    @property
    def label(self) -> str:
        return f"{self.name} {self.version}"

    def wishes(self, extras: Iterable[str] = ()) -> Iterator[Requirement]:
        """Its requirements on this machine. What nobody can read is left to the loader, which names it."""
        for text in self.requires:
            try:
                wish = Requirement(text)
            except InvalidRequirement:
                continue
            marker = wish.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                yield wish


def installed() -> dict[str, Distribution]:
    """Everything that is installed, by name; of several with one name the one that an import would take."""
    invalidate_caches()
    found: dict[str, Distribution] = {}
    for each in metadata.distributions():
        try:
            one = _read(each)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):  # broken metadata; `discover` logs it
            continue
        found.setdefault(one.name, one)
    return found


def _read(source: metadata.Distribution) -> Distribution:
    head = source.metadata  # read anew by each property that needs it
    name = canonicalize_name(head["Name"])
    entries = source.read_text("entry_points.txt") or ""
    direct = json.loads(source.read_text("direct_url.json") or "{}")
    return Distribution(
        name=name,
        version=__version__ if name == CORE else head["Version"],
        requires=tuple(head.get_all("Requires-Dist") or ()),
        plugins=tuple(entry.name for entry in source.entry_points.select(group=GROUP)) if f"[{GROUP}]" in entries else (),
        editable=direct.get("url", "").removeprefix("file://") if direct.get("dir_info", {}).get("editable") else "",
        record=hashlib.sha256((source.read_text("RECORD") or "").encode()).hexdigest()[:16],
    )


def needs(world: Mapping[str, Distribution], roots: Iterable[str], *, strict: bool = True) -> set[str]:
    """`roots` and everything installed that they need, to the last.

    Not `strict` follows every requirement, also those for other machines and of extras that nobody asked for: whoever deletes
    what is not needed should err on that side.
    """
    seen: set[str] = set()
    waiting: list[tuple[str, frozenset[str]]] = [(name, frozenset()) for name in roots]
    done: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = each = waiting.pop()
        if name not in world or each in done:
            continue
        done.add(each)
        seen.add(name)
        wishes = world[name].wishes(extras) if strict else _every_wish(world[name])
        waiting.extend((canonicalize_name(wish.name), frozenset(wish.extras)) for wish in wishes)
    return seen


def _every_wish(one: Distribution) -> Iterator[Requirement]:
    for text in one.requires:
        try:
            yield Requirement(text)
        except InvalidRequirement:
            continue


def conflicts(before: Mapping[str, Distribution], after: Mapping[str, Distribution]) -> list[str]:
    """What would not fit together in `after` and did not trouble `before`, a line for each that names both sides."""
    known = set(_unmet(before)) | set(_twins(before))
    return [line for line in (*_unmet(after), *_twins(after)) if line not in known]


def _unmet(world: Mapping[str, Distribution]) -> Iterator[str]:
    for one in world.values():
        for wish in one.wishes():
            there = world.get(canonicalize_name(wish.name))
            if there is None:
                yield f"{one.label} needs {wish.name}{wish.specifier}, which would not be there"
            elif not _holds(str(wish.specifier), there.version):
                yield f"{one.label} needs {wish.name}{wish.specifier}, but {_meets(world, one, there)}"


def _meets(world: Mapping[str, Distribution], one: Distribution, there: Distribution) -> str:
    if there.name == CORE:
        return f"this is {there.label}"
    others = [
        f"{other.label} needs {wish.name}{wish.specifier}"
        for other in world.values()
        for wish in other.wishes()
        if other.name != one.name and wish.specifier and canonicalize_name(wish.name) == there.name
    ]
    return f"it would meet {there.version}" + (f" ({'; '.join(sorted(others))})" if others else "")


@cache
def _holds(specifier: str, version: str) -> bool:
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion

    try:
        return SpecifierSet(specifier).contains(version, prereleases=True)
    except InvalidVersion:
        return False


def _twins(world: Mapping[str, Distribution]) -> Iterator[str]:
    carriers: dict[str, list[str]] = {}
    for one in world.values():
        for plugin in one.plugins:
            carriers.setdefault(plugin, []).append(one.label)
    for plugin, labels in sorted(carriers.items()):
        if len(labels) > 1:
            yield f"{' and '.join(sorted(labels))} carry the same plugin name {plugin!r}"
