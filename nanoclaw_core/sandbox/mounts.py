"""Decides which of the owner's folders a worker gets: what may never be, what the policies say, and what stays read-only."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeAlias

from nanoclaw_core.errors import MountRefused
from nanoclaw_core.models import AgentGroup, AgentMount, Mount, MountDecision, MountRequest, MountVerdict
from nanoclaw_core.sandbox.places import forbidden_places, program_places, relation, trespass
from nanoclaw_core.sandbox.sources import Contents, Identity, Source, held, look_through
from nanoclaw_core.sandbox.verdicts import combined

Judge: TypeAlias = Callable[[MountRequest], Mapping[str, MountVerdict]]
"""What each policy says of a mount, by the policy's name."""
_Owned: TypeAlias = tuple[AgentGroup, AgentMount]

#: What programs of the owner's run, or take commands from, when they are started in a folder that has it. In a writable mount
#: these are shown read-only, whole: of what is in `.git`, config and hooks are not all that can be made to run something.
GUARDED: Final = frozenset(
    [
        ".git",
        ".gitmodules",
        ".githooks",
        ".husky",
        ".pre-commit-config.yaml",
        ".envrc",
        ".mise.toml",
        ".vscode",
        ".idea",
        ".cursor",
        ".devcontainer",
        ".claude",
        ".mcp.json",
    ]
)

_PASSED: Final = {MountDecision.ALLOW: True, MountDecision.NARROW: None, MountDecision.REFUSE: False}
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MOUNTINFO: Final = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one rule says: `passed` is None where it allows less than was asked for."""

    rule: str
    passed: bool | None
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A mount as it is to be made, and what the source was when it was judged."""

    mount: Mount
    identity: Identity


@dataclass(slots=True, kw_only=True)
class Judgement:
    """What the rules say of one wish, in the order in which they were asked. Without `mounts` it is refused."""

    wish: AgentMount
    findings: list[Finding] = field(default_factory=list)
    mounts: tuple[Seen, ...] = ()
    warnings: tuple[str, ...] = ()

    def find(self, rule: str, passed: bool | None, words: str) -> None:
        self.findings.append(Finding(rule=rule, passed=passed, words=words))

    @property
    def refusal(self) -> str:
        """Why it is refused; '' where it is not."""
        return "; ".join(finding.words for finding in self.findings if finding.passed is False)

    @property
    def read_only(self) -> bool:
        return all(seen.mount.read_only for seen in self.mounts)

    @property
    def narrowed(self) -> str:
        """Why less is allowed than was asked for."""
        return "; ".join(finding.words for finding in self.findings if finding.passed is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountRules:
    """All rules. `home` is NanoClaw's own, `judge` asks the policies, `user` is the workers' 'uid:gid', where that is known."""

    home: Path
    judge: Judge
    user: str = ""

    def judged(self, agent: AgentGroup, wish: AgentMount, others: Iterable[_Owned]) -> Judgement:
        """Look at `wish` of `agent` beside the mounts that all agents have. It blocks, for seconds where a folder is large."""
        judgement = Judgement(wish=wish)
        try:
            with held(wish.source) as source:
                judgement.find("path", True, f"{'a folder' if source.is_folder else 'a plain file'}, reached without any link")
                self._look_at_place(judgement, source, agent, [other for other in others if other[1].id != wish.id])
                if not judgement.refusal:
                    self._look_inside(judgement, source, agent)
        except MountRefused as refused:
            judgement.find("contents" if judgement.findings else "path", False, refused.reason)
        return judgement

    def _look_at_place(self, judgement: Judgement, source: Source, agent: AgentGroup, others: Sequence[_Owned]) -> None:
        wish = judgement.wish
        rules = (
            ("name", _misnamed(wish.name), f"it will be {wish.target}"),
            ("place", trespass(source, forbidden_places(self.home)), "no place that is never mounted"),
            ("file systems", _mounted_below(source.path), "no other is mounted in it"),
            ("overlap", _overlap(source, agent, wish, others), "with no other mount"),
        )
        for rule, trouble, otherwise in rules:
            judgement.find(rule, not trouble, trouble or otherwise)

    def _look_inside(self, judgement: Judgement, source: Source, agent: AgentGroup) -> None:
        wish = judgement.wish
        contents = look_through(source) if source.is_folder else Contents(names={})
        judgement.find("contents", True, f"looked through, {len(contents.names):,} different names")
        request = MountRequest(
            agent_group=agent, source=source.path, target=wish.target, read_only=wish.read_only, below=contents.names
        )
        verdicts = self.judge(request)
        verdict = combined(verdicts)
        judgement.warnings = tuple(each.warning for each in verdicts.values() if each.warning)
        for name, each in verdicts.items():
            judgement.find(name, _PASSED[each.decision], each.reason or "allowed")
        if not verdicts:
            judgement.find("policies", False, verdict.reason)
        if verdict.decision is not MountDecision.REFUSE:
            judgement.mounts = self._mounts(judgement, source, contents, verdict.decision is MountDecision.ALLOW)

    def _mounts(self, judgement: Judgement, source: Source, contents: Contents, is_whole: bool) -> tuple[Seen, ...]:
        """The folder, and over it what stays read-only where the rest may be written."""
        wish = judgement.wish
        may_write = is_whole and not wish.read_only
        guarded = _guarded(source) if may_write else {}
        if may_write and (reason := _unwritable(source, contents, guarded)):
            judgement.find("writing", None, reason)
            may_write, guarded = False, {}
        if guarded:
            judgement.find("writing", True, f"read-only in it: {', '.join(guarded)}")
        whole = Mount(source=source.path, target=wish.target, read_only=not may_write)
        if trouble := _closed_to(self.user, source, may_write=may_write):
            judgement.find("user", None, trouble)
        masks = [_mask(source, wish, name, found) for name, found in guarded.items()]
        return (Seen(mount=whole, identity=source.identity), *masks)


def default_name(source: Path) -> str:
    """What a mount is called where nobody says.

    >>> default_name(Path("/srv/My Notes")), default_name(Path("/srv/.config"))
    ('My-Notes', 'config')
    """
    return re.sub(r"[^A-Za-z0-9._-]+", "-", source.name).strip("-._")[:64] or "folder"


def _misnamed(name: str) -> str:
    if _NAME.fullmatch(name):
        return ""
    return f"{name!r} cannot be its name: 1 to 64 letters, digits, '.', '_' and '-', beginning with a letter or digit"


def _mounted_below(path: Path) -> str:
    """Other file systems in a folder are not looked through, and a read-only mount need not make them read-only."""
    try:
        lines = _MOUNTINFO.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return ""  # no Linux: Docker's virtual machine sees none of them
    points = (re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split(" ")[4]) for line in lines)
    found = next((point for point in points if Path(point) != path and Path(point).is_relative_to(path)), None)
    return f"another file system is mounted in it, at {found!r}" if found else ""


def _overlap(source: Source, agent: AgentGroup, wish: AgentMount, others: Iterable[_Owned]) -> str:
    """An agent sees nothing twice, and nothing that another agent could exchange: what lies below a folder it can write."""
    for owner, other in others:
        found = relation(source, other.source)
        if owner.id == agent.id and other.name.lower() == wish.name.lower():
            return f"{agent.name} has a mount called {other.name} already"
        if owner.id == agent.id and found:
            return f"it {found} the mount {other.name} of the same agent ({other.source})"
        if (found == "is inside" and not other.read_only) or (found == "holds" and not wish.read_only):
            return f"it {found} the mount {other.name} of {owner.name} ({other.source}), and the outer one is writable"
    return ""


def _unwritable(source: Source, contents: Contents, guarded: Mapping[str, os.stat_result]) -> str:
    if found := trespass(source, program_places()):
        return f"{found}, so it is read-only"
    if contents.repositories:
        return (
            f"there is a git repository below it ({contents.repositories[0]!r}), so it is read-only: an agent could have "
            "commands run by git; mount the repository itself"
        )
    if links := [name for name, found in guarded.items() if stat.S_ISLNK(found.st_mode)]:
        return f"{links[0]!r} in it is a link and could be exchanged, so it is read-only"
    return ""


def _closed_to(user: str, source: Source, *, may_write: bool) -> str:
    """What the file system does not let the workers do: where the host is root, they have a user of their own."""
    if not user:
        return ""
    uid, gid = map(int, user.split(":"))
    found = os.fstat(source.descriptor)
    shift = 6 if found.st_uid == uid else 3 if found.st_gid == gid else 0
    need = (4 | (1 if source.is_folder else 0)) | (2 if may_write else 0)
    if (found.st_mode >> shift) & need == need:
        return ""
    do = "write" if (found.st_mode >> shift) & need & 5 == need & 5 else "read"
    return f"it may be mounted, but the workers' user {uid} has no right to {do} it (see `ls -ld`)"


def _guarded(source: Source) -> dict[str, os.stat_result]:
    """What is guarded and lies directly in the folder."""
    if not source.is_folder:
        return {}
    descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=source.descriptor)
    try:
        with os.scandir(descriptor) as entries:
            names = sorted(entry.name for entry in entries if entry.name.lower() in GUARDED)
        return {name: os.stat(name, dir_fd=descriptor, follow_symlinks=False) for name in names}
    except OSError as error:
        raise MountRefused(source.path, f"it changes while it is looked at ({error.strerror})") from error
    finally:
        os.close(descriptor)


def _mask(source: Source, wish: AgentMount, name: str, found: os.stat_result) -> Seen:
    mount = Mount(source=source.path / name, target=f"{wish.target}/{name}")
    return Seen(mount=mount, identity=(found.st_dev, found.st_ino))
