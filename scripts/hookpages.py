"""Writes docs/plugins/hooks/ from the hooks' specifications, and the table of rules in docs/plugins/conformance.md.

`python -m scripts.hookpages` after a change of a hook, a port, a record or a contract; a test compares.
"""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import subprocess
import sys
import textwrap
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import nanoclaw_core
import nanoclaw_core.testing
from nanoclaw_core import hookspecs
from nanoclaw_core.testing.contracts.report import MARK

PLUGINS: Final = Path(__file__).parent.parent / "docs" / "plugins"
BEGIN: Final = "<!-- begin: made by scripts/hookpages.py -->"
END: Final = "<!-- end -->"

#: Each hook, the page that introduces it, and the records that no signature leads to.
GUIDES: Final = {
    "nanoclaw_channels": ("channels", ()),
    "nanoclaw_providers": ("providers", ("HttpUpstream",)),
    "nanoclaw_actions": ("actions", ()),
    "nanoclaw_runtimes": ("runtimes", ()),
    "nanoclaw_checks": ("checks", ()),
    "nanoclaw_mount_policies": ("mount-policies", ()),
    "nanoclaw_event": ("events", ()),
}
_PUBLIC: Final = {name: getattr(nanoclaw_core, name) for name in nanoclaw_core.__all__}
_CLASSES: Final = {name: thing for name, thing in _PUBLIC.items() if inspect.isclass(thing)}


def pages() -> dict[Path, str]:
    """Every page that is made here, whole."""
    made = {PLUGINS / "hooks" / f"{hook}.md": hook_page(hook) for hook in hooks()}
    conformance = PLUGINS / "conformance.md"
    before, _, rest = conformance.read_text(encoding="utf-8").partition(BEGIN)
    made[conformance] = f"{before}{BEGIN}\n\n{contracts()}\n{END}{rest.partition(END)[2]}"
    return {path: _formatted(path, text) for path, text in made.items()}


def hooks() -> list[str]:
    return [name for name in vars(hookspecs) if name.startswith("nanoclaw_")]


# --- a hook ---------------------------------------------------------------------------------------------------------------


def hook_page(hook: str) -> str:
    """What a hook is for, its example, and everything that its signature leads to."""
    function, (guide, more) = getattr(hookspecs, hook), GUIDES[hook]
    prose, example = _docstring(function)
    title = re.search(r"^# (.*)$", (PLUGINS / f"{guide}.md").read_text(encoding="utf-8"), re.MULTILINE)
    reached = _reached(function, more)
    parts = [
        f"# {hook}",
        prose,
        _fence(f"def {hook}{_signature(function)}: ..."),
        f"A whole plugin with this hook, and the rules in words: [{title[1] if title else guide}](../{guide}.md).",
        "## Example",
        _fence(example),
        "## What belongs to it",
        *(_class(thing) for thing in reached),
        *_errors(reached),
        "*This page is made from the source by `scripts/hookpages.py`.*",
    ]
    return "\n\n".join(parts) + "\n"


def _signature(function: Any) -> str:  # Any: a function of any shape
    return str(inspect.signature(function)).replace("'", "")


def _reached(function: Any, more: tuple[str, ...]) -> list[type]:
    """The public classes that a hook's signature leads to, the nearest first; a port is followed by what may be added to it."""
    found: list[type] = []
    queue = [*_public_in(typing.get_type_hints(function).values()), *(_CLASSES[name] for name in more)]
    while queue:
        thing = queue.pop(0)
        if thing in found or issubclass(thing, BaseException):
            continue
        found.append(thing)
        queue = [*_additions(thing), *queue, *_public_in(_hints(thing))]
    return found


def _additions(port: type) -> list[type]:
    """The Protocols of what an implementation of `port` may do besides: those that are called …Channel, for `Channel`."""
    if not _is_port(port):
        return []
    return [
        thing for name, thing in _CLASSES.items() if name.endswith(port.__name__) and name != port.__name__ and _is_port(thing)
    ]


def _is_port(thing: type) -> bool:
    return bool(getattr(thing, "_is_protocol", False))


def _hints(thing: type) -> Iterator[object]:
    """The annotations of a class: of its fields, and of its public methods."""
    yield from typing.get_type_hints(thing).values()
    for name, method in vars(thing).items():
        if inspect.isfunction(method) and (not name.startswith("_") or name == "__call__"):
            yield from typing.get_type_hints(method).values()


def _public_in(hints: typing.Iterable[object]) -> list[type]:
    return [thing for hint in hints for thing in _types(hint) if thing in _CLASSES.values()]


def _types(hint: object) -> Iterator[type]:
    if inspect.isclass(hint):
        yield hint
    for argument in (hint, *typing.get_args(hint)):
        if argument is not hint:
            for inner in argument if isinstance(argument, list) else [argument]:
                yield from _types(inner)
    if inspect.isclass(origin := typing.get_origin(hint)):
        yield origin


# --- a class --------------------------------------------------------------------------------------------------------------


def _class(thing: type) -> str:
    prose, example = _docstring(thing)
    body = _body(thing)
    parts = [f"### {thing.__name__}", prose, _fence(body) if body else "", _fence(example) if example else ""]
    return "\n\n".join(part for part in parts if part)


def _body(thing: type) -> str:
    """The public part of a class, as it stands in the source, without its docstring."""
    lines = textwrap.dedent(inspect.getsource(thing)).splitlines()
    (node,) = (part for part in ast.parse("\n".join(lines)).body if isinstance(part, ast.ClassDef))
    shown = [f"class {node.name}{_bases(node)}:"]
    for part in node.body:
        if isinstance(part, ast.AnnAssign | ast.Assign):
            shown += lines[part.lineno - 1 : part.end_lineno]
        elif isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef) and _is_shown(part):
            shown += [*[""] * (len(shown) > 1), *_method(part, lines)]
    return "\n".join(shown) if len(shown) > 1 else ""


def _bases(node: ast.ClassDef) -> str:
    return f"({', '.join(map(ast.unparse, node.bases))})" if node.bases else ""


def _is_shown(method: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return not method.name.startswith("_") or method.name in ("__call__", "__init__")


def _method(method: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> list[str]:
    """Its decorators, its signature and its docstring."""
    first = min([method.lineno, *(each.lineno for each in method.decorator_list)])
    if ast.get_docstring(method) is None:
        return [*lines[first - 1 : method.body[0].lineno - 1], "        ..."]
    return lines[first - 1 : method.body[0].end_lineno]


def _errors(reached: list[type]) -> list[str]:
    """The errors that the docstrings on this page speak of."""
    said = " ".join(inspect.getsource(thing) for thing in reached)
    errors = [thing for thing in _CLASSES.values() if issubclass(thing, BaseException)]
    spoken = [error for error in errors if re.search(rf"\b{error.__name__}\b", said)]
    named = [error for error in errors if any(issubclass(each, error) for each in spoken)]
    rows = [f"| `{error.__name__}` | {_line(error)} |" for error in named]
    return ["### Errors", "\n".join(["| error | meaning |", "|---|---|", *rows])] if rows else []


# --- contracts ------------------------------------------------------------------------------------------------------------


def contracts() -> str:
    """What each contract checks, by capability, and how a channel's platform is driven for it."""
    doors = {name: getattr(nanoclaw_core.testing, name) for name in nanoclaw_core.testing.__all__}
    parts = [part for name, thing in doors.items() if name.endswith("Contract") for part in _contract(name, thing)]
    return "\n\n".join([*parts, *_platform(doors["Platform"])]) + "\n"


def _contract(name: str, thing: type) -> Iterator[str]:
    yield f"### {name}"
    yield _docstring(thing)[0]
    rules: dict[str, list[Any]] = {}  # Any: test functions
    for test in [value for key, value in vars(thing).items() if key.startswith("test_")]:
        rules.setdefault(_capability(test), []).append(test)
    rows = [f"| {capability} | {_rules(tests)} | {_claims(tests)} |" for capability, tests in rules.items()]
    yield "\n".join(["| capability | rules | claimed by |", "|---|---|---|", *rows])


def _capability(test: Any) -> str:
    marks = [mark.args[0] for mark in getattr(test, "pytestmark", ()) if mark.name == MARK]
    return f"**{marks[0]}**" if marks else "always"


def _rules(tests: list[Any]) -> str:
    return "<br>".join(test.__name__.removeprefix("test_").replace("_", " ").capitalize() + "." for test in tests)


def _claims(tests: list[Any]) -> str:
    """What must be there for the rule to be tried: of the channel, and of the `Platform` that the test drives."""
    source = " ".join(inspect.getsource(test) for test in tests)
    claimed = re.findall(r'self\._claimed\(.*"([\w.]+)", "\w+"\)', source)
    claimed += re.findall(r'not_claimed\("(?:[^"]*\()?([\w.]+)\)?"\)', source)
    driven = re.findall(r'self\._claimed\(.*"(\w+)"\)', source) + re.findall(r'_need\(platform, "(\w+)"\)', source)
    words = [f"`{name}`" for name in dict.fromkeys(claimed)] + [f"`Platform.{name}`" for name in dict.fromkeys(driven)]
    return ", ".join(words) or "–"


def _platform(platform: type) -> Iterator[str]:
    yield "### Platform"
    yield _docstring(platform)[0]
    members = {
        name: value for name, value in vars(platform).items() if not name.startswith("_") and name not in ("can", "chat")
    }
    rows = [f"| `{name}` | {_line(value.fget if isinstance(value, property) else value)} |" for name, value in members.items()]
    yield "\n".join(["| member | what it does |", "|---|---|", *rows])


# --- words ----------------------------------------------------------------------------------------------------------------


def _docstring(thing: object) -> tuple[str, str]:
    """Its words, and its example as a program."""
    text = inspect.getdoc(thing) or ""
    prose, marker, example = text.partition(">>> ")
    script = doctest.script_from_examples(marker + example) if marker else ""
    return prose.strip(), re.sub(r"^# Expected:\n## ", "# ", script, flags=re.MULTILINE).strip()


def _line(thing: object) -> str:
    """Its words in one line, for a table."""
    return " ".join(_docstring(thing)[0].split()).replace("|", "\\|")


def _formatted(path: Path, text: str) -> str:
    """As `make lint` wants it: ruff formats what is in the fences, too."""
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(path), "-"]
    return subprocess.run(ruff, input=text, capture_output=True, text=True, check=True).stdout


def _fence(code: str) -> str:
    return f"```python\n{code}\n```"


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
