"""pip of the host's own interpreter, as a child process: arguments in a list, a time limit, and errors that say what to do."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from packaging.requirements import InvalidRequirement, Requirement

from nanoclaw_core.errors import InstallRefused
from nanoclaw_core.settings import looks_secret

_TIME: Final = 1800.0  # seconds; builds and slow networks take their time, a hung pip ends
_FLAGS: Final = ("--disable-pip-version-check", "--no-input", "--no-color")
_SYSTEMS_OWN: Final = (
    f"the Python at {sys.prefix} belongs to the system's package manager; "
    "install NanoClaw into an environment of its own (`python3 -m venv`) and use that one's `nanoclaw`"
)
_THERE: Final = re.compile(r"^The user requested (?:\(constraint\) )?(.+?)==(.+)$", re.MULTILINE)
_NETWORK: Final = re.compile(
    r"connection broken by|ConnectionError|Connection (?:refused|reset|aborted)|Name or service not known|"
    r"Temporary failure in name resolution|getaddrinfo|Network is unreachable|timed out|ProxyError|SSLError"
)


def require_pip() -> None:
    """Refuse where pip is missing, or where this environment is not NanoClaw's to change.

    Raises:
        InstallRefused: with what to do.
    """
    if importlib.util.find_spec("pip") is None:
        raise InstallRefused(
            f"this environment has no pip: `{sys.executable} -m ensurepip`, or install plugins as you installed it"
        )
    if sys.prefix == sys.base_prefix and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists():
        raise InstallRefused(_SYSTEMS_OWN)
    site = sysconfig.get_path("purelib")
    if not os.access(site, os.W_OK):
        raise InstallRefused(f"you may not write to {site}; run this as the user who installed NanoClaw")


def resolve(wishes: Sequence[str], *, upgrade: bool = False) -> bytes:
    """pip's report on what it would install for `wishes` (requirements, or paths of wheels) on top of what is there.

    Raises:
        InstallRefused: it found no way, or could not look.
    """
    with tempfile.TemporaryDirectory(prefix="nanoclaw-") as folder:
        report = Path(folder, "report.json")
        _run("install", "--dry-run", "--report", report, *["--upgrade"] * upgrade, "--", *wishes)
        return report.read_bytes()


def fetch(lines: Iterable[str], into: Path) -> None:
    """Download what `lines` of a requirements file name, with hashes; what is no wheel is built.

    Raises:
        InstallRefused: it could not.
    """
    _with_requirements(lines, "wheel", "--no-deps", "--require-hashes", "--wheel-dir", into)


def build(folder: Path, into: Path) -> Path:
    """The wheel of a project's folder.

    Raises:
        InstallRefused: it cannot be built.
    """
    _run("wheel", "--no-deps", "--wheel-dir", into, "--", folder)
    (wheel,) = into.glob("*.whl")
    return wheel


def install(wheels: Sequence[tuple[str, str, Path]]) -> None:
    """Install exactly these wheels (requirement, sha256, file), offline, in the place of what carries the same names.

    Raises:
        InstallRefused: pip failed; some of them may be installed.
    """
    if wheels:
        places = [part for _, _, file in wheels for part in ("--find-links", file.parent)]
        lines = [f"{requirement} --hash=sha256:{sha256}" for requirement, sha256, _ in wheels]
        _with_requirements(
            lines, "--isolated", "install", "--no-index", "--no-deps", "--require-hashes", "--force-reinstall", *places
        )


def uninstall(names: Sequence[str]) -> None:
    """Remove these distributions.

    Raises:
        InstallRefused: pip failed; some of them may be gone.
    """
    if names:
        _run("uninstall", "--yes", "--", *names)


def _with_requirements(lines: Iterable[str], *arguments: str | Path) -> None:
    with tempfile.TemporaryDirectory(prefix="nanoclaw-") as folder:
        file = Path(folder, "requirements.txt")
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        _run(*arguments, "--requirement", file)


def _run(*arguments: str | Path) -> None:
    argv = [sys.executable, "-m", "pip", *_FLAGS, *map(str, arguments)]
    # Builds run strangers' code.
    environment = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or not looks_secret(name)}
    try:
        ran = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**environment, "PYTHONUTF8": "1"},
            timeout=_TIME,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InstallRefused(f"pip did not end within {_TIME / 60:.0f} minutes; look at this machine's network") from error
    except OSError as error:
        raise InstallRefused(f"pip cannot be started ({error.strerror})") from error
    if ran.returncode:
        raise InstallRefused(explain(ran.stdout.decode("utf-8", "replace")))


def explain(output: str) -> str:
    """What pip's output comes to, in one line that says what to do.

    >>> explain("ERROR: No matching distribution found for nanoclaw-telegarm")
    'no index knows nanoclaw-telegarm; look at the name, or give the path of a wheel or a folder (./name)'
    """
    if caused := _cause(output):
        return f"{'; '.join(caused)}. Choose versions that agree, or uninstall one of them"
    errors = [" ".join(line.split()) for line in re.findall(r"^ *(?:ERROR|error): *(.+)$", output, re.MULTILINE)]
    if found := re.search(r"No matching distribution found for (.+?)(?: \(from.*)?$", output, re.MULTILINE):
        return _unknown(found[1].strip(), output)
    if "externally-managed-environment" in output:
        return _SYSTEMS_OWN
    if re.search(r"Permission denied|Errno 13", output):
        where = errors[-1] if errors else sys.prefix
        return f"this environment may not be written ({where}); run this as the user who installed NanoClaw"
    if "No space left" in output:
        return "the disk is full; make room on it"
    if "DO NOT MATCH THE HASHES" in output:
        return "what came is not what the index promised (its hash differs); try again, and if that repeats, trust it not"
    if _NETWORK.search(output):
        return "the package index cannot be reached; look at this machine's network and pip's settings (`pip config list`)"
    told = [line for line in errors if "ResolutionImpossible" not in line and "Exception:" not in line]
    return f"pip says: {told[-1] if told else ' '.join((output.strip().splitlines() or ['nothing'])[-1].split())[-300:]}"


def _cause(output: str) -> list[str]:
    """What the resolver says two sides want, each as 'name 1.0 needs this'; not what agrees with the version that is there."""
    _, _, block = output.partition("The conflict is caused by:\n")
    lines = [line.strip() for line in block.partition("\n\n")[0].splitlines()]
    there = dict(_THERE.findall("\n".join(lines)))
    return [
        _THERE.sub(r"this has \1 \2", line)
        .replace("The user requested", "you asked for")
        .replace(" depends on ", " needs ")
        .replace(" and ", ",")
        for line in lines
        if not _agrees(line.partition(" depends on ")[2].replace(" and ", ","), there)
    ]


def _agrees(wish: str, there: Mapping[str, str]) -> bool:
    try:
        wanted = Requirement(wish)
    except InvalidRequirement:
        return False
    return wanted.name in there and wanted.specifier.contains(there[wanted.name], prereleases=True)


def _unknown(wish: str, output: str) -> str:
    if _NETWORK.search(output):
        return f"no index could be asked for {wish}; look at this machine's network and pip's settings (`pip config list`)"
    versions = re.search(r"\(from versions: (.+)\)", output)
    if versions and versions[1] != "none":
        return f"no version fits {wish}; there are {versions[1]} (for this Python, {sys.version.split()[0]})"
    return f"no index knows {wish}; look at the name, or give the path of a wheel or a folder (./name)"
