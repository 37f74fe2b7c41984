"""What every call of the model begins with, section by section: `make prompt` runs a host, a worker and Claude Code.

Needs Docker and the worker image. The model is a scripted one on this machine, so nothing is spent. Tokens are characters
divided by four, which is near enough.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio

from nanoclaw_core.ledger.prompt import SAID, sections
from nanoclaw_core.testing.scripted_model import ScriptedModel

#: Characters that the agent has written down.
MEMORY = 1000


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="ncp") as home:
        async with ScriptedModel() as model:
            environment = {"NANOCLAW_HOME": home, "ANTHROPIC_BASE_URL": model.url, "ANTHROPIC_API_KEY": "none"}
            try:
                await nanoclaw(environment, "chat", "--once", "hello")
                await nanoclaw(environment, "stop")
                await anyio.to_thread.run_sync(remember, Path(home))
                await nanoclaw(environment, "chat", "--once", "hello again")
            finally:
                await nanoclaw(environment, "stop")
            requests = [call.json for call in model.calls if call.json and call.json.get("tools")]
    show(requests[-1])


def remember(home: Path) -> None:
    for folder in (home / "groups").iterdir():
        (folder / "CLAUDE.md").write_text("x" * MEMORY)


async def nanoclaw(environment: dict[str, str], *words: str) -> None:
    command = [sys.executable, "-m", "nanoclaw_core.cli", *words]
    await anyio.run_process(command, env={**os.environ, **environment}, cwd=Path(tempfile.gettempdir()), stderr=subprocess.PIPE)


def show(request: dict[str, Any]) -> None:
    found = sections(request)
    rows = [*found.items(), ("**the fixed part**", sum(size for name, size in found.items() if name != SAID))]
    lines = [f"| {name} | {size:,} | {size // 4:,} |\n" for name, size in rows]
    sys.stdout.write("".join(("| section | characters | tokens, about |\n|---|---|---|\n", *lines)))


if __name__ == "__main__":
    anyio.run(main)
