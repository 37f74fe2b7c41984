"""Which plugins are installed, which of them are enabled, and whether they can work here: all from metadata.

Nothing in this module imports a plugin.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

import structlog
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from nanoclaw_core import __version__
from nanoclaw_core.errors import HomeUnusable, PluginUnusable, UnknownName
from nanoclaw_core.replacement import replace_file

log = structlog.get_logger()

GROUP: Final = "nanoclaw"
CORE: Final = "nanoclaw-core"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An installed plugin. `requirements` are its distribution's, as written there; `value` is 'module' or 'module:object'."""

    name: str
    distribution: str
    version: str
    value: str
    requirements: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """How messages call it: 'nanoclaw-telegram 0.1.0'."""
        return f"{self.distribution} {self.version}"


def discover() -> list[Found]:
    """Every installed plugin, by name. Nothing of a plugin runs, not even of an enabled one."""
    found: dict[tuple[str, str], Found] = {}
    for distribution in metadata.distributions():
        try:
            if f"[{GROUP}]" not in (distribution.read_text("entry_points.txt") or ""):
                continue
            for plugin in _plugins_of(distribution):
                # The first on sys.path is the one that an import would take.
                found.setdefault((canonicalize_name(plugin.distribution), plugin.name), plugin)
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:  # what importlib makes of broken metadata
            log.warning("plugin.metadata_unreadable", reason=one_line(error))
    return sorted(found.values(), key=lambda plugin: (plugin.name, plugin.distribution))


def _plugins_of(distribution: metadata.Distribution) -> list[Found]:
    return [
        Found(
            name=entry.name,
            distribution=distribution.name,
            version=distribution.version,
            value=entry.value,
            requirements=tuple(distribution.requires or ()),
        )
        for entry in distribution.entry_points.select(group=GROUP)
    ]


def unmet(plugin: Found, others: Sequence[Found]) -> str:
    """Why `plugin` cannot work with what is installed, or ''.

    Follows the requirements of requirements too, so that two plugins that want different versions of a library deep below
    both are told apart before either is imported. Extras are not followed.

    Raises:
        ValueError: a requirement or version that nobody can read.
    """
    waiting = deque((plugin.label, text) for text in plugin.requirements)
    seen = {CORE}  # what the core needs is not the plugin's to answer for
    while waiting:
        wanted_by, text = waiting.popleft()
        wish = Requirement(text)
        if wish.marker is not None and not wish.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(wish.name)
        version = _version(name)
        if version is None:
            return f"{wanted_by} needs {name}{wish.specifier}, which is not installed: `pip install '{name}{wish.specifier}'`"
        if not wish.specifier.contains(version, prereleases=True):
            return f"{wanted_by} needs {name}{wish.specifier}, but {version} is installed{_rivals(name, plugin, others)}"
        if name not in seen:
            seen.add(name)
            waiting.extend((f"{name} {version}", text) for text in metadata.requires(name) or ())
    return ""


def _version(name: str) -> str | None:
    try:
        return __version__ if name == CORE else metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _rivals(name: str, plugin: Found, others: Sequence[Found]) -> str:
    """The other plugins that ask for `name`: most likely one of them brought the version that is there."""
    if name == CORE:
        return ""
    wishes = [
        f"{other.label} needs {wish.name}{wish.specifier}"
        for other in others
        if other.distribution != plugin.distribution
        for wish in map(Requirement, other.requirements)
        if canonicalize_name(wish.name) == name
    ]
    return f" ({'; '.join(wishes)})" if wishes else ""


# --- enabled --------------------------------------------------------------------------------------------------------------


def enabled(home: Path) -> list[str]:
    """The names of the plugins that the owner enabled; none while there is no `plugins.json`.

    Raises:
        HomeUnusable: the file is there and says something else.
    """
    try:
        names = json.loads((home / "plugins.json").read_bytes())["enabled"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise TypeError('"enabled" is no list of names')
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        advice = "delete it and `nanoclaw plugin enable` your plugins again"
        raise HomeUnusable(home, f"its plugins.json does not list plugins ({one_line(error)}): {advice}") from error
    return sorted(set(names))


def enable(home: Path, name: str) -> None:
    """Let the plugin be imported at the next start.

    Raises:
        UnknownName: it is not installed. PluginUnusable: two distributions carry the name.
    """
    found = discover()
    carriers = [plugin for plugin in found if plugin.name == name]
    if not carriers:
        raise UnknownName("plugin", name, {plugin.name for plugin in found})
    refuse_ambiguous(carriers)
    _write(home, {*enabled(home), name})


def disable(home: Path, name: str) -> None:
    """Leave the plugin out from the next start on, also one that is not installed any more.

    Raises:
        UnknownName: it is neither enabled nor installed.
    """
    names = set(enabled(home))
    known = names | {plugin.name for plugin in discover()}
    if name not in known:
        raise UnknownName("plugin", name, known)
    _write(home, names - {name})


def refuse_ambiguous(carriers: Sequence[Found]) -> None:
    """Raise PluginUnusable when several distributions carry one plugin's name: enabling could not say which is meant."""
    if len(carriers) > 1:
        labels = " and ".join(plugin.label for plugin in carriers)
        raise PluginUnusable(carriers[0].name, f"{labels} are both installed under this name; uninstall one of them")


def _write(home: Path, names: Iterable[str]) -> None:
    try:
        replace_file(home / "plugins.json", json.dumps({"enabled": sorted(names)}, indent=2).encode())
    except OSError as error:
        raise HomeUnusable(home, f"its plugins.json cannot be written ({one_line(error)})") from error


def one_line(error: BaseException) -> str:
    """An error of somebody else's code, short enough for a list."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__
