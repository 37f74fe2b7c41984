"""What docs/plugins/compatibility.md promises: no public name goes without a warning, two minor releases ahead."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType

import pytest

import nanoclaw_core
import nanoclaw_core.testing
from nanoclaw_core import hookspecs
from nanoclaw_core.cli.commands import EXIT_CODES
from nanoclaw_core.settings import describe
from nanoclaw_core.testing import pytest_plugin
from tests.cli.test_commands import all_commands

ROOT = Path(__file__).parent.parent
LIST = Path(__file__).parent / "public_names.txt"
DOORS = [nanoclaw_core, nanoclaw_core.testing]
PROMISE = (
    "were public and are gone. A public name works for two more minor releases and warns: move it to `_DEPRECATED` of its "
    "door, with its replacement and the release that removes it, and take it out of tests/public_names.txt only then "
    "(docs/plugins/compatibility.md)."
)


def public_names() -> Iterator[str]:
    """Everything that the promise is about, a line each."""
    for door in DOORS:
        for name in {*door.__all__, *door._DEPRECATED}:
            yield f"name {door.__name__}.{name}"
            yield from (f"part {door.__name__}.{name}.{part}" for part in parts_of(getattr(door, name)))
    yield from (f"hook {name}" for name in vars(hookspecs) if name.startswith("nanoclaw_"))
    yield from (f"fixture {name}" for name in vars(pytest_plugin) if name.startswith("nanoclaw_"))
    for path, command in all_commands():
        yield f"command {path}"
        options = (option for parameter in command.params for option in parameter.opts if option.startswith("--"))
        yield from (f"option {path} {option}" for option in options)
    yield from (f"exit code {line.split()[0]}" for line in EXIT_CODES.splitlines()[2:])
    yield from (f"setting {variable}" for variable, *_ in describe())
    events = (ROOT / "docs" / "events.md").read_text(encoding="utf-8")
    yield from (f"event {name}" for name in re.findall(r"^\| `([a-z_.]+)`", events, re.MULTILINE))


def parts_of(thing: object) -> set[str]:
    """The fields, members and methods of a public class; tests of contracts are rules, and may become more and others."""
    if not inspect.isclass(thing):
        return set()
    own = {name for name, value in vars(thing).items() if inspect.isroutine(value) or isinstance(value, property)}
    members = set(thing.__members__) if issubclass(thing, Enum) else set()
    declared = (
        {name for base in thing.__mro__ for name in inspect.get_annotations(base)} if thing.__module__ != "builtins" else set()
    )
    return {name for name in own | members | declared if not name.startswith(("_", "test_"))}


LISTED = LIST.read_text(encoding="utf-8").splitlines()


def test_no_public_name_is_gone() -> None:
    gone = sorted({*LISTED} - {*public_names()})
    assert not gone, f"{', '.join(gone)} {PROMISE}"


def test_every_public_name_is_listed() -> None:
    new = sorted({*public_names()} - {*LISTED})
    assert not new, "\n".join(["public from now on, if that is meant: add to tests/public_names.txt", *new])


def test_the_list_is_sorted() -> None:
    assert sorted({*LISTED}) == LISTED


@pytest.fixture(params=DOORS, ids=lambda door: door.__name__)
def door(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A door with a name that is on its way out."""
    module: ModuleType = request.param
    old, home = ("Sender", "models") if module is nanoclaw_core else ("Shown", "contracts")
    monkeypatch.setitem(module._DEPRECATED, old, (home, f"{module.__name__}.New", "0.4"))
    monkeypatch.delitem(vars(module), old, raising=False)
    return module


def old_name(door: ModuleType) -> str:
    (name,) = door._DEPRECATED
    return str(name)


def test_a_deprecated_name_works_and_warns_where_it_is_used(door: ModuleType) -> None:
    name = old_name(door)
    for _ in range(2):  # not the first time only
        with pytest.warns(DeprecationWarning, match=r"removed in nanoclaw-core 0\.4") as caught:
            assert getattr(door, name).__name__ == name
        (warning,) = caught
        words = (
            f"{door.__name__}.{name} is deprecated and will be removed in nanoclaw-core 0.4: use {door.__name__}.New instead."
        )
        assert (str(warning.message), warning.filename) == (words, __file__)


def test_a_deprecated_name_that_is_imported_warns_the_importing_file(door: ModuleType) -> None:
    with pytest.warns(DeprecationWarning, match=r"removed in nanoclaw-core 0\.4") as caught:
        exec(compile(f"from {door.__name__} import {old_name(door)}", "a_plugin.py", "exec"), {})  # noqa: S102  # a plugin's line
    assert {warning.filename for warning in caught} == {"a_plugin.py"}
