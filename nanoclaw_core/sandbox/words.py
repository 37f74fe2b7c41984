"""What Docker and its SDK say, in plain words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from nanoclaw_core.errors import RuntimeUnavailable

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")


def lines_of(item: Mapping[str, Any]) -> list[str]:
    """The lines that a person wants to see of one item of a build's or a pull's output."""
    text = item.get("stream") or ("" if item.get("progressDetail") else item.get("status", ""))
    plain = [_COLOURS.sub("", line).strip() for line in text.splitlines()]
    return [line for line in plain if line]


def reason_after(before: str, line: str) -> str:
    """The last line so far that could say why the running step fails."""
    if line.startswith("Step "):
        return ""
    return before if line.startswith(("--->", "Removing intermediate")) else line


def unreachable(error: str, timeout: int) -> RuntimeUnavailable:
    """Docker's nested errors only tell their cause in their text."""
    if "PermissionError" in error:
        advice = "Run `sudo usermod -aG docker $USER`, then log in again."
        return RuntimeUnavailable("Docker", "this user may not use its socket", advice)
    if "FileNotFoundError" in error:
        return RuntimeUnavailable("Docker", "its socket is not there")
    if "ConnectionRefusedError" in error:
        return RuntimeUnavailable("Docker", "nobody listens on its socket")
    if "timed out" in error.lower():
        return RuntimeUnavailable("Docker", f"no answer within {timeout} s")
    return RuntimeUnavailable("Docker", error)
