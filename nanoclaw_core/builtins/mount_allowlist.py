"""The owner's allowlist of folders that may be mounted, in NanoClaw's format: a mount policy like any plugin's."""

from __future__ import annotations

import json
import os
import re
import shlex
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import translate
from pathlib import Path
from threading import Lock
from typing import Any, Final, TypeAlias

import msgspec
import structlog

from nanoclaw_core.errors import NanoClawError
from nanoclaw_core.hookspecs import hookimpl
from nanoclaw_core.models import MountDecision, MountRequest, MountVerdict
from nanoclaw_core.ports import MountPolicy
from nanoclaw_core.replacement import replace_file
from nanoclaw_core.sandbox.places import policy_folder

log = structlog.get_logger()

FILE: Final = "mount-allowlist.json"
_LARGEST: Final = 1024 * 1024

#: Names of files and folders that hold credentials, as globs: NanoClaw's, and those that its parts of names were meant for.
BLOCKED: Final = (
    *(".ssh", ".gnupg", ".gpg", ".aws", ".azure", ".gcloud", ".kube", ".docker", ".password-store"),
    *(".netrc", ".npmrc", ".pypirc", ".pgpass", ".git-credentials"),
    *("credentials", "credentials.json", "credentials.csv", ".credentials*", ".env", ".env.*"),
    *(".secret", ".secrets", "secrets.json", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"),
    *("private_key", "private_key.*", "*_private_key", "*_private_key.*"),
)
_HARMLESS: Final = frozenset([".env.example", ".env.sample", ".env.template", ".env.dist"])

_Stamp: TypeAlias = tuple[int, ...]


class AllowlistUnusable(Exception):
    """The file does not say what may be mounted; the text says why."""


class AllowlistUnwritable(NanoClawError):
    """Nothing was written into the allowlist."""

    exit_code = 3

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} was left as it is: {reason}. Mend that, or edit it yourself.")


class Root(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """A folder in which mounts may lie."""

    path: str
    allow_read_write: bool
    description: str = ""

    def place(self) -> Path | None:
        """Where it is, links resolved; None where it is not there, is no absolute path, or is all of a person's files."""
        try:
            place = Path(self.path).expanduser().resolve(strict=True)
            home = Path("~").expanduser().resolve()
        except (OSError, RuntimeError, ValueError):
            return None
        is_named = Path(self.path).expanduser().is_absolute()
        return place if is_named and place.is_dir() and not home.is_relative_to(place) else None


class Rules(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What the file says. Without `nonMainReadOnly`, only the main agent may write."""

    allowed_roots: list[Root]
    blocked_patterns: list[str]
    non_main_read_only: bool = True

    def idle_roots(self) -> list[str]:
        """The roots that allow nothing."""
        return [root.path for root in self.allowed_roots if root.place() is None]


@dataclass(slots=True)
class Allowlist:
    """The file at `path`, read again when it has changed. One that has become unusable leaves the last good one in force."""

    path: Path
    warning: str = ""
    _rules: Rules | None = None
    _stamp: _Stamp | None = None
    _lock: Lock = field(default_factory=Lock)

    def judge(self, request: MountRequest) -> MountVerdict:
        """See `MountPolicy`."""
        with self._lock:
            rules, warning = self._current(), self.warning
        if rules is None:
            return MountVerdict(
                decision=MountDecision.REFUSE, reason=warning or f"{self.path} is not there: {_advice(request)}"
            )
        decision, reason = _judged(rules, request)
        return MountVerdict(decision=decision, reason=reason, warning=warning)

    def _current(self) -> Rules | None:
        try:
            stamp = _stamp(self.path)
            if stamp != self._stamp or self.warning:
                self._rules, self._stamp, self.warning = read_rules(self.path), stamp, ""
        except FileNotFoundError:
            self._rules, self._stamp, self.warning = None, None, ""
        except AllowlistUnusable as error:
            old = "; what it said before still holds" if self._rules else ""
            warning = f"{self.path} cannot be used: {error}{old}"
            if warning != self.warning:
                log.warning("mounts.allowlist_unusable", reason=warning)
            self.warning = warning
        return self._rules


def allowlist_path() -> Path:
    return policy_folder() / FILE


def read_rules(path: Path) -> Rules:
    """What the file at `path` says.

    Raises:
        FileNotFoundError: there is none. AllowlistUnusable: others can write it, or it is not in the format.
    """
    data = _read(path)
    try:
        rules = msgspec.json.decode(data, type=Rules)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise AllowlistUnusable(f"it is not in the format: {error}") from error
    if not all(pattern.strip() for pattern in rules.blocked_patterns):
        raise AllowlistUnusable("a blocked pattern is empty")
    return rules


def allow_root(path: Path, root: Path, *, writable: bool, description: str) -> None:
    """Write `root` into the file, or change whether it may be written; whatever else stands there is kept.

    Raises:
        AllowlistUnwritable: the file is not in the format, cannot be written, or `root` would allow nothing.
    """
    if Root(path=str(root), allow_read_write=writable).place() is None:
        raise AllowlistUnwritable(path, f"{root} is no folder, or holds your whole home folder")
    document: dict[str, Any] = {"allowedRoots": [], "blockedPatterns": [], "nonMainReadOnly": True}  # Any: JSON
    try:
        read_rules(path)
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        pass
    except AllowlistUnusable as error:
        raise AllowlistUnwritable(path, str(error)) from error
    entry = {"path": str(root), "allowReadWrite": writable, **({"description": description} if description else {})}
    roots = document["allowedRoots"]
    known = next((number for number, each in enumerate(roots) if Path(each["path"]).expanduser() == root), None)
    if known is None:
        roots.append(entry)
    else:
        roots[known] |= entry
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_file(path.resolve(), json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n")
    except OSError as error:
        raise AllowlistUnwritable(path, error.strerror or str(error)) from error


def _read(path: Path) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            _require_private(os.fstat(descriptor), "it")
            _require_private(path.parent.stat(), "its folder")
            data = os.read(descriptor, _LARGEST + 1)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AllowlistUnusable(f"it cannot be read ({error.strerror})") from error
    if len(data) > _LARGEST:
        raise AllowlistUnusable("it is larger than 1 MiB")
    return data


def _require_private(found: os.stat_result, what: str) -> None:
    if what == "it" and not stat.S_ISREG(found.st_mode):
        raise AllowlistUnusable("it is no plain file")
    if found.st_uid not in (0, os.getuid()):
        raise AllowlistUnusable(f"{what} belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise AllowlistUnusable(f"others can write {what}; `chmod go-w` takes that from them")


def _stamp(path: Path) -> _Stamp:
    try:
        file, folder = path.stat(), path.parent.stat()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise AllowlistUnusable(f"it cannot be read ({error.strerror})") from error
    return file.st_dev, file.st_ino, file.st_size, file.st_mtime_ns, file.st_ctime_ns, folder.st_ctime_ns


def _judged(rules: Rules, request: MountRequest) -> tuple[MountDecision, str]:
    if found := _blocked(rules, request):
        return MountDecision.REFUSE, found
    roots = [(place, root) for root in rules.allowed_roots if (place := root.place()) and request.source.is_relative_to(place)]
    if not roots:
        return MountDecision.REFUSE, f"it is in none of the allowed roots: {_advice(request)}"
    place, root = max(roots, key=lambda found: len(found[0].parts))
    if request.read_only:
        return MountDecision.ALLOW, ""
    if not root.allow_read_write:
        return MountDecision.NARROW, f"the allowed root {str(place)!r} is for reading only"
    if rules.non_main_read_only and not request.agent_group.is_main:
        return MountDecision.NARROW, "only the main agent may write (nonMainReadOnly)"
    return MountDecision.ALLOW, ""


def _blocked(rules: Rules, request: MountRequest) -> str:
    """Which name is blocked. Case never counts: a file system may not tell it apart."""
    matches = _Matcher((*BLOCKED, *rules.blocked_patterns))
    for part in request.source.parts:
        if pattern := matches(part):
            return f"the name {part!r} in its path is blocked ({pattern})"
    for name, place in request.below.items():
        if pattern := matches(name):
            return f"it holds {place!r}, a name that is blocked ({pattern})"
    return ""


class _Matcher:
    """Says which glob a whole name matches; '' for none."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._plain = {pattern.casefold(): pattern for pattern in patterns}
        globs = [pattern for pattern in patterns if re.search(r"[*?\[]", pattern)]
        self._globs = [(re.compile(translate(pattern.casefold())), pattern) for pattern in globs]
        self._any = re.compile("|".join(f"(?:{glob.pattern})" for glob, _ in self._globs) or r"(?!)")

    def __call__(self, name: str) -> str:
        folded = name.casefold()
        if folded in self._plain:
            return self._plain[folded]
        if folded in _HARMLESS or not self._any.match(folded):
            return ""
        return next(pattern for glob, pattern in self._globs if glob.match(folded))


def _advice(request: MountRequest) -> str:
    return f"`nanoclaw mount allow {shlex.quote(str(request.source))}` puts it there"


@hookimpl
def nanoclaw_mount_policies() -> Iterable[MountPolicy]:
    summary = "Allows what the owner's mount-allowlist.json allows"
    return [MountPolicy(name="mount-allowlist", summary=summary, judge=Allowlist(allowlist_path()).judge)]
