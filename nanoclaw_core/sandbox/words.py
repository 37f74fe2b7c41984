"""What Docker and its SDK say, in plain words."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Mapping
from typing import Any, Final

from nanoclaw_core.errors import RuntimeUnavailable

_COLOURS: Final = re.compile(r"\x1b\[[0-9;]*m")
_STANDARD_ERROR: Final = "\x1b[91m"  # how the builder marks it

START: Final = "Start it: `sudo systemctl start docker`, or open Docker Desktop. NanoClaw goes on by itself."


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
        return _nowhere()
    if isinstance(error, ConnectionRefusedError):
        return RuntimeUnavailable("Docker", "nobody listens on its socket", START)
    if isinstance(error, TimeoutError) or "timed out" in str(error).lower():  # the SDK's own errors share no class
        return RuntimeUnavailable("Docker", f"no answer within {timeout:g} s")
    return RuntimeUnavailable("Docker", str(error))


def _nowhere() -> RuntimeUnavailable:
    """There is no socket: because Docker is not there, because it does not run, or because somebody named the wrong place."""
    if address := os.environ.get("DOCKER_HOST"):
        return RuntimeUnavailable("Docker", f"nothing is at DOCKER_HOST={address}", "Correct DOCKER_HOST, or unset it.")
    if shutil.which("docker") is None:
        return RuntimeUnavailable("Docker", "it is not installed", "Install it: https://docs.docker.com/engine/install/")
    return RuntimeUnavailable("Docker", "it is installed, but not started", START)
