"""Carries a plan out: what would be lost is kept first, and what fails half-way is put back."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from packaging.utils import canonicalize_name

from nanoclaw_core.errors import InstallFailed, InstallRefused, NanoClawError
from nanoclaw_core.installed import disable, discover, enable, enabled, unmet
from nanoclaw_core.packages import pip
from nanoclaw_core.packages.environment import Distribution, conflicts, installed
from nanoclaw_core.packages.lockfile import keep_wheel, read_lock, wheel_path, write_lock
from nanoclaw_core.packages.notice import describe, succeed
from nanoclaw_core.packages.plan import Plan
from nanoclaw_core.packages.records import Lock, Package, PluginSet
from nanoclaw_core.packages.wheels import clear_remnants, repack, sha256_of


def carry_out(home: Path, plan: Plan, now: float) -> None:
    """Do what `plan` says, or leave everything as it was. The caller is `alone`.

    Raises:
        InstallFailed: it did not work, and says whether the set before was put back. HomeUnusable: nothing can be kept.
    """
    lock, before = read_lock(home) or Lock(), installed()
    if plan.steps:
        _replace_set(home, plan, lock, before, now)
    for name in plan.disable:
        disable(home, name)
    for name in plan.enable:
        enable(home, name)


def _replace_set(home: Path, plan: Plan, lock: Lock, before: Mapping[str, Distribution], now: float) -> None:
    left = _kept(home, plan, lock, before)
    added = tuple(step.package for step in plan.steps if step.package is not None)
    write_lock(home, replace(lock, current=left, unfinished=PluginSet(packages=added, made_at=now, made_by=plan.made_by)))
    try:
        _install(plan)
        _verify(plan, before)
        for step in plan.steps:
            if step.file is not None and step.package is not None:
                keep_wheel(home, step.file, step.package.sha256)
        write_lock(home, _after(plan, lock, left, tuple(enabled(home)), now))
    except BaseException as error:  # also ctrl-C
        trouble = _put_back(home, plan, lock, left, before)
        if trouble or isinstance(error, NanoClawError | OSError):
            raise InstallFailed(plan.made_by, _reason(error), trouble) from error
        raise


def _reason(error: BaseException) -> str:
    return error.reason if isinstance(error, InstallRefused) else str(error) or type(error).__name__


def _install(plan: Plan) -> None:
    pip.uninstall([step.name for step in plan.steps if step.package is None])
    pip.install(
        [
            (f"{step.name}=={step.package.version}", step.package.sha256, step.file)
            for step in plan.steps
            if step.package and step.file
        ]
    )


def _kept(home: Path, plan: Plan, lock: Lock, before: Mapping[str, Distribution]) -> PluginSet:
    """The set that is left, with a kept wheel for everything in it that changes."""
    known = {package.name: package for package in lock.current.packages}
    with tempfile.TemporaryDirectory(prefix="nanoclaw-") as folder:
        for step in plan.steps:
            there = before.get(step.name)
            if there is not None:
                known[step.name] = _keep_old(home, there, known.get(step.name), Path(folder))
    return replace(lock.current, packages=tuple(known[name] for name in sorted(known)))


def _keep_old(home: Path, there: Distribution, known: Package | None, folder: Path) -> Package:
    package = known or Package(name=there.name, version=there.version, source="pip", plugins=there.plugins, record=there.record)
    if there.editable or wheel_path(home, package):
        return package
    file = repack(there.name, folder)
    digest = sha256_of(file)
    keep_wheel(home, file, digest)
    return replace(package, sha256=digest, wheel=file.name)


def _verify(plan: Plan, before: Mapping[str, Distribution]) -> None:
    """See that what is there is what was planned, fits together, and would be loaded.

    Raises:
        InstallRefused: with what is wrong.
    """
    after = installed()
    for step in plan.steps:
        there = after.get(step.name)
        if (there.version if there else None) != (step.package.version if step.package else None):
            raise InstallRefused(f"{step.name} is {there.version if there else 'missing'} after the installation")
    if found := conflicts(before, after):
        raise InstallRefused("; ".join(found))
    plugins, changed = discover(), {step.name for step in plan.steps}
    for plugin in plugins:
        if canonicalize_name(plugin.distribution) in changed and (reason := unmet(plugin, plugins)):
            raise InstallRefused(reason)


def _put_back(home: Path, plan: Plan, lock: Lock, left: PluginSet, before: Mapping[str, Distribution]) -> str:
    """Restore what was there; return what is still wrong, '' for nothing."""
    for step in plan.steps:
        if step.file is not None:
            clear_remnants(step.file)
    now = installed()
    moved = [step.name for step in plan.steps if now.get(step.name) != before.get(step.name)]
    packages = [package for name in moved if (package := left.get(name)) and name in before]
    wheels = [(f"{it.name}=={it.version}", it.sha256, file) for it in packages if (file := wheel_path(home, it))]
    try:
        pip.uninstall([name for name in moved if name not in before and name in now])
        pip.install(wheels)
        if missing := [it.label for it in packages if not wheel_path(home, it) or _version(it.name) != it.version]:
            return f"{', '.join(missing)} could not be put back"
        write_lock(home, replace(lock, current=_same(left, lock)))
    except NanoClawError as error:
        return _reason(error)
    return ""


def _same(left: PluginSet, lock: Lock) -> PluginSet:
    """The set as the lock had it, with what is there under its names now."""
    known = {package.name: replace(package, record="") for package in left.packages if lock.current.get(package.name)}
    return replace(left, packages=describe(installed(), known))


def _version(name: str) -> str | None:
    there = installed().get(name)
    return there.version if there else None


def _after(plan: Plan, lock: Lock, left: PluginSet, enabled: tuple[str, ...], now: float) -> Lock:
    changed = {step.name for step in plan.steps}
    known = {package.name: package for package in lock.current.packages if package.name not in changed}
    known |= {step.name: step.package for step in plan.steps if step.package is not None}
    current = PluginSet(packages=describe(installed(), known), made_at=now, made_by=plan.made_by)
    return succeed(lock, left, current, enabled)
