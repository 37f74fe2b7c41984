"""`nanoclaw plugin install`, `upgrade`, `uninstall` and `rollback`: what would change is shown, asked for, and done."""

from __future__ import annotations

import inspect
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from nanoclaw_core import hookspecs
from nanoclaw_core.cli import logs
from nanoclaw_core.cli.table import show as show_table
from nanoclaw_core.cli.table import show_notes
from nanoclaw_core.cli.text import one_line
from nanoclaw_core.errors import InstallRefused
from nanoclaw_core.home import owner
from nanoclaw_core.installed import enabled
from nanoclaw_core.packages import pip
from nanoclaw_core.packages.change import carry_out
from nanoclaw_core.packages.environment import Distribution, installed
from nanoclaw_core.packages.lockfile import alone, read_lock
from nanoclaw_core.packages.notice import compare, notice
from nanoclaw_core.packages.plan import (
    Plan,
    Step,
    Wish,
    distribution_named,
    plan_additions,
    plan_removal,
    plan_return,
    wish_for,
)
from nanoclaw_core.packages.records import Lock
from nanoclaw_core.settings import Settings

Make = Callable[[Lock, Mapping[str, Distribution], Path], Plan]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a change is made: asked for or not, only shown, for people or as JSON."""

    yes: bool = False
    dry_run: bool = False
    as_json: bool = False


def install(settings: Settings, target: str, enable: bool, manner: Manner) -> None:
    """Install a plugin from an index, a wheel or a folder, and enable it.

    Raises:
        InstallRefused, InstallFailed, HomeUnusable: with what to do.
    """

    def make(lock: Lock, world: Mapping[str, Distribution], staging: Path) -> Plan:
        wish = wish_for(target, staging)
        plan = plan_additions(f"install {wish.name}", [wish], world, lock.current, staging)
        plugins = next((tuple(step.hooks) for step in plan.steps if step.name == wish.name), ())
        names = plugins or world[wish.name].plugins
        return replace(plan, enable=tuple(sorted({*names} - {*enabled(settings.home)}))) if enable else plan

    _change(settings, make, manner, "install")


def upgrade(settings: Settings, names: Sequence[str], manner: Manner) -> None:
    """Upgrade the plugins with these names, or all.

    Raises:
        UnknownName, InstallRefused, InstallFailed, HomeUnusable: with what to do.
    """

    def make(lock: Lock, world: Mapping[str, Distribution], staging: Path) -> Plan:
        chosen = [distribution_named(name, world) for name in names] or [one for one in world.values() if one.plugins]
        wishes, notes = [], []
        for number, one in enumerate(chosen):
            wish = _newer(one, lock, staging / str(number))
            wishes += [wish] if isinstance(wish, Wish) else []
            notes += [wish] if isinstance(wish, str) else []
        if names and notes:
            raise InstallRefused("; ".join(notes))
        made_by = f"upgrade {' '.join(wish.name for wish in wishes)}"
        plan = (
            plan_additions(made_by, wishes, world, lock.current, staging, upgrade=True) if wishes else Plan(made_by="upgrade")
        )
        return replace(plan, notes=(*plan.notes, *notes))

    _change(settings, make, manner, "upgrade")


def _newer(one: Distribution, lock: Lock, staging: Path) -> Wish | str:
    """Where a newer one would come from, or why from nowhere."""
    known = lock.current.get(one.name)
    if one.editable:
        return f"{one.label} is an editable installation of {one.editable}, which is as new as that folder"
    if known is None or known.source in ("index", "pip"):
        return Wish(name=one.name, text=one.name)
    if known.source == "folder" and Path(known.origin).is_dir():
        staging.mkdir()
        return wish_for(f"{known.origin}/", staging)
    return f"{one.label} came from {known.origin}; `nanoclaw plugin install` with a newer one upgrades it"


def uninstall(settings: Settings, name: str, manner: Manner) -> None:
    """Remove a plugin and what was installed for it alone. Its data stays.

    Raises:
        UnknownName, InstallRefused, InstallFailed, HomeUnusable: with what to do.
    """

    def make(lock: Lock, world: Mapping[str, Distribution], _: Path) -> Plan:
        return plan_removal(name, world, lock.current, enabled(settings.home))

    _change(settings, make, manner, "uninstall")


def rollback(settings: Settings, steps: int, manner: Manner) -> None:
    """Make the set what it was before the last change, or before an earlier one.

    Raises:
        InstallRefused, InstallFailed, HomeUnusable: with what to do.
    """

    def make(lock: Lock, world: Mapping[str, Distribution], _: Path) -> Plan:
        if lock.unfinished is not None:
            return plan_return(settings.home, lock.current, world, lock.unfinished, enabled(settings.home))
        if len(lock.previous) < steps:
            raise InstallRefused(
                f"{len(lock.previous) or 'no'} earlier sets are kept; `nanoclaw plugin list` shows what is there"
            )
        return plan_return(settings.home, lock.previous[steps - 1], world, lock.current, enabled(settings.home))

    _change(settings, make, manner, "rollback")


# --- the way of every change ------------------------------------------------------------------------------------------------


def _change(settings: Settings, make: Make, manner: Manner, command: str) -> None:
    if manner.as_json and not (manner.yes or manner.dry_run):
        raise click.UsageError("--json cannot ask: add --yes, or --dry-run.")
    logs.silence()
    pip.require_pip()
    with _place(settings.home, manner) as (lock, noticed, staging):
        if lock.unfinished is not None and command != "rollback":
            raise InstallRefused(
                f"an earlier change ({lock.unfinished.made_by}) was cut short; `nanoclaw plugin rollback` first"
            )
        plan = make(lock, installed(), staging)
        if not manner.as_json:
            _show(plan, noticed)
        done = not (plan.is_empty or manner.dry_run) and _has_consent(manner)
        if done:
            carry_out(settings.home, plan, time.time())
    if manner.as_json:
        click.echo(json.dumps({**_plain(plan), "noticed": noticed, "done": done}, indent=2, ensure_ascii=False))
    elif done:
        _say_done(settings, plan)
    elif not plan.is_empty:
        click.echo("Nothing was changed.")


@contextmanager
def _place(home: Path, manner: Manner) -> Iterator[tuple[Lock, list[str], Path]]:
    """The lock with what was noticed, and a folder for wheels. A dry run keeps nobody out and records nothing."""
    with tempfile.TemporaryDirectory(prefix="nanoclaw-") as staging:
        if manner.dry_run:
            seen = compare(home)
            current = seen.lock.current if seen.lock.unfinished else replace(seen.lock.current, packages=seen.packages)
            yield replace(seen.lock, current=current), list(seen.differences), Path(staging)
            return
        with alone(home):
            noticed = notice(home, time.time())
            yield read_lock(home) or Lock(), noticed, Path(staging)


def _has_consent(manner: Manner) -> bool:
    if manner.yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError("There is no terminal to ask at: add --yes to do this, or --dry-run to only look.")
    return click.confirm("Do this?")


def _show(plan: Plan, noticed: Sequence[str]) -> None:
    show_notes([f"Noticed: {one_line(line, 300)}." for line in noticed])
    if plan.is_empty:
        click.echo("Nothing to do: everything is as asked.")
    if plan.steps:
        show_table("Changes", ("PACKAGE", "VERSION", "LICENCE", "WHAT"), [_row(step) for step in plan.steps])
    enabling = [f"The plugin {name} will be enabled: it then runs inside the host, with your rights." for name in plan.enable]
    disabling = [f"The plugin {name} will be disabled." for name in plan.disable]
    show_notes([*enabling, *disabling, *(f"{one_line(note, 300)}." for note in plan.notes)])


def _row(step: Step) -> tuple[str, str, str, str]:
    new = step.package.version if step.package else ""
    version = f"{step.old} → {new}" if step.old and new else f"{new} (new)" if new else f"{step.old} → gone"
    what = [f"plugin {name}" + (f", {_abilities(hooks)}" if step.package else "") for name, hooks in step.hooks.items()]
    return step.name, version, one_line(step.licence, 40), one_line("; ".join([*what, *filter(None, [step.because])]), 300)


def _abilities(hooks: Sequence[str]) -> str:
    """What the hooks in the source are for; one that is put together as it runs cannot be read there."""
    if not hooks:
        return "to do what is known once it is enabled"
    docs = (inspect.getdoc(getattr(hookspecs, hook, None)) or f"use the unknown hook {hook}." for hook in hooks)
    return f"to {', '.join(doc.partition('.')[0].partition(',')[0].lower() for doc in docs)}"


def _plain(plan: Plan) -> dict[str, Any]:
    """The plan as JSON values."""
    steps = [
        {
            "name": step.name,
            "old": step.old or None,
            "new": step.package.version if step.package else None,
            "source": step.package.source if step.package else None,
            "sha256": step.package.sha256 if step.package else None,
            "licence": step.licence,
            "plugins": {name: list(hooks) for name, hooks in step.hooks.items()},
            "because": step.because,
        }
        for step in plan.steps
    ]
    return {
        "change": plan.made_by,
        "steps": steps,
        "enable": list(plan.enable),
        "disable": list(plan.disable),
        "notes": list(plan.notes),
    }


def _say_done(settings: Settings, plan: Plan) -> None:
    restart = "The host that runs goes on with what it has: `nanoclaw stop`, then start it again."
    when = restart if owner(settings.home) is not None else "The next start of the host uses it."
    stays = "Its data stays; `nanoclaw plugin list` shows what there is. " if plan.made_by.startswith("uninstall") else ""
    works = " `nanoclaw plugin list` shows whether it works." * bool(plan.enable)
    show_notes([f"Done ({plan.made_by}). {stays}{when}{works}" + " `nanoclaw plugin rollback` undoes it." * bool(plan.steps)])
