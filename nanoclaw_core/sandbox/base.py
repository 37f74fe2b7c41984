"""What the worker image is built on: an image of the registry or, where none can be reached, one made of Debian packages."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import anyio
from anyio import to_thread
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from nanoclaw_core.errors import ImageBuildFailed
from nanoclaw_core.ports import Runtime

DEFAULT_BASE: Final = "debian:bookworm-slim"

_SILENCE: Final = 20.0  # seconds that a registry may say nothing


@runtime_checkable
class PullingRuntime(Protocol):
    """A runtime that can fetch images."""

    async def pull_image(self, tag: str, report: Callable[[str], None]) -> str | None:
        """Fetch an image and return None, or the reason why it cannot be had; `report` gets each line of progress."""


async def ensure_base(runtime: Runtime, base: str, script: Path, report: Callable[[str], None]) -> str:
    """Return the image to build on: `base` when it is there or can be fetched, else one made by `script` (base.sh).

    Raises:
        ImageBuildFailed: neither works.
    """
    if await runtime.has_image(base):
        return base
    reason = await _pull(runtime, base, report)
    if reason is None:
        return base
    if base != DEFAULT_BASE:  # somebody chose it: nothing else will do
        raise ImageBuildFailed(base, f"it is not here and cannot be fetched ({reason})")
    digest = hashlib.sha256(await to_thread.run_sync(script.read_bytes)).hexdigest()
    own = f"nanoclaw-base:bookworm-{digest[:12]}"
    if not await runtime.has_image(own):
        report(f"{base} is not here and cannot be fetched ({reason}).")
        report("Making a base out of Debian packages instead; this takes about a minute.")
        await _make(runtime, own, script, report)
    return own


async def _pull(runtime: Runtime, base: str, report: Callable[[str], None]) -> str | None:
    """Fetch `base`; return why that failed."""
    if not isinstance(runtime, PullingRuntime):
        return "this runtime fetches no images"

    def heard(line: str) -> None:
        scope.deadline = anyio.current_time() + _SILENCE * 10
        report(line)

    with anyio.move_on_after(_SILENCE) as scope:
        return await runtime.pull_image(base, heard)
    return "the registry does not answer"


async def _make(runtime: Runtime, tag: str, script: Path, report: Callable[[str], None]) -> None:
    async with anyio.TemporaryDirectory(prefix="nanoclaw-base-") as folder:
        archive = f"{folder}/base.tar"
        async with await anyio.open_process(["sh", str(script), archive], stderr=subprocess.STDOUT) as process:
            last = await _follow(process, report)
        if process.returncode != 0:
            raise ImageBuildFailed(tag, last or f"{script.name} ended with code {process.returncode}")
        await runtime.import_image(tag, archive)


async def _follow(process: Process, report: Callable[[str], None]) -> str:
    """Report what `process` writes until it ends; return the last line."""
    assert process.stdout is not None  # noqa: S101  # opened with a pipe
    last = rest = ""
    async for text in TextReceiveStream(process.stdout, errors="replace"):
        *lines, rest = (rest + text).replace("\r", "\n").split("\n")
        for line in filter(None, map(str.strip, lines)):
            report(last := line)
    await process.wait()
    return rest.strip() or last
