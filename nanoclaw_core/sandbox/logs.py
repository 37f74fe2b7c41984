"""What dead workers wrote, kept for whoever looks for the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from anyio import to_thread

from nanoclaw_core.models import ContainerState
from nanoclaw_core.ports import Runtime

KEPT_BYTES: Final = 256 * 1024  # of one worker
KEPT_FILES: Final = 50


async def keep_output(runtime: Runtime, container: ContainerState, folder: Path) -> Path:
    """Write the end of a container's output to `folder`/NAME.log and return that path; the oldest files beyond 50 go.

    Raises:
        RuntimeUnavailable: the output cannot be read now.
    """
    output = await runtime.output(container.id, KEPT_BYTES)
    return await to_thread.run_sync(_write, folder, f"{container.name}.log", output)


def _write(folder: Path, name: str, output: bytes) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    path.touch(mode=0o600)
    path.write_bytes(output)
    others = [file for file in folder.glob("*.log") if file != path]  # this one stays also when the clock was set back
    newest_first = sorted(others, key=lambda file: file.stat().st_mtime_ns, reverse=True)
    for old in newest_first[KEPT_FILES - 1 :]:
        old.unlink(missing_ok=True)
    return path
