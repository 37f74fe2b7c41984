"""How much there is to read: `make size`.

The kernel is the core without built-ins, command line, test kit and migrations. Code lines leave out blank lines, comments and
docstrings. Tokens are characters divided by four, which is near enough for source like this.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
CORE = ROOT / "nanoclaw_core"
OUTSIDE_KERNEL = ("builtins", "cli", "scaffold", "testing", "store/migrations")

#: Direct dependencies that only the command line needs.
FOR_PEOPLE = {"click", "prompt-toolkit", "rich"}

QUIET = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """What some files amount to."""

    files: int
    lines: int
    code: int
    tokens: int


def measure(paths: list[Path]) -> Size:
    texts = [path.read_text(encoding="utf-8") for path in paths if path.stat().st_size]
    return Size(
        files=len(texts),
        lines=sum(text.count("\n") for text in texts),
        code=sum(map(code_lines, texts)),
        tokens=sum(map(len, texts)) // 4,
    )


def code_lines(text: str) -> int:
    """Lines that hold code. A docstring is a statement that is nothing but a string."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in QUIET:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def modules(folder: Path, without: tuple[str, ...] = ()) -> list[Path]:
    return [path for path in sorted(folder.rglob("*.py")) if not path.relative_to(folder).as_posix().startswith(without)]


def parts() -> dict[str, Size]:
    """Every part of the repository, the kernel first."""
    runner = ROOT / "container" / "runner"
    tests = [*modules(ROOT / "tests"), *modules(runner / "tests"), *ROOT.glob("plugins/*/tests/**/*.py")]
    plugins = [path for path in modules(ROOT / "plugins") if "tests" not in path.parts]
    return {
        "kernel": measure(modules(CORE, tuple(f"{folder}/" for folder in OUTSIDE_KERNEL))),
        **{f"  {folder}": measure(modules(CORE / folder)) for folder in OUTSIDE_KERNEL},
        "runner (in the container)": measure(modules(runner, ("tests/",))),
        "plugins": measure(plugins),
        "tests": measure(tests),
    }


def dependencies() -> tuple[list[str], list[str]]:
    """The names of the core's direct dependencies: the kernel's, and those of the command line alone."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = [re.split(r"[^A-Za-z0-9_.-]", text, maxsplit=1)[0] for text in project["dependencies"]]
    return [name for name in names if name not in FOR_PEOPLE], [name for name in names if name in FOR_PEOPLE]


def report() -> str:
    """The table and the dependencies, as text."""
    rows = [f"{'':28}{'files':>7}{'lines':>9}{'code':>9}{'tokens':>10}"]
    rows += [f"{name:28}{it.files:>7,}{it.lines:>9,}{it.code:>9,}{it.tokens:>10,}" for name, it in parts().items()]
    kernel, people = dependencies()
    rows += [
        "",
        f"direct dependencies of the kernel: {len(kernel)} ({', '.join(kernel)})",
        f"of the command line besides: {len(people)} ({', '.join(people)})",
        "",
        "code: lines that are not blank, comment or docstring. tokens: characters / 4, an estimate.",
    ]
    return "\n".join(rows)


if __name__ == "__main__":
    print(report())  # noqa: T201  # printing is what it is for
