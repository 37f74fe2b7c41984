"""A new package on the disk: everything that a plugin of its kind needs, its tests among it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from string import Template
from typing import Final

from packaging.version import Version

from nanoclaw_core import __version__
from nanoclaw_core.errors import PackageNotMade
from nanoclaw_core.scaffold.names import PluginName, named

_TEMPLATES: Final = Path(__file__).with_name("templates")
_SUFFIX: Final = ".tmpl"  # what is written; any other file beside it is a value, named by its stem
_CHECKS: Final = "checks"  # becomes tests/; what is called so in this package would be taken for tests of its own
_NOBODY: Final = "YOUR NAME"


def make(kind: str, text: str, folder: Path, taken: Collection[str] = ()) -> Path:
    """Write the package of a plugin of this kind, one of `KINDS`, with the name `text`, into a new folder below `folder`.

    `taken` are names that NanoClaw itself offers of this kind. Blocks.

    Raises:
        PackageNotMade: the name cannot be used, something is there already, or cannot be written. Nothing is left then.
    """
    name = named(text, taken)
    target, values = folder / name.distribution, _values(kind, name)
    try:
        if target.exists() or target.is_symlink():
            raise PackageNotMade(name.text, f"{target} is there already. Choose another name, or another place with --folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{name.distribution}.", dir=folder) as place:
            draft = Path(place) / name.distribution
            _write(draft, kind, name, values)
            draft.rename(target)
    except OSError as error:
        reason = f"{target} cannot be written ({error.strerror or error}). Choose another place with --folder"
        raise PackageNotMade(name.text, reason) from error
    return target


def main_module(kind: str, text: str) -> str:
    """Where the author goes on writing, below the package's folder."""
    return f"{PluginName(text=text).module}/{_main(kind)}.py"


def has_author(package: Path) -> bool:
    """Whether the licence names somebody."""
    return _NOBODY not in (package / "LICENSE").read_text(encoding="utf-8")


def _write(draft: Path, kind: str, name: PluginName, values: Mapping[str, str]) -> None:
    for source, place in _files(kind, name):
        file = draft / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(source.read_text(encoding="utf-8")).substitute(values), encoding="utf-8")


def _files(kind: str, name: PluginName) -> Iterator[tuple[Path, Path]]:
    """Each template with its place in the package."""
    names = {"package": name.module, _CHECKS: "tests"}
    for root in (_TEMPLATES / "common", _TEMPLATES / kind):
        for source in sorted(root.rglob(f"*{_SUFFIX}")):
            parts = source.relative_to(root).with_suffix("").parts
            yield source, Path(*(names.get(part, part) for part in parts))


def _values(kind: str, name: PluginName) -> Mapping[str, str]:
    """What stands for the `$words` of the templates; the kind's own texts hold such words, too."""
    plain = {
        "kind": kind.replace("-", " "),
        "name": name.text,
        "distribution": name.distribution,
        "module": name.module,
        "main": _main(kind),
        "action": name.action,
        "class_name": name.class_name,
        "variable": name.variable,
        "version": __version__,
        "range": _range(Version(__version__)),
        "year": str(datetime.now(UTC).year),
        "author": _author(),
    }
    texts = [file for file in (_TEMPLATES / kind).iterdir() if file.is_file() and file.suffix != _SUFFIX]
    return plain | {file.stem: Template(file.read_text(encoding="utf-8").strip()).substitute(plain) for file in texts}


def _main(kind: str) -> str:
    return kind.replace("-", "_")


def _range(core: Version) -> str:
    """From this core on, before the next minor version: what is public may change there."""
    return f">={core.public},<{core.major}.{core.minor + 1}"


def _author() -> str:
    """Whoever git says is at work here."""
    try:
        asked = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired, UnicodeDecodeError):
        return _NOBODY
    return " ".join(asked.stdout.split()) or _NOBODY
