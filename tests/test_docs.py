"""What the documentation shows is run: every example, in docstrings and on pages, works as printed."""

from __future__ import annotations

import doctest
import inspect
import random
import re
import sys
import tomllib
from collections import Counter
from dataclasses import dataclass, fields
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import anyio
import pluggy
import pytest

from nanoclaw_core import hookspecs
from nanoclaw_core.errors import CredentialRefused
from nanoclaw_core.gateway.parameters import file_rules
from nanoclaw_core.models import AgentGroup, Event, Manifest, MountDecision, MountRequest, PluginState, SetupField
from nanoclaw_core.plugins import load

ROOT = Path(__file__).parent.parent
PAGE = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs" / "plugins").glob("*.md")))
HOOKS = [name for name in vars(hookspecs) if name.startswith("nanoclaw_")]
VOCABULARY = ("errors", "models", "ports", "hookspecs")


def blocks(language: str, page: str = PAGE) -> list[str]:
    """The fenced blocks of the pages for authors in that language; those with a title are the tutorial's, which is followed."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def example_of(hook: str) -> str:
    """The first block that implements the hook; there may be others, which show more of it."""
    return next(block for block in blocks("python") if f"def {hook}(" in block)


def block_with(text: str) -> str:
    (block,) = (block for block in blocks("python") if text in block)
    return block


def plugin_from(source: str, name: str) -> ModuleType:
    module = ModuleType(name)
    exec(compile(source, name, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  # running the documentation is the point
    return module


# --- docstrings -----------------------------------------------------------------------------------------------------------


def namespace() -> dict[str, Any]:
    """Every name that the examples take for granted: the vocabulary, the modules they use, and the plugins they imagine."""
    names: dict[str, Any] = {}
    for module in VOCABULARY:
        names |= vars(import_module(f"nanoclaw_core.{module}"))

    class Imagined: ...

    def look_into_the_cage(context: object) -> None: ...

    async def roll(call: object, parameters: object) -> str:
        return "You rolled a 4."

    imagined = {"Parrot": Imagined, "Silent": Imagined, "Podman": Imagined, "RollDice": Imagined, "roll": roll}
    imagined["look_into_the_cage"] = look_into_the_cage
    return names | imagined | {"random": random, "anyio": anyio, "dataclass": dataclass, "counts": Counter()}


@pytest.mark.parametrize("module", VOCABULARY)
def test_the_examples_in_the_vocabulary_run(module: str) -> None:
    tests = doctest.DocTestFinder(exclude_empty=True).find(import_module(f"nanoclaw_core.{module}"), extraglobs=namespace())
    printed: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    for test in tests:
        runner.run(test, out=printed.append)
    assert not runner.failures, "".join(printed)
    assert runner.tries, f"{module} has no example"


@pytest.mark.parametrize("hook", HOOKS)
def test_the_example_of_each_hook_implements_it(hook: str) -> None:
    example = doctest.script_from_examples(inspect.getdoc(getattr(hookspecs, hook)) or "")
    names = namespace()
    exec(example, names)  # noqa: S102
    manager = pluggy.PluginManager("nanoclaw")
    manager.add_hookspecs(hookspecs)
    module = ModuleType("example")
    setattr(module, hook, names[hook])
    manager.register(module)
    assert [caller.name for caller in manager.get_hookcallers(module) or ()] == [hook]


# --- docs/plugins/ -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hook", [hook for hook in HOOKS if hook != "nanoclaw_event"])
def test_the_pages_have_a_whole_plugin_for_each_hook_that_offers(hook: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "example", plugin_from(example_of(hook), "example"))
    (status,) = (status for status in load([], ["example"]).statuses if status.name == "example")
    assert len(status.offers) == 1


def test_the_plugin_that_hears_events_on_the_page_hears_them() -> None:
    plugin = plugin_from(example_of("nanoclaw_event"), "ear")
    plugin.nanoclaw_event(Event(name="turn.ended", at=0.0, data={}))
    assert plugin.seen == {"turn.ended": 1}


async def test_the_action_on_the_page_answers() -> None:
    plugin = plugin_from(example_of("nanoclaw_actions"), "dice")
    assert (await plugin.roll(None, plugin.RollDice(sides=2))).startswith("You rolled a ")


async def test_the_manifest_on_the_page_is_one_and_its_check_tells_good_tokens_from_bad_ones() -> None:
    plugin = plugin_from(next(block for block in blocks("python") if "MANIFEST = " in block), "bots")
    (field, server) = plugin.FACTORY.manifest.fields
    good, bad = f"ex-{'0' * 31}1", f"ex-{'0' * 32}"
    assert re.fullmatch(field.pattern, good)
    assert await plugin.FACTORY.check({field.variable: good, server.variable: server.default}) == "@nano_bot"
    with pytest.raises(CredentialRefused):
        await plugin.FACTORY.check({field.variable: bad, server.variable: server.default})


def test_the_page_speaks_of_everything_in_a_manifest() -> None:
    names = [*(field.name for field in fields(Manifest)), *(field.name for field in fields(SetupField))]
    assert [name for name in names if f"`{name}" not in PAGE and f"{name}=" not in PAGE] == []


@pytest.mark.parametrize(
    ("module", "plugin", "tests"),
    [
        ("nanoclaw_folder", "class Folder:", "class TestFolder("),
        ("nanoclaw_lines", "class CountLines:", "class TestCountLines("),
    ],
)
def test_what_has_a_contract_on_the_page_keeps_it_with_the_tests_on_the_page(
    module: str, plugin: str, tests: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{module}.py").write_text(block_with(plugin))
    (tmp_path / f"test_{module}.py").write_text(block_with(tests))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    options = ["-q", "--rootdir=.", "-c/dev/null", "-p", "no:cacheprovider", "-W", "error", f"test_{module}.py"]
    assert pytest.main(options) == pytest.ExitCode.OK


def test_an_action_on_the_page_can_be_handed_a_file() -> None:
    plugin = plugin_from(block_with("class CountLines:"), "lines")
    assert file_rules(plugin.nanoclaw_actions())["parameters"] == {"count_lines": ["file"]}


def test_the_channel_with_previews_on_the_page_keeps_the_contract_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    contract = next(block for block in blocks("python") if "class TestFolder" in block)
    (tmp_path / "nanoclaw_folder.py").write_text(example_of("nanoclaw_channels"))
    (tmp_path / "streaming_folder.py").write_text(next(block for block in blocks("python") if "class StreamingFolder" in block))
    contract = contract.replace("from nanoclaw_folder import Folder", "from streaming_folder import StreamingFolder as Folder")
    (tmp_path / "test_streaming_folder.py").write_text(contract)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    options = ["-q", "--rootdir=.", "-c/dev/null", "-p", "no:cacheprovider", "-W", "error", "test_streaming_folder.py"]
    assert pytest.main(options) == pytest.ExitCode.OK


def test_the_provider_on_the_page_keeps_its_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "test_example.py").write_text(next(block for block in blocks("python") if "class TestExample" in block))
    monkeypatch.chdir(tmp_path)
    options = ["-q", "--rootdir=.", "-c/dev/null", "-p", "no:cacheprovider", "-W", "error", "test_example.py"]
    assert pytest.main(options) == pytest.ExitCode.OK


def test_the_mount_policy_on_the_page_judges() -> None:
    plugin = plugin_from(example_of("nanoclaw_mount_policies"), "keys")
    agent = AgentGroup(id="a1", name="Andy", folder="main")
    decisions = {
        path: plugin.judge(MountRequest(agent_group=agent, source=Path(path), target="/workspace-extra/it")).decision
        for path in ("/home/ada/.SSH", "/home/ada/notes")
    }
    assert decisions == {"/home/ada/.SSH": MountDecision.REFUSE, "/home/ada/notes": MountDecision.NARROW}


def test_the_project_file_on_the_page_is_whole() -> None:
    (block,) = blocks("toml")
    project = tomllib.loads(block)["project"]
    assert project["entry-points"]["nanoclaw"] == {"dice": "nanoclaw_dice"}


def test_the_pages_speak_of_every_hook_and_fixture() -> None:
    from nanoclaw_core.testing import pytest_plugin

    fixtures = [name for name in vars(pytest_plugin) if name.startswith("nanoclaw_")]
    assert [name for name in [*HOOKS, *fixtures] if name not in PAGE] == []


def test_a_plugin_can_be_in_every_state_that_the_page_and_the_list_know() -> None:
    assert {state.value for state in PluginState} == {"builtin", "enabled", "available", "broken", "missing"}


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted((ROOT / "docs").rglob("*.md")), ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []
