"""The central database and the mailboxes: whether their files are sound."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from anyio import to_thread

from nanoclaw_core.builtins.checks.lines import fail, known, ok, warn
from nanoclaw_core.errors import DatabaseBroken, HomeUnusable
from nanoclaw_core.mailbox.inspection import fault
from nanoclaw_core.models import Session
from nanoclaw_core.ports import CheckContext, CheckResult
from nanoclaw_core.store.inspection import examine

_RESTORE: Final = (
    "`nanoclaw stop`, then `nanoclaw backup restore FILE --replace`; without a backup, move nanoclaw.db and the files beside "
    "it away, and the next start begins anew (what is in backups/ was copied before migrations alone, and is old)"
)
_NEWER: Final = "install that version again"
_BROKEN: Final = (
    "the host begins it anew by itself and keeps a copy; to have the old one, stop the host and restore that folder"
)
_MOST_MAILBOXES: Final = 200


async def check(context: CheckContext) -> AsyncIterator[CheckResult]:
    yield await to_thread.run_sync(_database, context.home / "nanoclaw.db", abandon_on_cancel=True)


def _database(path: Path) -> CheckResult:
    if not path.exists():
        return ok("database", "there is none yet; the first start makes it")
    try:
        found = examine(path)
    except DatabaseBroken as error:
        return fail("database", f"{path} is damaged: {error.reason}", _RESTORE)
    except HomeUnusable as error:
        return fail("database", str(error), f"`ls -l {path}` says whose it is")
    if found.fault:
        return fail("database", f"{path} is damaged: {found.fault}", _RESTORE)
    if found.is_newer:
        reason = f"NanoClaw {found.written_by} wrote it (schema {found.revision}), which this version cannot read"
        return fail("database", reason, "install that version again, or restore a backup")
    next_start = "" if found.is_current else "; the next start brings it up to date, and only then all of it can be read"
    return ok("database", f"sound, schema {found.revision or 'not made yet'}{next_start}")


async def check_mailboxes(context: CheckContext) -> AsyncIterator[CheckResult]:
    """Of the sessions that have work: the others' are looked at when somebody writes to them."""
    for copies in await to_thread.run_sync(_copies, context.home, abandon_on_cancel=True):
        yield copies
    found = await to_thread.run_sync(known, context.home, abandon_on_cancel=True)
    if found is None:
        return
    if not (marked := found.marked):
        yield ok("mailboxes", "no session has work")
        return
    looked_at = marked[:_MOST_MAILBOXES]
    faults = await to_thread.run_sync(_faults, context.home, looked_at, abandon_on_cancel=True)
    for reason in faults:
        yield fail("mailboxes", reason, _NEWER if "a later version" in reason else _BROKEN)
    sound = len(looked_at) - len(faults)
    line = f"{sound} of {len(marked)} mailboxes of sessions with work were looked at and are sound"
    yield ok("mailboxes", line) if sound == len(marked) else warn("mailboxes", line)


def _copies(home: Path) -> list[CheckResult]:
    """Of sessions that had to begin anew."""
    copies = sorted(home.glob("sessions/*/*/broken-*"), key=lambda path: path.name)
    if not copies:
        return []
    reason = (
        f"{len({path.parent for path in copies})} sessions have begun anew, because their files were broken; last: {copies[-1]}"
    )
    return [warn("mailboxes", reason, "look after the disk, if nobody touched these files; the copies go by themselves")]


def _faults(home: Path, sessions: Sequence[Session]) -> list[str]:
    return [reason for session in sessions if (reason := fault(home / session.folder))]
