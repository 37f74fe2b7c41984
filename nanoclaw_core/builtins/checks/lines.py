"""How a check says what it found."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from nanoclaw_core.errors import DatabaseBroken, HomeUnusable
from nanoclaw_core.ports import CheckResult, CheckStatus
from nanoclaw_core.store.inspection import Overview, overview

_UNITS: Final = ("KiB", "MiB", "GiB", "TiB")

Mend = Callable[[], Awaitable[str]]


def ok(name: str, reason: str, fix: str = "") -> CheckResult:
    return CheckResult(name=name, status=CheckStatus.OK, reason=reason, fix=fix)


def warn(name: str, reason: str, fix: str = "", mend: Mend | None = None) -> CheckResult:
    return CheckResult(name=name, status=CheckStatus.WARN, reason=reason, fix=fix, mend=mend)


def fail(name: str, reason: str, fix: str = "", mend: Mend | None = None) -> CheckResult:
    return CheckResult(name=name, status=CheckStatus.FAIL, reason=reason, fix=fix, mend=mend)


def known(home: Path) -> Overview | None:
    """What the central database says of `home`; None where it cannot be read, which is the line `database`'s to say. Blocks."""
    try:
        return overview(home / "nanoclaw.db")
    except (DatabaseBroken, HomeUnusable):
        return None


def size(count: float) -> str:
    """Bytes as people say it.

    >>> size(512), size(2_500_000), size(7_300_000_000)
    ('512 B', '2.4 MiB', '6.8 GiB')
    """
    if count < 1024:
        return f"{count:.0f} B"
    power = min(int(math.log(count, 1024)), len(_UNITS))
    return f"{count / 1024**power:.1f} {_UNITS[power - 1]}"
