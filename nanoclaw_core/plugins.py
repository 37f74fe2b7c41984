"""Load the plugins that are enabled, and let a broken one lose only itself.

Whatever plugin code does wrong ends in a `PluginStatus` with a reason; only built-ins raise, because there it is a bug of
ours. `docs/plugins/broken.md` has the table of what is caught and what it costs.
"""

from __future__ import annotations

import inspect
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass, replace
from importlib import import_module, metadata
from itertools import permutations
from time import perf_counter
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar, overload

import pluggy
import structlog

from nanoclaw_core import __version__, hookspecs
from nanoclaw_core.errors import DuplicateName, NanoClawError, PluginUnusable, UnknownName
from nanoclaw_core.gateway.parameters import tool_of
from nanoclaw_core.installed import CORE, GROUP, Found, discover, one_line, refuse_ambiguous, unmet
from nanoclaw_core.models import (
    Event,
    Manifest,
    MountDecision,
    MountRequest,
    MountVerdict,
    PluginState,
    PluginStatus,
    SetupField,
)
from nanoclaw_core.packages.records import Remains
from nanoclaw_core.ports import Action, ChannelFactory, Check, MountPolicy, ProviderFactory, RuntimeFactory
from nanoclaw_core.sandbox.verdicts import combined

log = structlog.get_logger()

T = TypeVar("T")
Kind = Literal["channel", "provider", "action", "runtime", "check", "mount-policy"]

#: Each kind of offer, its hook and its record.
_KINDS: Final[Mapping[Kind, tuple[str, type]]] = {
    "channel": ("nanoclaw_channels", ChannelFactory),
    "provider": ("nanoclaw_providers", ProviderFactory),
    "action": ("nanoclaw_actions", Action),
    "runtime": ("nanoclaw_runtimes", RuntimeFactory),
    "check": ("nanoclaw_checks", Check),
    "mount-policy": ("nanoclaw_mount_policies", MountPolicy),
}

#: Names become part of user ids (channels) and of tool names at the model's API (actions).
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,47}")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

#: What plugin code may throw without taking the host along; SystemExit is a plugin that calls `sys.exit`.
_FAILURES: Final = (Exception, SystemExit)

#: Seconds after which a plugin that is still being loaded is named in the log: it may hang, and everything waits for it.
_SLOW: Final = 10.0

#: A `nanoclaw_event` that failed this often is not called again.
_EVENT_FAILURES: Final = 3

Trace: TypeAlias = Callable[[str, str, float, int], None]
"""Hears of every hook call: the plugin, the hook, the seconds that it took, the number of results."""


def log_call(plugin: str, hook: str, seconds: float, results: int) -> None:
    """The `Trace` behind NANOCLAW_TRACE_PLUGINS=1."""
    log.info("plugin.call", plugin=plugin, hook=hook, seconds=round(seconds, 6), results=results)


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer(Generic[T]):
    """What was offered, and by whom: `plugin` is a distribution and its version."""

    plugin: str
    value: T


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """A plugin that was imported and has answered every offering hook. `values` are its records by kind and name."""

    source: Found
    plugin: object
    builtin: bool
    values: Mapping[tuple[Kind, str], Any] = field(default_factory=dict)  # the record that belongs to the kind
    hears: bool = False


def load(enabled: Collection[str], builtins: Sequence[str], trace: Trace | None = None) -> Plugins:
    """Import the built-in modules and every enabled plugin, and ask each what it offers.

    A plugin with any fault is left out as a whole and listed with its reason. A name that two plugins offer stays with the
    built-in one; of two strangers neither gets it.

    Raises:
        Exception: whatever is wrong with a built-in.
    """
    hooks, found = _Hooks(trace), discover()
    members = [hooks.add(_builtin(path), import_module(path), builtin=True) for path in builtins]
    missing = sorted(set(enabled) - {plugin.name for plugin in found})
    left_out = [_status(_unknown(name), PluginState.MISSING, "it is enabled, but not installed") for name in missing]
    for source in found:
        if source.name not in enabled:
            left_out.append(_status(source, PluginState.AVAILABLE))
            continue
        try:
            with _named_if_slow(source):
                members.append(hooks.add(source, _import(source, found), builtin=False))
        except PluginUnusable as error:
            left_out.append(_broken(source, error))
    clashes = _clashes(members)
    left_out += [_broken(source, errors[0]) for source, errors in clashes.items()]
    return Plugins(hooks, [member for member in members if member.source not in clashes], left_out)


class Plugins:
    """Every plugin that was loaded, as the rest of the host sees them."""

    def __init__(self, hooks: _Hooks, members: Sequence[_Member], left_out: Sequence[PluginStatus]) -> None:
        self._hooks = hooks
        self._members = members
        self._left_out = left_out
        self._failures: Counter[Found] = Counter()

    @property
    def statuses(self) -> list[PluginStatus]:
        """Built-ins in the order of their registration, then all other plugins by name."""
        statuses = [self._status_of(member) for member in self._members] + list(self._left_out)
        return sorted(statuses, key=lambda status: "" if status.state is PluginState.BUILTIN else status.name)

    def channels(self) -> dict[str, Offer[ChannelFactory]]:
        """The chat platforms, by name."""
        return self._offers("channel")

    def providers(self) -> dict[str, Offer[ProviderFactory]]:
        """The model providers, by name; built-in ones first."""
        return self._offers("provider")

    def actions(self) -> dict[str, Offer[Action[Any]]]:  # each action has parameters of its own type
        """What agents may ask of the host, by name."""
        return self._offers("action")

    def runtimes(self) -> dict[str, Offer[RuntimeFactory]]:
        """The container runtimes, by name."""
        return self._offers("runtime")

    def checks(self) -> dict[str, Offer[Check]]:
        """The subjects of `nanoclaw doctor`, by name."""
        return self._offers("check")

    def modules(self) -> dict[str, str]:
        """The top-level package of each plugin that is no built-in, and the plugin's name."""
        strangers = [member.source for member in self._members if not member.builtin]
        return {source.value.partition(":")[0].partition(".")[0].strip(): source.name for source in strangers}

    def remains(self) -> dict[str, Remains]:
        """What each plugin that is no built-in would leave in the home."""
        return {member.source.name: _remains(member) for member in self._members if not member.builtin}

    def judge_mount(self, request: MountRequest) -> MountVerdict:
        """What all mount policies together say of a mount; one that raises, or answers something else, refuses it."""
        return combined(self.mount_verdicts(request))

    def mount_verdicts(self, request: MountRequest) -> dict[str, MountVerdict]:
        """What each of them says, by the policy's name."""
        return {offer.value.name: _verdict(offer, request) for offer in self._offers("mount-policy").values()}

    def fields(self) -> list[SetupField]:
        """What the manifests of all channels and providers ask for."""
        channels = [offer.value.manifest for offer in self.channels().values()]
        providers = [offer.value.manifest for offer in self.providers().values()]
        return [field for manifest in channels + providers for field in manifest.fields]

    @overload
    def choose(self, kind: Literal["channel"], name: str) -> ChannelFactory: ...
    @overload
    def choose(self, kind: Literal["provider"], name: str) -> ProviderFactory: ...
    @overload
    def choose(self, kind: Literal["action"], name: str) -> Action[Any]: ...
    @overload
    def choose(self, kind: Literal["runtime"], name: str) -> RuntimeFactory: ...
    def choose(self, kind: Kind, name: str) -> object:
        """The offer with that name.

        Raises:
            UnknownName: nobody offers it.
        """
        offers = self._offers(kind)
        if name not in offers:
            raise UnknownName(kind, name, offers)
        return offers[name].value

    def tell(self, event: Event) -> None:
        """Call every `nanoclaw_event`. One that raises disturbs nobody; after three times it is not called again."""
        for member in self._members:
            if member.hears and self._failures[member.source] < _EVENT_FAILURES:
                try:
                    self._hooks.call(member, "nanoclaw_event", event=event)
                except _FAILURES as error:
                    self._note_failure(member.source, error)

    def _note_failure(self, source: Found, error: BaseException) -> None:
        self._failures[source] += 1
        if self._failures[source] == 1:
            log.warning("plugin.event_failed", plugin=source.name, distribution=source.label, exc_info=error)
        elif self._failures[source] == _EVENT_FAILURES:
            log.warning("plugin.event_quarantined", plugin=source.name, distribution=source.label, reason=one_line(error))

    def _status_of(self, member: _Member) -> PluginStatus:
        quiet = self._failures[member.source] >= _EVENT_FAILURES
        reason = f"its nanoclaw_event failed {_EVENT_FAILURES} times and is no longer called (see the log)" if quiet else ""
        state = PluginState.BUILTIN if member.builtin else PluginState.ENABLED
        offers = [f"{kind} {name}" for kind, name in member.values] + ["events"] * member.hears
        return replace(_status(member.source, state, reason), offers=tuple(offers))

    def _offers(self, kind: Kind) -> dict[str, Offer[Any]]:  # the methods above say which record belongs to which kind
        return {
            name: Offer(plugin=member.source.label, value=value)
            for member in self._members
            for (offered, name), value in member.values.items()
            if offered == kind
        }


class _Hooks:
    """pluggy's manager, asked one plugin at a time: in a plain call one that raises loses everyone's results."""

    def __init__(self, trace: Trace | None) -> None:
        self._manager = pluggy.PluginManager(GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._trace = trace

    def add(self, source: Found, plugin: object, *, builtin: bool) -> _Member:
        """Register a plugin and collect what it offers; when that fails, nothing of it stays registered.

        Raises:
            PluginUnusable: with the reason.
        """
        with _blaming(source, "registering it"):
            self._manager.register(plugin, name=f"{source.name} of {source.label}")
        try:
            hooks = self._hooks_of(source, plugin)
            member = _Member(source=source, plugin=plugin, builtin=builtin, hears="nanoclaw_event" in hooks)
            offers = {kind: self._offered(member, kind) for kind, (hook, _) in _KINDS.items() if hook in hooks}
        except BaseException:
            self._manager.unregister(plugin)
            raise
        return replace(member, values={(kind, value.name): value for kind, values in offers.items() for value in values})

    def call(self, member: _Member, hook: str, **arguments: object) -> list[Any]:  # whatever the plugin returned
        """Call one hook of one plugin."""
        others = [plugin for plugin in self._manager.get_plugins() if plugin is not member.plugin]
        started = perf_counter()
        results: list[Any] = self._manager.subset_hook_caller(hook, others)(**arguments)
        for stray in filter(inspect.iscoroutine, results):
            stray.close()  # a coroutine out of a plain function: nobody will await it
        if self._trace is not None:
            count = len(results[0]) if results and isinstance(results[0], Sized) else len(results)
            self._trace(member.source.label, hook, perf_counter() - started, count)
        return results

    def _hooks_of(self, source: Found, plugin: object) -> set[str]:
        with _blaming(source, "checking its hooks"):
            self._manager.check_pending()  # after each registration, so that a misspelt hook costs only its own plugin
        callers = self._manager.get_hookcallers(plugin) or []
        for caller in callers:
            for implementation in caller.get_hookimpls():
                if implementation.plugin is plugin and _is_async(implementation.function):
                    raise PluginUnusable(source.name, f"its {caller.name} is `async def`; hooks only offer, write `def`")
        if not callers:
            raise PluginUnusable(source.name, "it implements no hook; is `@hookimpl` missing?")
        return {caller.name for caller in callers}

    def _offered(self, member: _Member, kind: Kind) -> list[Any]:  # of the kind's record, which is checked here
        hook, record = _KINDS[kind]
        with _blaming(member.source, f"its {hook}"):
            results = self.call(member, hook)
            if not results or not isinstance(results[0], Iterable):
                raise TypeError(f"must return a list of {record.__name__}")
            values = list(results[0])
            for value in values:
                _check(record, value)
            if twice := [name for name, count in Counter(value.name for value in values).items() if count > 1]:
                raise ValueError(f"offers the {kind} {twice[0]!r} twice")
        return values


def _check(record: type[Any], value: Any) -> None:  # anything that a plugin can return
    """Refuse an offer that would be found out later at somebody else's cost: one bad tool makes a model refuse all of them."""
    if not isinstance(value, record):
        raise TypeError(f"must return {record.__name__} objects, not {type(value).__name__}")
    if not isinstance(value.name, str) or not _NAME.fullmatch(value.name):
        raise ValueError(f"offers the name {value.name!r}; a name is a letter, then at most 47 letters, digits, '-' or '_'")
    if isinstance(value, Action):
        if not is_dataclass(value.parameters):
            raise TypeError(f"offers the action {value.name!r}, whose parameters are no dataclass")
        tool_of(value)
    if isinstance(value, ChannelFactory | ProviderFactory):
        _check_manifest(value.name, value.manifest)


def _check_manifest(name: str, manifest: Manifest) -> None:
    for item in manifest.fields:
        if not _VARIABLE.fullmatch(item.variable):
            raise ValueError(f"{name} asks for the variable {item.variable!r}, which is no name of one")
        try:
            re.compile(item.pattern)
        except re.error as error:
            raise ValueError(f"{name} has a pattern for {item.variable} that is no regular expression ({error})") from error


def _verdict(offer: Offer[MountPolicy], request: MountRequest) -> MountVerdict:
    try:
        verdict: object = offer.value.judge(request)
    except _FAILURES as error:
        log.warning("plugin.mount_policy_failed", plugin=offer.plugin, policy=offer.value.name, exc_info=error)
        return MountVerdict(decision=MountDecision.REFUSE, reason=f"the policy failed ({one_line(error)})")
    if isinstance(verdict, MountVerdict):
        return verdict
    reason = f"the policy answered {type(verdict).__name__} instead of a verdict"
    return MountVerdict(decision=MountDecision.REFUSE, reason=reason)


def _import(source: Found, found: Sequence[Found]) -> object:
    """Import a plugin after everything that can be checked without running it.

    Raises:
        PluginUnusable: with the reason.
    """
    refuse_ambiguous([plugin for plugin in found if plugin.name == source.name])
    with _blaming(source, "checking its dependencies"):
        reason = unmet(source, found)
    if reason:
        raise PluginUnusable(source.name, reason)
    with _blaming(source, f"importing {source.value}"):
        plugin: object = metadata.EntryPoint(source.name, source.value, GROUP).load()
    return plugin


def _clashes(members: Sequence[_Member]) -> dict[Found, list[DuplicateName]]:
    """The strangers that offer a name which somebody else offers too.

    Raises:
        DuplicateName: two built-ins do.
    """
    clashes: dict[Found, list[DuplicateName]] = {}
    for one, other in permutations(members, 2):
        for kind, name in sorted(one.values.keys() & other.values.keys()):
            error = DuplicateName(kind, name, other.source.label, one.source.label)
            if one.builtin and other.builtin:
                raise error
            if not one.builtin:
                clashes.setdefault(one.source, []).append(error)
    return clashes


@contextmanager
def _named_if_slow(source: Found) -> Generator[None]:
    """Say in the log which plugin it is that takes so long: a thread cannot be made to leave it."""
    details = {"plugin": source.name, "distribution": source.label, "seconds": _SLOW}
    timer = threading.Timer(_SLOW, log.warning, ("plugin.slow",), details)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def _blaming(source: Found, doing: str) -> Generator[None]:
    """Turn whatever plugin code raises into the reason why that plugin is left out."""
    try:
        yield
    except _FAILURES as error:
        raise PluginUnusable(source.name, f"{doing} failed: {one_line(error)}") from error


def _remains(member: _Member) -> Remains:
    manifests = [value.manifest for value in member.values.values() if isinstance(value, ChannelFactory | ProviderFactory)]
    return Remains(
        distribution=member.source.distribution,
        channels=tuple(name for kind, name in member.values if kind == "channel"),
        variables=tuple(field.variable for manifest in manifests for field in manifest.fields),
    )


def _is_async(function: object) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def _builtin(path: str) -> Found:
    return Found(name=path.rpartition(".")[2], distribution=CORE, version=__version__, value=path)


def _unknown(name: str) -> Found:
    return Found(name=name, distribution="", version="", value="")


def _status(source: Found, state: PluginState, reason: str = "") -> PluginStatus:
    return PluginStatus(name=source.name, distribution=source.distribution, version=source.version, state=state, reason=reason)


def _broken(source: Found, error: NanoClawError) -> PluginStatus:
    reason = error.reason if isinstance(error, PluginUnusable) else str(error)
    log.warning("plugin.broken", plugin=source.name, distribution=source.label, reason=reason)
    log.debug("plugin.broken_where", plugin=source.name, exc_info=error)
    return _status(source, PluginState.BROKEN, reason)
