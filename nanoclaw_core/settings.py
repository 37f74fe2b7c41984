"""Everything that can be set: environment variables, `.env` files, their defaults and their rules.

A variable in the environment wins over the secret store, which wins over `.env` in the current folder, and that over `.env` in
the home. Variables that begin with NANOCLAW_ are NanoClaw's own; the others belong to plugins (their manifests name them) and
are handed on unread.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import platformdirs

from nanoclaw_core import secrets
from nanoclaw_core.errors import HomeUnusable, SettingInvalid, ValueRefused
from nanoclaw_core.models import SetupField
from nanoclaw_core.replacement import replace_file

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|PRIVATE")
_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*?)\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How the text of a variable becomes a value: `parse` raises ValueError when the text breaks the rule `words`."""

    words: str
    parse: Callable[[str], Any]  # each rule has a type of its own; Settings declares it


def _whole(low: int, high: int) -> Rule:
    def parse(text: str) -> int:
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return Rule(words=f"a whole number from {low} to {high}", parse=parse)


def _number(low: float, high: float, unit: str = "") -> Rule:
    def parse(text: str) -> float:
        value = float(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return Rule(words=f"a number{unit} from {low:g} to {high:g}", parse=parse)


def _one_of(*choices: str) -> Rule:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError
        return text.lower()

    return Rule(words="one of " + ", ".join(choices), parse=parse)


def _named(words: str, pattern: str) -> Rule:
    def parse(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError
        return text

    return Rule(words=words, parse=parse)


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, OSError) as error:
        raise ValueError from error
    return text


def _existing_file(text: str) -> Path:
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise ValueError
    return path


_SWITCH = Rule(words="0 or 1", parse=lambda text: {"0": False, "1": True, "false": False, "true": True}[text.lower()])
_FILE = Rule(words="the path of an existing file", parse=_existing_file)
_ZONE = Rule(words="a time zone such as Europe/Berlin", parse=_zone)
_NAME = _named("letters, digits, '-' or '_'", r"[A-Za-z0-9][A-Za-z0-9_-]*")
_WORDS = _named('1 to 64 characters in one line, without < > & "', r'[^<>&"\x00-\x1f]{1,64}')
_IMAGE = _named("an image reference such as debian:bookworm-slim", r"[a-z0-9][A-Za-z0-9._/:@-]{0,254}")
_MODEL = _named("a model id such as claude-sonnet-4-5", r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,127}")


def _setting(
    variable: str, rule: Rule, default: object, meaning: str
) -> Any:  # dataclass fields are typed where they are declared
    return field(default=default, metadata={"variable": variable, "rule": rule, "meaning": meaning})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one host, checked. `variables` holds what plugins may ask for, secrets among it: it is never shown.

    `stored` is what the secret store holds, also where the environment has another value.
    """

    home: Path
    variables: Mapping[str, str] = field(repr=False)
    stored: Mapping[str, str] = field(default_factory=dict, repr=False)
    assistant_name: str = _setting("NANOCLAW_ASSISTANT_NAME", _WORDS, "Andy", "name of the main agent, made at the first start")
    provider: str = _setting("NANOCLAW_PROVIDER", _NAME, "auto", "model provider; auto takes the first one with a credential")
    model: str | None = _setting("NANOCLAW_MODEL", _MODEL, None, "model id; unset for Claude Code's own choice")
    model_silence: float = _setting(
        "NANOCLAW_MODEL_SILENCE", _number(1, 3600, " of seconds"), 180.0, "how long the provider may send nothing"
    )
    runtime: str = _setting("NANOCLAW_RUNTIME", _NAME, "docker", "container runtime")
    engine: str = _setting("NANOCLAW_ENGINE", _NAME, "claude", "agent harness inside the workers")
    base_image: str = _setting("NANOCLAW_BASE_IMAGE", _IMAGE, "debian:bookworm-slim", "what the worker image is built on")
    ca_bundle: Path | None = _setting("NANOCLAW_CA_BUNDLE", _FILE, None, "certificates for downloads while the image is built")
    max_turns: int = _setting("NANOCLAW_MAX_TURNS", _whole(1, 64), 5, "workers that work at the same time")
    max_memory: int = _setting(
        "NANOCLAW_MAX_MEMORY", _whole(0, 16777216), 0, "memory in MiB of all workers together; 0 for half of the machine's"
    )
    idle_timeout: float = _setting(
        "NANOCLAW_IDLE_TIMEOUT", _number(1, 86400, " of seconds"), 900.0, "how long a worker waits for the next message"
    )
    start_timeout: float = _setting(
        "NANOCLAW_START_TIMEOUT", _number(1, 600, " of seconds"), 60.0, "how long a worker may take to report"
    )
    worker_memory: int = _setting("NANOCLAW_WORKER_MEMORY", _whole(256, 262144), 2048, "memory of a worker in MiB")
    worker_cpus: float = _setting("NANOCLAW_WORKER_CPUS", _number(0.1, 256), 2.0, "cores of a worker")
    worker_pids: int = _setting("NANOCLAW_WORKER_PIDS", _whole(32, 32768), 512, "processes and threads of a worker")
    min_free_disk: int = _setting(
        "NANOCLAW_MIN_FREE_DISK", _whole(0, 1048576), 512, "room in MiB that the home's disk must have for a new turn"
    )
    max_file: int = _setting(
        "NANOCLAW_MAX_FILE", _whole(1, 65536), 50, "size in MiB of the largest file that is taken from a chat or sent to one"
    )
    max_workspace: int = _setting(
        "NANOCLAW_MAX_WORKSPACE",
        _whole(0, 16777216),
        20480,
        "size in MiB beyond which an agent's folder allows no new turn",
    )
    history_days: int = _setting(
        "NANOCLAW_HISTORY_DAYS", _whole(7, 36500), 30, "days for which messages that are done with are kept"
    )
    timezone: str = _setting("NANOCLAW_TIMEZONE", _ZONE, "", "time zone of times without one; the machine's by default")
    log_level: str = _setting("NANOCLAW_LOG_LEVEL", _one_of("debug", "info", "warning", "error"), "info", "least level logged")
    trace_plugins: bool = _setting("NANOCLAW_TRACE_PLUGINS", _SWITCH, False, "log every call of a plugin")
    refuse_real_models: bool = _setting("NANOCLAW_REFUSE_REAL_MODELS", _SWITCH, False, "reach models on this machine only")

    def secrets(self, fields: Iterable[SetupField] = ()) -> list[str]:
        """The values that are for nobody's eyes; `fields` are what plugins ask for."""
        return [*secrets_among(self.variables, fields), *self.stored.values()]


def load(environment: Mapping[str, str], folder: Path) -> Settings:
    """Read all settings; `folder` is where `.env` is looked for first.

    Raises:
        SettingInvalid: naming the variable, its value and its rule. HomeUnusable: the home's path cannot work, or its secrets
            cannot be read.
    """
    near = read_env_file(folder / ".env")
    home = _home({**near, **environment}.get("NANOCLAW_HOME", ""))
    stored = secrets.stored(home)
    return read(home, {**read_env_file(home / ".env"), **near, **stored, **environment}, stored)


def read(home: Path, variables: Mapping[str, str], stored: Mapping[str, str] | None = None) -> Settings:
    """The settings that `variables` mean, with what the secret store holds.

    Raises:
        SettingInvalid: naming the variable, its value and its rule.
    """
    chosen: dict[str, Any] = {}  # as diverse as the rules
    for item in fields(Settings):
        if "variable" in item.metadata and (text := variables.get(item.metadata["variable"], "").strip()):
            chosen[item.name] = _parse(item.metadata["variable"], item.metadata["rule"], text)
    chosen.setdefault("timezone", _machine_zone(variables.get("TZ", "")))
    return Settings(home=home, variables=variables, stored=stored or {}, **chosen)


def read_env_file(path: Path) -> dict[str, str]:
    """The assignments of a `.env` file: KEY=VALUE, optional quotes, `#` begins a comment line. A missing file is empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingInvalid(str(path), "unreadable", f"a readable UTF-8 file ({error})") from error
    found = [match for line in text.splitlines() if not line.lstrip().startswith("#") and (match := _LINE.match(line))]
    return {match[1]: _unquoted(match[2]) for match in found}


def write_env_file(path: Path, changes: Mapping[str, str]) -> None:
    """Set variables in a `.env` file, each where it stands or at the end; everything else in it stays as it is.

    Raises:
        ValueRefused: a value that no `.env` file can hold. HomeUnusable: the file cannot be written.
    """
    for name, value in changes.items():
        if not value.isprintable():
            raise ValueRefused(name, "it must be one line without control characters")
    path = path.resolve()  # the link stays a link
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines() if path.exists() else []
        left = dict(changes)
        for number, line in enumerate(lines):
            found = None if line.lstrip().startswith("#") else _LINE.match(line)
            if found and found[1] in changes:
                lines[number] = _assignment(found[1], changes[found[1]])
                left.pop(found[1], None)
        lines += [_assignment(name, value) for name, value in left.items()]
        replace_file(path, "".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise HomeUnusable(path.parent, f"{path.name} cannot be written ({error.strerror})") from error


def _assignment(name: str, value: str) -> str:
    return f"{name}={value}" if _unquoted(value.strip()) == value else f'{name}="{value}"'


def looks_secret(variable: str) -> bool:
    """Whether a variable's name says that its value is for nobody's eyes.

    >>> [name for name in ("ANTHROPIC_API_KEY", "TELEGRAM_TOKEN", "NANOCLAW_HOME") if looks_secret(name)]
    ['ANTHROPIC_API_KEY', 'TELEGRAM_TOKEN']
    """
    return _SECRET.search(variable.upper()) is not None


def secrets_among(variables: Mapping[str, str], fields: Iterable[SetupField] = ()) -> list[str]:
    """The values that are for nobody's eyes: of variables whose names say so, and of what plugins call secret."""
    named = {item.variable for item in fields if item.secret} | {name for name in variables if looks_secret(name)}
    return [variables[name] for name in named if variables.get(name)]


def mistakes(variables: Mapping[str, str], files: Iterable[Path], others: Iterable[str] = ()) -> list[str]:
    """What was meant as a setting and is none, a line each that shows no value.

    `files` are the `.env` files, `others` the variables of plugins. A line that is no assignment is left out, not refused: the
    folder's `.env` may belong to another program.
    """
    own, others = {row[0] for row in describe()}, set(others)
    found = [_unknown(name, own) for name in sorted(variables.keys() - own - others) if name.startswith("NANOCLAW_")]
    for file in dict.fromkeys(files):
        found += _misread(file)
        found += [_unknown(name, others, file) for name in read_env_file(file).keys() - others if _near(name, others)]
    return found


def _misread(file: Path) -> list[str]:
    try:
        lines = enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1)
    except (OSError, UnicodeDecodeError):
        return []
    wrong = [number for number, line in lines if line.strip() and not line.lstrip().startswith("#") and not _LINE.match(line)]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    return [f"Line {wrong[0]}{more} of {file} is not NAME=VALUE, and is left out."] if wrong else []


def _unknown(name: str, known: Iterable[str], file: Path | None = None) -> str:
    near = _near(name, known)
    hint = f"did you mean {near[0]}?" if near else "docs/settings.md lists them."
    return f"{name}{f' in {file}' if file else ''} is no setting: {hint}"


def _near(name: str, known: Iterable[str]) -> list[str]:
    return get_close_matches(name, known, n=1, cutoff=0.85)


def describe() -> list[tuple[str, str, str, str]]:
    """Variable, default, rule and meaning of every setting, for documentation."""
    rows = [("NANOCLAW_HOME", str(_home("")), "an absolute path, at most 60 bytes long", "folder of all state")]
    for item in fields(Settings):
        if "variable" in item.metadata:
            default = "" if item.default in (None, MISSING) else str(item.default)
            rows.append((item.metadata["variable"], default, item.metadata["rule"].words, item.metadata["meaning"]))
    return rows


def _parse(variable: str, rule: Rule, text: str) -> object:
    try:
        return rule.parse(text)
    except (ValueError, KeyError) as error:
        raise SettingInvalid(variable, text, rule.words) from error


def _unquoted(text: str) -> str:
    if len(text) >= 2 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1]
    return text.split(" #", 1)[0].rstrip()


def _home(text: str) -> Path:
    path = Path(text).expanduser() if text else platformdirs.user_data_path("nanoclaw")
    if not path.is_absolute():
        raise HomeUnusable(path, "NANOCLAW_HOME must be an absolute path")
    # A Unix socket's path holds 107 bytes at most; below the home follows /workers/<13 characters>/gateway.sock.
    if len(os.fsencode(path)) > 60:
        raise HomeUnusable(path, "its path is longer than 60 bytes, too long for the sockets below it")
    return path


def _machine_zone(variable: str) -> str:
    """The machine's time zone by name: TZ, or what /etc/localtime links to, or UTC."""
    linked = str(Path("/etc/localtime").resolve()).partition("/zoneinfo/")[2]
    for name in filter(None, (variable.lstrip(":"), linked)):
        try:
            return _zone(name)
        except ValueError:
            continue
    return "UTC"
