"""What Docker and its SDK say, in plain words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from nanoclaw_core.errors import RuntimeUnavailable

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_STANDARD_ERROR: Final = "\x1b[91m"  # how the builder marks it


class Output:
    """What a build or a pull says, as it comes."""

    def __init__(self) -> None:
        self._said = ""
        self._complained = ""

    @property
    def reason(self) -> str:
        """The line that best says why the running step failed: its last one on standard error, else its last one."""
        return self._complained or self._said

    def hear(self, item: Mapping[str, Any]) -> list[str]:
        """The lines of `item` that a person wants to see."""
        text = item.get("stream") or ("" if item.get("progressDetail") else item.get("status", ""))
        lines = [line for part in _COLOURS.sub("", text).splitlines() if (line := part.strip())]
        for line in lines:
            if line.startswith("Step "):
                self._said = self._complained = ""
            elif _STANDARD_ERROR in text:
                self._complained = line
            elif not line.startswith(("--->", "Removing intermediate")):
                self._said = line
        return lines


def unreachable(error: Exception, timeout: float) -> RuntimeUnavailable:
    """Why the daemon could not be asked."""
    if isinstance(error, PermissionError):
        advice = "Run `sudo usermod -aG docker $USER`, then log in again."
        return RuntimeUnavailable("Docker", "this user may not use its socket", advice)
    if isinstance(error, FileNotFoundError):
        return RuntimeUnavailable("Docker", "its socket is not there")
    if isinstance(error, ConnectionRefusedError):
        return RuntimeUnavailable("Docker", "nobody listens on its socket")
    if isinstance(error, TimeoutError) or "timed out" in str(error).lower():  # the SDK's own errors share no class
        return RuntimeUnavailable("Docker", f"no answer within {timeout:g} s")
    return RuntimeUnavailable("Docker", str(error))
