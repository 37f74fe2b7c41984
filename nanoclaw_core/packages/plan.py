"""Finds out what a change of the plugins would do, and refuses it by name before anything is changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

from nanoclaw_core import __version__
from nanoclaw_core.errors import InstallRefused, UnknownName
from nanoclaw_core.installed import CORE
from nanoclaw_core.packages import pip
from nanoclaw_core.packages.environment import Distribution, conflicts, needs
from nanoclaw_core.packages.lockfile import wheel_path
from nanoclaw_core.packages.records import Package, PluginSet, Source
from nanoclaw_core.packages.report import Resolved, read_report
from nanoclaw_core.packages.wheels import Content, look_into

World = Mapping[str, Distribution]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One distribution that changes. `old` is '' for a new one; `package` and `file` are None for one that is removed."""

    name: str
    old: str
    package: Package | None = None
    file: Path | None = None
    licence: str = ""
    hooks: Mapping[str, tuple[str, ...]]
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What would change. `notes` are things to know, one sentence each."""

    made_by: str
    steps: tuple[Step, ...] = ()
    enable: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        return not (self.steps or self.enable or self.disable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked for: a requirement for the index, or a wheel that lies there (`content`), given as such or as a folder."""

    name: str
    text: str
    source: Source = "index"
    origin: str = ""
    content: Content | None = None


def wish_for(target: str, staging: Path) -> Wish:
    """What `target` means: a path with a slash, or of a wheel; else a name with, if need be, a range.

    Raises:
        InstallRefused: it means nothing.
    """
    path = Path(target)
    if "://" in target:
        raise InstallRefused(f"{target!r} is an address; download the wheel and give its path")
    if "/" in target or target.endswith(".whl") or target in (".", ".."):
        if path.is_dir():
            return _local(pip.build(path.resolve(), staging), "folder", path)
        if path.is_file() and path.suffix == ".whl":
            return _local(path.resolve(), "wheel", path)
        raise InstallRefused(f"there is no wheel and no folder {target}; look at the path")
    try:
        wish = Requirement(target)
    except InvalidRequirement as error:
        raise InstallRefused(f"{target!r} is neither a name such as nanoclaw-telegram nor a path") from error
    return Wish(name=canonicalize_name(wish.name), text=target)


def _local(file: Path, source: Source, given: Path) -> Wish:
    content = look_into(file)
    return Wish(name=content.name, text=str(file), source=source, origin=str(given.resolve()), content=content)


def plan_additions(
    made_by: str, wishes: Sequence[Wish], world: World, current: PluginSet, staging: Path, *, upgrade: bool = False
) -> Plan:
    """Resolve the wishes beside the core and all plugins that are there, each at its version, and download what it takes.

    Raises:
        InstallRefused: by name: a conflict, an unmet range on the core, a plugin name that is taken, what is no plugin.
    """
    report = pip.resolve([*_pins(world, wishes), *(wish.text for wish in wishes)], upgrade=upgrade)
    contents = _contents(read_report(report), wishes, current, staging)
    refuse_conflicts(world, {**world, **{one.name: _distribution(one) for one in contents.values()}})
    for wish in wishes:
        _require_plugin(wish, contents, world)
    asked = {wish.name: wish for wish in wishes}
    steps = [_addition(content, asked.get(content.name), world, current, contents) for content in contents.values()]
    notes = [f"{one.label} also brings the plugin {name}, which stays disabled" for one, name in _brought(contents, asked)]
    notes += [
        f"{name} is an editable installation of {world[name].editable}, which this replaces; `rollback` cannot bring that back"
        for name in contents
        if name in world and world[name].editable
    ]
    return Plan(made_by=made_by, steps=tuple(sorted(steps, key=lambda step: (not step.hooks, step.name))), notes=tuple(notes))


def _pins(world: World, wishes: Sequence[Wish]) -> list[str]:
    """The core and the plugins that are there and sound: each stays as it is, and what they need is respected."""
    free = {CORE, *(wish.name for wish in wishes)}
    sound = [one for one in world.values() if one.plugins and one.name not in free and not _is_broken(one, world)]
    return [f"{CORE}=={__version__}", *(f"{one.name}=={one.version}" for one in sound)]


def _is_broken(one: Distribution, world: World) -> bool:
    return bool(conflicts({}, {name: world[name] for name in needs(world, [one.name])}))


def _contents(found: list[Resolved], wishes: Sequence[Wish], current: PluginSet, staging: Path) -> dict[str, Content]:
    """The wheel of all that would be installed. One that was given and is there at its version counts if it is another."""
    local = {wish.name: wish.content for wish in wishes if wish.content is not None}
    contents = {}
    for name, content in local.items():
        known = current.get(name)
        if any(each.name == name for each in found) or known is None or known.sha256 != content.sha256:
            contents[name] = content
    others = [each for each in found if each.name not in local]
    files = {each.name: each.file for each in others if each.file}
    if remote := [each for each in others if not each.file]:
        into = staging / "fetched"
        pip.fetch((each.line for each in remote), into)
        files |= {parse_wheel_filename(file.name)[0]: file for file in into.glob("*.whl")}
    return contents | {each.name: look_into(files[each.name]) for each in others}


def _distribution(content: Content) -> Distribution:
    return Distribution(
        name=content.name,
        version=content.version,
        requires=content.requires,
        plugins=tuple(content.hooks),
    )


def refuse_conflicts(before: World, after: World) -> None:
    """Raise InstallRefused where `after` does not fit together, naming each side."""
    if found := conflicts(before, after):
        raise InstallRefused(f"{'; '.join(found[:5])}. Choose versions that agree, or uninstall one of them")


def _require_plugin(wish: Wish, contents: Mapping[str, Content], world: World) -> None:
    content = contents.get(wish.name)
    if not (content.hooks if content else wish.name in world and world[wish.name].plugins):
        raise InstallRefused(f"{wish.name} is no plugin of NanoClaw: it has no entry point in the group 'nanoclaw'")


def _addition(content: Content, wish: Wish | None, world: World, current: PluginSet, contents: Mapping[str, Content]) -> Step:
    there, known = world.get(content.name), current.get(content.name)
    package = Package(
        name=content.name,
        version=content.version,
        source=wish.source if wish else "index",
        origin=wish.origin if wish else "",
        sha256=content.sha256,
        wheel=content.file.name,
        brought=known.brought if known else there is None,
    )
    return Step(
        name=content.name,
        old=there.version if there else "",
        package=package,
        file=content.file,
        licence=content.licence,
        hooks=content.hooks,
        because="" if wish else f"for {', '.join(_askers(content.name, contents))}",
    )


def _askers(name: str, contents: Mapping[str, Content]) -> list[str]:
    return sorted(
        one.name
        for one in contents.values()
        if any(canonicalize_name(wish.name) == name for wish in _distribution(one).wishes())
    ) or ["another extra"]


def _brought(contents: Mapping[str, Content], asked: Mapping[str, Wish]) -> list[tuple[Distribution, str]]:
    return [(_distribution(one), name) for one in contents.values() if one.name not in asked for name in one.hooks]


# --- removing ---------------------------------------------------------------------------------------------------------------


def distribution_named(name: str, world: World) -> Distribution:
    """The installed distribution with this name, or with a plugin of this name.

    Raises:
        UnknownName: there is none. InstallRefused: several carry the plugin name.
    """
    plugins = {one.name: one for one in world.values() if one.plugins}
    if canonicalize_name(name) in plugins:
        return plugins[canonicalize_name(name)]
    carriers = [one for one in plugins.values() if name in one.plugins]
    if len(carriers) > 1:
        raise InstallRefused(f"{' and '.join(one.label for one in carriers)} carry this name; give the name of one of these")
    if not carriers:
        raise UnknownName("installed plugin", name, {*plugins, *(each for one in plugins.values() for each in one.plugins)})
    return carriers[0]


def plan_removal(name: str, world: World, current: PluginSet, enabled: Iterable[str]) -> Plan:
    """Remove a plugin, and what NanoClaw had brought for it and nothing else needs.

    Raises:
        UnknownName: it is not installed. InstallRefused: something else needs it.
    """
    one = distribution_named(name, world)
    brought = {each.name for each in current.packages if each.brought and each.name in world and not world[each.name].plugins}
    stays = needs(world, world.keys() - brought - {one.name}, strict=False)
    gone = {one.name, *(brought - stays)}
    if one.name in stays:
        askers = sorted(each.label for each in world.values() if one.name in {canonicalize_name(w.name) for w in each.wishes()})
        raise InstallRefused(f"{', '.join(askers) or 'another package'} needs {one.label}; uninstall that first")
    steps = [_removal(world[each], because="" if each == one.name else "nothing else needs it") for each in sorted(gone)]
    return Plan(
        made_by=f"uninstall {one.name}",
        steps=tuple(sorted(steps, key=lambda step: step.name != one.name)),
        disable=tuple(sorted({*one.plugins} & {*enabled})),
    )


def _removal(one: Distribution, because: str = "") -> Step:
    return Step(name=one.name, old=one.version, hooks=dict.fromkeys(one.plugins, ()), because=because)


# --- going back -------------------------------------------------------------------------------------------------------------


def plan_return(home: Path, target: PluginSet, world: World, current: PluginSet, enabled: Iterable[str]) -> Plan:
    """Make the set what it was at `target`, from the kept wheels.

    Raises:
        InstallRefused: a wheel is not kept, or the set does not fit what is installed now.
    """
    additions = [_again(home, package, world) for package in target.packages if not _is_there(package, world)]
    gone = [each for each in current.packages if (each.brought or each.plugins) and not target.get(each.name)]
    removals = [_removal(world[each.name], "not in that set") for each in gone if each.name in world]
    after = {name: one for name, one in world.items() if name not in {step.name for step in removals}}
    contents = [look_into(step.file) for step in additions if step.file]
    refuse_conflicts(world, {**after, **{each.name: _distribution(each) for each in contents}})
    back = {plugin for package in target.packages for plugin in package.plugins}
    lost = {plugin for each in gone for plugin in each.plugins} - back
    return Plan(
        made_by="rollback",
        steps=(*additions, *removals),
        enable=tuple(sorted((back & {*target.enabled}) - {*enabled})),
        disable=tuple(sorted(lost & {*enabled})),
    )


def _is_there(package: Package, world: World) -> bool:
    there = world.get(package.name)
    return there is not None and there.version == package.version and package.record in ("", there.record)


def _again(home: Path, package: Package, world: World) -> Step:
    file = wheel_path(home, package)
    if file is None and package.source == "pip" and package.origin:
        raise InstallRefused(
            f"{package.label} was an editable installation; `pip install --editable {package.origin}` brings it back"
        )
    if file is None:
        raise InstallRefused(
            f"the wheel of {package.label} is not kept; `pip install {package.name}=={package.version}` brings it back"
        )
    content = look_into(file)
    if content.sha256 != package.sha256:
        raise InstallRefused(
            f"the kept wheel {file} was changed; `pip install {package.name}=={package.version}` brings it back"
        )
    there = world.get(package.name)
    return Step(
        name=package.name,
        old=there.version if there else "",
        package=replace(package, record=""),
        file=file,
        licence=content.licence,
        hooks=content.hooks,
        because="as in that set",
    )
