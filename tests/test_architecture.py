"""The walls: who may import what, what is public, and a few things that nobody does.

Every rule is read off the source with `ast`, so that an import inside a function counts as well.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import typing
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import nanoclaw_core
import nanoclaw_core.testing

ROOT = Path(__file__).parent.parent
CORE = ROOT / "nanoclaw_core"

#: From the ground up. A part imports only from floors below its own, and from itself.
FLOORS = (
    "deprecation errors filenames markdown mask models replacement snapshot",
    "commands ports secrets",
    "hookspecs",
    "disk home loopwatch memory settings store supervise upstream installed switches",
    "journal ledger mailbox sandbox first_start",
    "backup delivery gateway history packages pairing retention routing workers",
    "builtins plugins",
    "conformance doctor offers operations scaffold",
    "host testing",
    "control",
    "cli",
)
FLOOR = {part: number for number, floor in enumerate(FLOORS) for part in floor.split()}

#: Third-party packages that only these may import (paths below nanoclaw_core).
KEEPERS = {
    "docker": ("sandbox/containers.py", "sandbox/docker.py"),
    "sqlalchemy": ("store/", "journal.py", "mailbox/"),
    "alembic": ("store/migrate.py", "store/migrations/"),
    "pluggy": ("hookspecs.py", "plugins.py"),
    "rich": ("cli/",),
    "click": ("cli/",),
    "prompt_toolkit": ("cli/",),
    "pytest": ("testing/",),
}

HEAVY = ["aiohttp", "alembic", "anyio", "claude_agent_sdk", "docker", "msgspec", "pluggy", "rich", "sqlalchemy", "structlog"]

MODULES = sorted(CORE.rglob("*.py"))
RUNNER = sorted((ROOT / "container" / "runner").rglob("*.py"))
PACKAGES = sorted((ROOT / "plugins").glob("*/nanoclaw_*/**/*.py"))


def named(paths: list[Path]) -> dict[str, Any]:  # keyword arguments of parametrize
    """One test per file, with its path as the test's id."""
    return {"argvalues": paths, "ids": [path.relative_to(ROOT).as_posix() for path in paths]}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(nodes: ast.AST, package: str = "") -> Iterator[str]:
    """Every imported name with its module: `from a import b` is 'a.b'."""
    for node in ast.walk(nodes):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    """The part of the core that a module belongs to; the door, `__init__.py`, belongs to none."""
    first = path.relative_to(CORE).parts[0]
    return "" if first == "__init__.py" else first.removesuffix(".py")


def parts_used(path: Path) -> set[str]:
    """The parts of the core that a module imports; a name taken from the door counts for the part where it lives."""
    homes: dict[str, str] = nanoclaw_core._HOME
    names = [name.split(".")[1] for name in imports(tree(path)) if name.startswith("nanoclaw_core.")]
    return {homes.get(name, name) for name in names if name != "__version__"} - {part_of(path)}


# --- floors ---------------------------------------------------------------------------------------------------------------


def test_every_part_has_a_floor() -> None:
    assert {part_of(path) for path in MODULES} - {""} <= FLOOR.keys()


@pytest.mark.parametrize("path", **named([path for path in MODULES if part_of(path)]))
def test_a_part_imports_only_from_floors_below(path: Path) -> None:
    floor = FLOOR[part_of(path)]
    assert {part for part in parts_used(path) if FLOOR.get(part, 99) >= floor} == set()


@pytest.mark.parametrize("package", KEEPERS)
def test_a_library_stays_with_its_keepers(package: str) -> None:
    users = {
        path.relative_to(CORE).as_posix()
        for path in MODULES
        for name in imports(tree(path))
        if name.partition(".")[0] == package
    }
    assert {user for user in users if not user.startswith(KEEPERS[package])} == set()


@pytest.mark.parametrize("path", **named([path for path in RUNNER if "tests" not in path.parts]))
def test_the_runner_knows_nothing_of_the_host(path: Path) -> None:
    assert [name for name in imports(tree(path)) if name.partition(".")[0] == "nanoclaw_core"] == []


def plugin_modules() -> list[Path]:
    return sorted([*(ROOT / "plugins").rglob("*.py"), *(ROOT / "tests" / "sample_plugins").rglob("*.py")])


@pytest.mark.parametrize("path", **named(plugin_modules()))
def test_a_plugin_uses_the_public_doors_only(path: Path) -> None:
    names = [name for name in imports(tree(path)) if name.partition(".")[0] == "nanoclaw_core"]
    public = {f"nanoclaw_core.{name}" for name in [*nanoclaw_core.__all__, "testing"]}
    public |= {f"nanoclaw_core.testing.{name}" for name in nanoclaw_core.testing.__all__}
    assert [name for name in names if name not in public | {"nanoclaw_core", "nanoclaw_core.testing"}] == []


# --- the door -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", [nanoclaw_core, nanoclaw_core.testing], ids=lambda door: door.__name__)
def test_the_door_is_sorted_and_everything_in_it_is_there(door: ModuleType) -> None:
    assert door.__all__ == sorted(door.__all__)
    assert [name for name in door.__all__ if not hasattr(door, name)] == []
    assert dir(door) == door.__all__


@pytest.mark.parametrize("door", [nanoclaw_core, nanoclaw_core.testing], ids=lambda door: door.__name__)
def test_type_checkers_see_the_same_door(door: ModuleType) -> None:
    guarded = (node for node in tree(Path(door.__file__ or "")).body if isinstance(node, ast.If))
    seen = {name.rpartition(".")[2] for block in guarded for name in imports(block)}
    assert seen == set(door.__all__) - {"__version__"} == door._HOME.keys()


def types_in(value: object) -> Iterator[type]:
    """The classes that an annotation is made of."""
    if isinstance(value, type):
        yield value
    for argument in typing.get_args(value):
        for inner in argument if isinstance(argument, list) else [argument]:
            yield from types_in(inner)


def test_whoever_can_name_a_record_can_name_everything_in_it() -> None:
    public = {name: getattr(nanoclaw_core, name) for name in nanoclaw_core.__all__}
    hidden = set()
    for offered in filter(inspect.isclass, public.values()):
        members: list[Any] = [offered, *(vars(offered).values() if getattr(offered, "_is_protocol", False) else ())]
        for member in [member for member in members if inspect.isclass(member) or inspect.isfunction(member)]:
            for hint in typing.get_type_hints(member).values():
                used = {kind for kind in types_in(hint) if kind.__module__.startswith("nanoclaw_core.")}
                hidden |= {kind.__name__ for kind in used if kind not in public.values()}
    assert hidden == set()


@pytest.mark.parametrize("door", ["nanoclaw_core", "nanoclaw_core.testing"])
def test_opening_the_door_imports_nothing_heavy(door: str) -> None:
    code = f"import {door}, sys; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# --- things that nobody does ----------------------------------------------------------------------------------------------


def swallows_everything(handler: ast.ExceptHandler) -> bool:
    """Whether it catches all errors and does not raise again."""
    caught = {"BaseException"} if handler.type is None else {ast.unparse(handler.type)}
    ends = handler.body[-1]
    return bool(caught & {"Exception", "BaseException"}) and not (isinstance(ends, ast.Raise) and ends.exc is None)


#: Strangers' code, restarts, and the last frame of a command: nobody else may catch just anything.
CATCH_ALL = [CORE / name for name in ("plugins.py", "supervise.py", "cli/__init__.py")]


@pytest.mark.parametrize("path", **named([path for path in MODULES + PACKAGES if path not in CATCH_ALL]))
def test_errors_are_caught_by_name(path: Path) -> None:
    handlers = [node for node in ast.walk(tree(path)) if isinstance(node, ast.ExceptHandler)]
    assert [handler.lineno for handler in handlers if swallows_everything(handler)] == []


def called(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node.lineno


@pytest.mark.parametrize("path", **named([path for path in MODULES if part_of(path) != "cli"] + PACKAGES))
def test_only_the_command_line_prints(path: Path) -> None:
    assert [line for name, line in called(path) if name in ("print", "sys.stdout.write", "sys.stderr.write")] == []


@pytest.mark.parametrize("path", **named(MODULES + PACKAGES + RUNNER))
def test_tasks_live_in_task_groups(path: Path) -> None:
    assert [line for name, line in called(path) if name.endswith((".create_task", "ensure_future"))] == []


@pytest.mark.parametrize("path", **named(MODULES + PACKAGES))
def test_a_module_opens_with_one_sentence(path: Path) -> None:
    text = ast.get_docstring(tree(path)) or ""
    assert text.partition("\n")[0].endswith((".", ":", "?")) or path.stat().st_size == 0


# --- what is in the repository --------------------------------------------------------------------------------------------


def texts() -> Iterator[tuple[str, str]]:
    """Every file that is or would be committed."""
    listed = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            yield name, (ROOT / name).read_text(encoding="utf-8", errors="replace")


def private_places() -> set[str]:
    """What only this machine knows: where the clone lies, and where pip gets its packages from."""
    variables = [os.environ.get(f"PIP_{name}", "") for name in ("INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS")]
    config = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    sources = re.findall(r"(?:index-url|find-links)='([^']*)'", config)
    places = {place for value in [*variables, *sources] for place in value.split()}
    return places | ({f"{ROOT}/"} if len(ROOT.parts) > 2 else set())


def test_no_file_names_this_machine() -> None:
    private = private_places()
    assert [(name, place) for name, text in texts() for place in private if place in text] == []


def test_no_file_names_a_package_registry() -> None:
    """`constraints.txt` pins versions, not places; downloads go wherever the user's own pip is told to look."""
    host = re.compile(r"https?://[\w.@:-]*(?:artifact|registry|nexus|pkgs)[\w.-]*\.[a-z]{2,}/")
    assert [name for name, text in texts() if host.search(text)] == []


def test_the_kernel_has_few_dependencies_and_its_size_can_be_printed() -> None:
    printed = subprocess.run([sys.executable, ROOT / "scripts" / "size.py"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"dependencies of the kernel: (\d+)", printed)
    assert found is not None
    assert int(found[1]) <= 12
