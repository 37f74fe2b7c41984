"""The home: who can read it, whether it can be written, how much room is left, how large the logs are."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

from anyio import to_thread

from nanoclaw_core import secrets
from nanoclaw_core.builtins.checks.lines import fail, ok, size, warn
from nanoclaw_core.disk import free_bytes
from nanoclaw_core.ports import CheckContext, CheckResult
from nanoclaw_core.settings import looks_secret, read, read_env_file

_MIB = 1024**2
_LEAST = 50  # MiB that the database needs, whatever NANOCLAW_MIN_FREE_DISK says
_LARGE_LOGS = 500 * 1024**2
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


async def check(context: CheckContext) -> AsyncIterator[CheckResult]:
    for look in (_home, _env_files, _secrets, _disk, _logs):
        for line in await to_thread.run_sync(look, context, abandon_on_cancel=True):
            yield line


def _home(context: CheckContext) -> list[CheckResult]:
    home = context.home
    if not home.exists():
        return [ok("home", f"{home} is not there yet; the first start makes it")]
    if not os.access(home, os.R_OK | os.W_OK | os.X_OK):
        whose = "it belongs to another user" if home.stat().st_uid != os.getuid() else "this user may not write it"
        return [fail("home", f"{home} cannot be used: {whose}", f"`sudo chown -R $USER {home}`, or set NANOCLAW_HOME")]
    if home.stat().st_mode & _OTHERS:
        chmod = partial(_make_private, home, 0o700)
        return [fail("home", f"other users can enter {home}", f"`chmod 700 {home}`", chmod)]
    return [ok("home", f"{home}, for its owner alone")]


def _env_files(context: CheckContext) -> list[CheckResult]:
    """Those with secrets must be for their owner alone."""
    lines = []
    for file in dict.fromkeys((Path.cwd() / ".env", context.home / ".env")):
        if file.is_file() and file.stat().st_mode & _OTHERS and any(map(looks_secret, read_env_file(file))):
            chmod = partial(_make_private, file, 0o600)
            lines.append(fail("secrets", f"other users can read {file}, which holds a secret", f"`chmod 600 {file}`", chmod))
    return lines


def _secrets(context: CheckContext) -> list[CheckResult]:
    """The secret store; its values are nobody's business here, only who can get at them."""
    if not (exposed := secrets.exposed(context.home)):
        return []
    mend = partial(_mend_secrets, context.home)
    names = ", ".join(str(path.relative_to(context.home)) for path in exposed)
    return [fail("secrets", f"other users have rights on {names}", f"`chmod -R go= {context.home / secrets.FOLDER}`", mend)]


async def _mend_secrets(home: Path) -> str:
    mended = await to_thread.run_sync(secrets.mend, home)
    return f"took the rights of others on {', '.join(str(path.relative_to(home)) for path in mended)}"


async def _make_private(path: Path, mode: int) -> str:
    await to_thread.run_sync(path.chmod, mode)
    return f"took the rights of others on {path}"


def _disk(context: CheckContext) -> list[CheckResult]:
    place = next(path for path in (context.home, *context.home.parents) if path.exists())
    least = read(context.home, context.variables).min_free_disk
    free, fix = free_bytes(place), f"free some space: `du -xh {place} | sort -h | tail`"
    said = f"{size(free)} are free on the disk of {place}"
    if free < max(least, _LEAST) * _MIB:
        return [fail("disk", f"only {said}; a turn is begun with {least} MiB at least", fix)]
    return [warn("disk", f"only {said}", fix) if free < 2 * least * _MIB else ok("disk", said)]


def _logs(context: CheckContext) -> list[CheckResult]:
    folder = context.home / "logs"
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    if not files:
        return []
    total = sum(path.stat().st_size for path in files)
    said = f"{folder}: {len(files)} files, {size(total)}; `nanoclaw logs` shows them"
    return [warn("logs", said, "delete what you do not need") if total > _LARGE_LOGS else ok("logs", said)]
