"""Loading plugins: each way in which one can be broken costs that plugin alone, and its line in the list says why."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from nanoclaw_core import plugins as plugins_module
from nanoclaw_core.errors import DuplicateName, PluginUnusable, UnknownName
from nanoclaw_core.installed import discover
from nanoclaw_core.models import (
    AgentGroup,
    Event,
    MountDecision,
    MountRequest,
    MountVerdict,
    PluginState,
    PluginStatus,
)
from nanoclaw_core.packages.records import Remains
from nanoclaw_core.plugins import Plugins, load

HEADER = """
from nanoclaw_core import Action, ChannelFactory, ProviderFactory, hookimpl
imported = True
"""

CHANNEL = """
@hookimpl
def nanoclaw_channels():
    return [ChannelFactory(name={name!r}, summary="", create=print)]
"""


ASKING = """
from nanoclaw_core import Manifest, SetupField
@hookimpl
def nanoclaw_channels():
    manifest = Manifest(fields=(SetupField({field}),))
    return [ChannelFactory(name="odd", summary="", create=print, manifest=manifest)]
"""


class Shelf:
    """A folder on sys.path with plugins in it, as if pip had installed them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: list[str] = []

    def put(
        self,
        name: str,
        code: str,
        *,
        requires: tuple[str, ...] = (),
        version: str = "1.0",
        distribution: str = "",
        entry: str = "",
    ) -> None:
        """Install the plugin `name`, whose module is `shelved_<name>`."""
        distribution = distribution or f"nanoclaw-{name}"
        (self.folder / f"shelved_{name}.py").write_text(HEADER + code, encoding="utf-8")
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        metadata = [
            "Metadata-Version: 2.1",
            f"Name: {distribution}",
            f"Version: {version}",
            *map("Requires-Dist: {}".format, requires),
        ]
        (info / "METADATA").write_text("\n".join(metadata) + "\n", encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[nanoclaw]\n{name} = {entry or f'shelved_{name}'}\n", encoding="utf-8")
        self.names.append(name)

    def channel(self, name: str, **options: Any) -> None:
        """Install a sound plugin that offers the channel `name`."""
        self.put(name, CHANNEL.format(name=options.pop("offers", name)), **options)

    def load(self, *builtins: str) -> Plugins:
        """Load everything on the shelf, enabled."""
        return load(self.names, builtins)

    def fault(self, code: str, **options: Any) -> str:
        """Load the plugin 'odd' beside a sound one; return why 'odd' is broken, having seen that the sound one works."""
        self.channel("sound")
        self.put("odd", code, **options)
        plugins = self.load()
        assert list(plugins.channels()) == ["sound"]
        odd = status(plugins, "odd")
        assert odd.state is PluginState.BROKEN
        return odd.reason


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    with capture_logs():  # rendering tracebacks for nobody takes longer than the tests
        yield Shelf(folder)
    for module in [name for name in sys.modules if name.startswith("shelved_")]:
        del sys.modules[module]


def status(plugins: Plugins, name: str) -> PluginStatus:
    return next(line for line in plugins.statuses if line.name == name)


def builtin(monkeypatch: pytest.MonkeyPatch, name: str, code: str) -> str:
    """Make a module that `load` takes for a built-in; return its path."""
    module = ModuleType(f"shelved_builtins.{name}")
    exec(HEADER + code, module.__dict__)  # noqa: S102
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module.__name__


# --- finding ----------------------------------------------------------------------------------------------------------


def test_discovery_reads_metadata_and_imports_nothing(shelf: Shelf) -> None:
    shelf.channel("parrot", requires=("nanoclaw-core>=0.1,<0.2", "anyio"))
    (found,) = (plugin for plugin in discover() if plugin.name == "parrot")
    assert (found.label, found.value) == ("nanoclaw-parrot 1.0", "shelved_parrot")
    assert "shelved_parrot" not in sys.modules


def test_an_installed_plugin_is_not_imported_before_it_is_enabled(shelf: Shelf) -> None:
    shelf.channel("parrot")
    plugins = load([], [])
    assert status(plugins, "parrot").state is PluginState.AVAILABLE
    assert "shelved_parrot" not in sys.modules


def test_a_distribution_with_garbled_entry_points_hides_no_other(shelf: Shelf) -> None:
    others = discover()  # that are installed for development
    shelf.channel("parrot")
    shelf.put("garbled", "")
    (shelf.folder / "nanoclaw_garbled-1.0.dist-info" / "entry_points.txt").write_text("[nanoclaw]\nno equals sign\n")
    with capture_logs() as logs:
        assert [plugin.name for plugin in discover() if plugin not in others] == ["parrot"]
    assert [entry["event"] for entry in logs] == ["plugin.metadata_unreadable"]


def test_of_two_versions_on_the_path_the_one_that_would_be_imported_counts(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.channel("parrot", version="1.0")
    nearer = tmp_path / "nearer"
    nearer.mkdir()
    monkeypatch.syspath_prepend(nearer)
    Shelf(nearer).channel("parrot", version="2.0")
    assert [plugin.version for plugin in discover() if plugin.name == "parrot"] == ["2.0"]


def test_an_enabled_plugin_that_is_gone_is_listed_as_missing() -> None:
    assert status(load(["departed"], []), "departed").state is PluginState.MISSING


# --- what is offered ----------------------------------------------------------------------------------------------------


def test_an_enabled_plugin_is_listed_with_what_it_offers(shelf: Shelf) -> None:
    shelf.put("parrot", CHANNEL.format(name="parrot") + "@hookimpl\ndef nanoclaw_event(event): pass\n")
    line = status(shelf.load(), "parrot")
    assert (line.state, line.distribution, line.version) == (PluginState.ENABLED, "nanoclaw-parrot", "1.0")
    assert line.offers == ("channel parrot", "events")


def test_a_plugin_says_what_it_would_leave_and_which_modules_are_its(shelf: Shelf) -> None:
    code = """
from nanoclaw_core import Manifest, SetupField
@hookimpl
def nanoclaw_channels():
    field = SetupField(variable="PARROT_TOKEN", label="Token")
    return [ChannelFactory(name="cage", summary="", create=print, manifest=Manifest(fields=(field,)))]
"""
    shelf.put("parrot", code)
    plugins = load(shelf.names, ["nanoclaw_core.builtins.terminal"])
    remains = Remains(distribution="nanoclaw-parrot", channels=("cage",), variables=("PARROT_TOKEN",))
    assert plugins.remains() == {"parrot": remains}
    assert plugins.modules() == {"shelved_parrot": "parrot"}


def test_an_offer_says_which_distribution_it_comes_from(shelf: Shelf) -> None:
    shelf.channel("parrot", version="1.3")
    assert shelf.load().channels()["parrot"].plugin == "nanoclaw-parrot 1.3"


def test_a_builtin_comes_in_through_the_same_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = load([], [builtin(monkeypatch, "terminal", CHANNEL.format(name="terminal"))])
    assert plugins.choose("channel", "terminal").name == "terminal"
    assert status(plugins, "terminal").state is PluginState.BUILTIN


def test_a_broken_builtin_raises_because_it_is_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginUnusable, match="division by zero"):
        load([], [builtin(monkeypatch, "terminal", "@hookimpl\ndef nanoclaw_channels(): 1/0\n")])


def test_a_builtin_that_cannot_be_imported_raises() -> None:
    with pytest.raises(ModuleNotFoundError):
        load([], ["nanoclaw_core.builtins.no_such_module"])


def test_choosing_a_name_that_nobody_offers_lists_the_names_there_are(shelf: Shelf) -> None:
    shelf.channel("parrot")
    with pytest.raises(UnknownName, match=r"no channel named 'telegram'.* Known: parrot"):
        shelf.load().choose("channel", "telegram")


def test_an_entry_point_may_name_an_object_in_a_module(shelf: Shelf) -> None:
    method = "def nanoclaw_channels(self): return [ChannelFactory(name='o', summary='', create=print)]"
    code = f"class Hooks:\n  @hookimpl\n  {method}\nhooks = Hooks()"
    shelf.put("object", code, entry="shelved_object:hooks")
    assert list(shelf.load().channels()) == ["o"]


# --- each way to be broken --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        pytest.param("import no_such_library", "No module named 'no_such_library'", id="a library that is not there"),
        pytest.param("raise RuntimeError('no\\nway')", "RuntimeError: no way", id="an error at import"),
        pytest.param("def broken(:", "SyntaxError", id="a syntax error"),
        pytest.param("import sys; sys.exit(3)", "SystemExit: 3", id="SystemExit at import"),
        pytest.param("@hookimpl\ndef nanoclaw_chanels(): return []", "unknown hook 'nanoclaw_chanels'", id="a misspelt hook"),
        pytest.param("@hookimpl\ndef nanoclaw_channels(pm): return []", "hookimpl definition", id="an unknown argument"),
        pytest.param("def nanoclaw_channels(): return []", "is `@hookimpl` missing", id="no hook at all"),
        pytest.param("@hookimpl\nasync def nanoclaw_channels(): return []", "`async def`", id="an async hook"),
        pytest.param("@hookimpl\nasync def nanoclaw_actions(): yield 1", "`async def`", id="an async generator"),
        pytest.param(
            "async def offer(): pass\n@hookimpl\ndef nanoclaw_channels(): return offer()",
            "list of ChannelFactory",
            id="a coroutine",
        ),
        pytest.param("@hookimpl\ndef nanoclaw_channels(): return 1 / 0", "ZeroDivisionError", id="a raising hook"),
        pytest.param("@hookimpl\ndef nanoclaw_channels(): yield 1 / 0", "ZeroDivisionError", id="a raising generator"),
        pytest.param("@hookimpl\ndef nanoclaw_channels(): raise SystemExit(2)", "SystemExit: 2", id="SystemExit in a hook"),
        pytest.param("@hookimpl\ndef nanoclaw_channels(): pass", "must return a list of ChannelFactory", id="nothing returned"),
        pytest.param("@hookimpl\ndef nanoclaw_channels(): return 7", "must return a list of ChannelFactory", id="a number"),
        pytest.param("@hookimpl\ndef nanoclaw_channels(): return 'odd'", "objects, not str", id="a text"),
        pytest.param(
            "@hookimpl\ndef nanoclaw_channels(): return [ProviderFactory(name='odd', summary='', create=print)]",
            "must return ChannelFactory objects, not ProviderFactory",
            id="the wrong kind of offer",
        ),
        pytest.param(CHANNEL.format(name="a:b"), "offers the name 'a:b'", id="a colon in a name"),
        pytest.param(CHANNEL.format(name=None), "offers the name None", id="no name"),
        pytest.param(
            "@hookimpl\ndef nanoclaw_channels(): return [ChannelFactory(name='twin', summary='', create=print)] * 2",
            "offers the channel 'twin' twice",
            id="the same name twice",
        ),
        pytest.param(
            "@hookimpl\ndef nanoclaw_actions(): return [Action(name='odd', description='', parameters=dict, handler=print)]",
            "parameters are no dataclass",
            id="an action without parameters",
        ),
        pytest.param(
            "import dataclasses, socket\n"
            "@dataclasses.dataclass\nclass Bad: x: socket.socket\n"
            "@hookimpl\ndef nanoclaw_actions(): return [Action(name='odd', description='', parameters=Bad, handler=print)]",
            "socket",
            id="an action without a schema",
        ),
        pytest.param(
            ASKING.format(field="variable='A', label='', pattern='('"), "no regular expression", id="a broken pattern"
        ),
        pytest.param(ASKING.format(field="variable='a-b', label=''"), "the variable 'a-b'", id="a variable that is no name"),
    ],
)
def test_broken_code_costs_its_own_plugin_only(shelf: Shelf, code: str, reason: str) -> None:
    assert reason in shelf.fault(code)


def test_a_fault_in_one_hook_withdraws_the_whole_plugin(shelf: Shelf) -> None:
    shelf.put("half", CHANNEL.format(name="half") + "@hookimpl\ndef nanoclaw_actions(): 1/0\n")
    assert shelf.load().channels() == {}


def test_an_interrupt_during_an_import_is_not_swallowed(shelf: Shelf) -> None:
    shelf.put("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        shelf.load()


def test_an_entry_point_to_a_missing_object_is_a_reason(shelf: Shelf) -> None:
    assert "importing shelved_odd:hooks failed: AttributeError" in shelf.fault("", entry="shelved_odd:hooks")


def test_a_broken_plugin_is_logged_with_its_reason(shelf: Shelf) -> None:
    with capture_logs() as logs:
        shelf.fault("raise RuntimeError('no way')")
    (entry,) = (entry for entry in logs if entry["event"] == "plugin.broken")
    assert (entry["plugin"], entry["distribution"]) == ("odd", "nanoclaw-odd 1.0")


# --- dependencies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requirement", "reason"),
    [
        ("nanoclaw-core>=99", "nanoclaw-odd 1.0 needs nanoclaw-core>=99, but 0.1.0 is installed"),
        ("no-such-library>=2", "needs no-such-library>=2, which is not installed: `pip install 'no-such-library>=2'`"),
        ("pluggy<1", "needs pluggy<1, but 1."),
        ("pluggy (((", "checking its dependencies failed: InvalidRequirement"),
    ],
)
def test_an_unmet_requirement_is_reported_before_anything_is_imported(shelf: Shelf, requirement: str, reason: str) -> None:
    assert reason in shelf.fault("", requires=(requirement,))
    assert "shelved_odd" not in sys.modules


def test_requirements_for_other_systems_and_extras_do_not_count(shelf: Shelf) -> None:
    shelf.channel("parrot", requires=("no-such-a; sys_platform == 'amiga'", "no-such-b; extra == 'voice'"))
    assert list(shelf.load().channels()) == ["parrot"]


def test_a_requirement_of_a_requirement_counts(shelf: Shelf) -> None:
    shelf.put("library", "", requires=("no-such-library",), distribution="some-library")
    shelf.names.remove("library")
    assert "some-library 1.0 needs no-such-library" in shelf.fault("", requires=("some-library",))


def test_a_dependency_that_carries_an_entry_point_is_not_imported_with_the_plugin_that_needs_it(shelf: Shelf) -> None:
    shelf.put("stowaway", CHANNEL.format(name="stowaway"), distribution="some-library")
    shelf.channel("parrot", requires=("some-library",))
    plugins = load(["parrot"], [])
    assert list(plugins.channels()) == ["parrot"]
    assert status(plugins, "stowaway").state is PluginState.AVAILABLE
    assert "shelved_stowaway" not in sys.modules


def test_a_conflict_names_the_other_plugin_that_asks_for_the_same_library(shelf: Shelf) -> None:
    shelf.channel("rival", requires=("pluggy>=1",))
    shelf.channel("odd", requires=("pluggy<1",))
    assert "(nanoclaw-rival 1.0 needs pluggy>=1)" in status(shelf.load(), "odd").reason


# --- the same name twice ------------------------------------------------------------------------------------------------


def test_of_two_strangers_with_one_name_neither_gets_it(shelf: Shelf) -> None:
    shelf.channel("one", offers="parrot")
    shelf.channel("two", offers="parrot")
    plugins = shelf.load()
    assert plugins.channels() == {}
    for name in ("one", "two"):
        reason = status(plugins, name).reason
        assert "nanoclaw-one 1.0" in reason
        assert "nanoclaw-two 1.0" in reason


def test_a_builtin_keeps_its_name_against_a_stranger(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.channel("thief", offers="terminal")
    plugins = shelf.load(builtin(monkeypatch, "terminal", CHANNEL.format(name="terminal")))
    assert plugins.channels()["terminal"].plugin.startswith("nanoclaw-core ")
    assert status(plugins, "thief").state is PluginState.BROKEN


def test_two_builtins_with_one_name_are_a_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [builtin(monkeypatch, name, CHANNEL.format(name="terminal")) for name in ("one", "two")]
    with pytest.raises(DuplicateName):
        load([], paths)


def test_the_same_name_for_different_kinds_is_no_clash(shelf: Shelf) -> None:
    shelf.channel("one", offers="parrot")
    shelf.put("two", "@hookimpl\ndef nanoclaw_providers(): return [ProviderFactory(name='parrot', summary='', create=print)]")
    plugins = shelf.load()
    assert (list(plugins.channels()), list(plugins.providers())) == (["parrot"], ["parrot"])


def test_two_distributions_that_carry_one_plugin_name_are_both_left_out(shelf: Shelf) -> None:
    shelf.channel("parrot")
    shelf.channel("parrot", distribution="other-parrot")
    lines = [line for line in shelf.load().statuses if line.name == "parrot"]
    assert [line.state for line in lines] == [PluginState.BROKEN] * 2
    assert all(
        "nanoclaw-parrot 1.0 and other-parrot 1.0" in line.reason or "other-parrot 1.0 and" in line.reason for line in lines
    )


# --- events and tracing ---------------------------------------------------------------------------------------------------

EVENT = Event(name="turn.ended", at=0.0, data={})


def test_an_event_reaches_the_others_when_one_plugin_fails(shelf: Shelf) -> None:
    shelf.put("a", "@hookimpl\ndef nanoclaw_event(event): 1/0")
    shelf.put("b", "heard = []\n@hookimpl\ndef nanoclaw_event(event): heard.append(event.name)")
    shelf.put("c", "@hookimpl\ndef nanoclaw_event(event): raise SystemExit")
    plugins = shelf.load()
    with capture_logs():
        plugins.tell(EVENT)
    assert sys.modules["shelved_b"].heard == ["turn.ended"]


def test_a_plugin_whose_event_hook_fails_three_times_is_not_called_again(shelf: Shelf) -> None:
    shelf.put("grumpy", "calls = []\n@hookimpl\ndef nanoclaw_event(event): calls.append(1); raise OSError('no')")
    plugins = shelf.load()
    with capture_logs() as logs:
        for _ in range(5):
            plugins.tell(EVENT)
    assert len(sys.modules["shelved_grumpy"].calls) == 3
    assert [entry["event"] for entry in logs] == ["plugin.event_failed", "plugin.event_quarantined"]
    assert "no longer called" in status(plugins, "grumpy").reason


def test_the_trace_hears_of_every_hook_call(shelf: Shelf) -> None:
    shelf.put("parrot", CHANNEL.format(name="parrot") + "@hookimpl\ndef nanoclaw_event(event): pass\n")
    calls: list[tuple[str, str, int]] = []
    plugins = load(["parrot"], [], trace=lambda plugin, hook, seconds, results: calls.append((plugin, hook, results)))
    plugins.tell(EVENT)
    assert calls == [("nanoclaw-parrot 1.0", "nanoclaw_channels", 1), ("nanoclaw-parrot 1.0", "nanoclaw_event", 0)]


def test_a_plugin_that_hangs_while_it_is_loaded_is_named_in_the_log(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    named = threading.Event()
    said: list[dict[str, Any]] = []

    def warning(event: str, **details: Any) -> None:
        said.append({"event": event, **details})
        named.set()

    monkeypatch.setattr(plugins_module, "_SLOW", 0.01)
    monkeypatch.setattr(plugins_module, "log", SimpleNamespace(warning=warning))
    monkeypatch.setitem(sys.modules, "shelved_gate", SimpleNamespace(named=named))
    shelf.put("sloth", "import shelved_gate\nassert shelved_gate.named.wait(20)\n" + CHANNEL.format(name="sloth"))
    assert list(shelf.load().channels()) == ["sloth"]
    assert [(line["event"], line["plugin"], line["distribution"]) for line in said] == [
        ("plugin.slow", "sloth", "nanoclaw-sloth 1.0")
    ]


# --- mount policies -------------------------------------------------------------------------------------------------------

POLICY = """
from nanoclaw_core import MountDecision, MountPolicy, MountVerdict


def judge(request):
    {body}


@hookimpl
def nanoclaw_mount_policies():
    return [MountPolicy(name="{name}", summary="", judge=judge)]
"""
ALLOW = "return MountVerdict(decision=MountDecision.ALLOW)"
MOUNT = MountRequest(
    agent_group=AgentGroup(id="a1", name="Andy", folder="main"), source=Path("/srv/vault"), target="/workspace-extra/vault"
)


def test_all_mount_policies_have_a_say(shelf: Shelf) -> None:
    shelf.put("mine", POLICY.format(name="mine", body=ALLOW))
    shelf.put("vault", POLICY.format(name="vault", body="return MountVerdict(decision=MountDecision.REFUSE, reason='no')"))
    plugins = shelf.load()
    assert status(plugins, "vault").offers == ("mount-policy vault",)
    assert plugins.judge_mount(MOUNT) == MountVerdict(decision=MountDecision.REFUSE, reason="vault: no")


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise OSError('cannot look')", "odd: the policy failed (OSError: cannot look)"),
        ("raise SystemExit", "odd: the policy failed (SystemExit)"),
        ("return True", "odd: the policy answered bool instead of a verdict"),
    ],
    ids=["raises", "exits", "says something else"],
)
def test_a_mount_policy_that_fails_refuses(shelf: Shelf, body: str, reason: str) -> None:
    shelf.put("mine", POLICY.format(name="mine", body=ALLOW))
    shelf.put("odd", POLICY.format(name="odd", body=body))
    assert shelf.load().judge_mount(MOUNT) == MountVerdict(decision=MountDecision.REFUSE, reason=reason)


def test_without_a_mount_policy_nothing_is_mounted(shelf: Shelf) -> None:
    assert shelf.load().judge_mount(MOUNT).decision is MountDecision.REFUSE
