"""Compares `plugins.lock` with what is installed, and records what somebody else's pip has changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from nanoclaw_core import installed as plugins_file
from nanoclaw_core.errors import InstallRefused
from nanoclaw_core.installed import CORE
from nanoclaw_core.packages.environment import Distribution, installed, needs
from nanoclaw_core.packages.lockfile import alone, read_lock, write_lock
from nanoclaw_core.packages.records import Lock, Package, PluginSet, Remains


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The lock as it is, what is really there, and each difference in words."""

    lock: Lock
    packages: tuple[Package, ...]
    differences: tuple[str, ...]


def describe(world: Mapping[str, Distribution], known: Mapping[str, Package]) -> tuple[Package, ...]:
    """The packages of all plugins in `world`; what is `known` of those that are still the same is kept.

    They are the plugins, what they need beyond the core, and whatever else was ever changed for a plugin.
    """
    closures = {one.name: needs(world, [one.name]) for one in world.values() if one.plugins}
    wanted = set().union(*closures.values()) - needs(world, [CORE])
    return tuple(
        replace(
            _package(world[name], known.get(name)),
            plugins=world[name].plugins,
            needed_by=tuple(sorted(plugin for plugin, needed in closures.items() if name in needed and name != plugin)),
            record=world[name].record,
        )
        for name in sorted((wanted | known.keys()) & world.keys())
    )


def _package(there: Distribution, known: Package | None) -> Package:
    if known is not None and known.version == there.version and known.record in ("", there.record):
        return known
    return Package(name=there.name, version=there.version, source="pip", origin=there.editable)


def compare(home: Path) -> Comparison:
    """Look, and change nothing. Blocks.

    Raises:
        HomeUnusable: the lock cannot be read.
    """
    lock = read_lock(home)
    if lock is None and not plugins_file.discover():
        return Comparison(lock=Lock(), packages=(), differences=())
    lock = lock or Lock()
    known = {package.name: package for package in lock.current.packages}
    packages = describe(installed(), known)
    return Comparison(lock=lock, packages=packages, differences=tuple(_differences(known, packages)))


def _differences(known: Mapping[str, Package], packages: tuple[Package, ...]) -> list[str]:
    found = []
    for package in packages:
        was = known.get(package.name)
        if was is None:
            found.append(f"{package.label} was installed with pip")
        elif was.version != package.version:
            found.append(f"{package.name} was changed from {was.version} to {package.version} with pip")
        elif was.record not in ("", package.record):
            found.append(f"{package.label} was installed anew with pip")
    gone = known.keys() - {package.name for package in packages}
    return found + [f"{known[name].label} was uninstalled with pip" for name in sorted(gone)]


def notice(home: Path, now: float) -> list[str]:
    """Record what was changed behind NanoClaw's back; return each change in words. Blocks. The caller is `alone`.

    Nothing is recorded while a change of NanoClaw's own is unfinished: then the lock says what should be there.

    Raises:
        HomeUnusable: the lock cannot be read or written.
    """
    seen = compare(home)
    if not seen.differences or seen.lock.unfinished:
        return []
    current = PluginSet(packages=seen.packages, made_at=now, made_by="pip")
    write_lock(home, succeed(seen.lock, seen.lock.current, current, tuple(plugins_file.enabled(home))))
    return list(seen.differences)


def succeed(lock: Lock, left: PluginSet, current: PluginSet, enabled: tuple[str, ...]) -> Lock:
    """`lock` once `current` has taken the place of `left`. Nobody goes back to half a set, or to before pip's first one."""
    is_no_set = lock.unfinished is not None or (not left.packages and current.made_by == "pip")
    previous = lock.previous if is_no_set else (replace(left, enabled=enabled), *lock.previous)
    return replace(lock, current=current, previous=previous, unfinished=None)


def keep_up(home: Path, remains: Mapping[str, Remains], now: float) -> list[str]:
    """Do both, `notice` and `remember`; nothing while another command changes the plugins. Blocks.

    Raises:
        HomeUnusable: the lock cannot be read or written.
    """
    if read_lock(home) is None and not plugins_file.discover():
        return []  # as most homes: nothing to write
    try:
        with alone(home):
            changes = notice(home, now)
            remember(home, remains)
    except InstallRefused:
        return []
    return changes


def remember(home: Path, remains: Mapping[str, Remains]) -> None:
    """Note what enabled plugins would leave behind, for the day when they are gone. Blocks. The caller is `alone`.

    Raises:
        HomeUnusable: the lock cannot be read or written.
    """
    lock = read_lock(home)
    if lock is None or lock.unfinished:
        return
    remembered = {**lock.remembered, **remains}
    if remembered != dict(lock.remembered):
        write_lock(home, replace(lock, remembered=remembered))
