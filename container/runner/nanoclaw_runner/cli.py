"""How Claude Code is started: its options, its arguments and its environment, equal to what the SDK would produce."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from uuid import UUID

from nanoclaw_runner.engines import EngineFailed, Place
from nanoclaw_runner.files import write_whole
from nanoclaw_runner.records import Misfit

#: Tools that need a person at the keyboard, a timer of Claude Code's own (the host keeps the tasks), or the internet.
DISALLOWED: Final = (
    "AskUserQuestion",
    "CronCreate",
    "CronDelete",
    "CronList",
    "EnterPlanMode",
    "EnterWorktree",
    "ExitPlanMode",
    "ExitWorktree",
    "ScheduleWakeup",
    "WebFetch",
    "WebSearch",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaudeOptions:
    """The `options` of the launch document for this engine. `conversation` is a UUID."""

    conversation: str
    instructions: str = ""
    model: str | None = None
    resume_interrupted: bool = True
    resume_prompt: str = ""
    stream: bool = False

    def __post_init__(self) -> None:
        try:
            UUID(self.conversation)
        except ValueError as error:
            raise Misfit("options.conversation must be a UUID") from error


def find_claude() -> tuple[Path, str]:
    """The Claude Code that the SDK brings, and its version, found without importing the SDK.

    Raises:
        EngineFailed: the SDK or its program is missing.
    """
    spec = find_spec("claude_agent_sdk")
    if spec is None or not spec.submodule_search_locations:
        raise EngineFailed("claude-agent-sdk is not installed in this image")
    program = Path(spec.submodule_search_locations[0], "_bundled", "claude")
    if not program.is_file():
        raise EngineFailed(f"claude-agent-sdk brought no program at {program}")
    version = program.with_name("claude.version")
    return program, version.read_text().split()[0] if version.is_file() else "of an unknown version"


def arguments(options: ClaudeOptions, place: Place, *, resume: bool) -> list[str]:
    """What follows the program's name. The instructions go through a file: one argument holds 128 KiB at most."""
    # alwaysLoad: its tools are offered from the first turn on, without Claude Code's search for tools.
    server = {"type": "http", "url": f"{place.gateway}/mcp", "alwaysLoad": True}
    words = ["--output-format", "stream-json", "--verbose", "--input-format", "stream-json"]
    words += ["--permission-mode", "bypassPermissions", "--allow-dangerously-skip-permissions"]
    words += ["--disallowedTools", ",".join(DISALLOWED)]
    # No file of the agent configures its engine; CLAUDE.md is read all the same, through --add-dir. What Claude Code itself
    # takes for the environment of its settings is said here once more, above everything else (docs/decisions/0006).
    words += ["--setting-sources=", f"--add-dir={place.workspace}"]
    words += ["--settings", json.dumps({"env": environment(options, place, resume=resume)})]
    words += ["--strict-mcp-config", "--mcp-config", json.dumps({"mcpServers": {"nanoclaw": server}})]
    words.append(f"--resume={options.conversation}" if resume else f"--session-id={options.conversation}")
    if options.instructions:
        words += ["--append-system-prompt-file", str(_write_instructions(place.state, options.instructions))]
    if options.stream:
        words.append("--include-partial-messages")
    if options.model:
        words += ["--model", options.model]
    return words


def environment(options: ClaudeOptions, place: Place, *, resume: bool) -> dict[str, str]:
    """Everything that Claude Code and the agent's commands find in their environment. Nothing else is inherited."""
    found = {
        "PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin"),
        "HOME": str(place.state),
        "LANG": "C.UTF-8",
        "ANTHROPIC_BASE_URL": place.gateway,
        "ANTHROPIC_API_KEY": "nanoclaw-placeholder",  # the host puts the real one in
        "NO_PROXY": "127.0.0.1",
        "CLAUDE_CODE_ADDITIONAL_DIRECTORIES_CLAUDE_MD": "1",
        "CLAUDE_SECURESTORAGE_CONFIG_DIR": "/nonexistent",  # a FIFO for ~/.claude/.credentials.json would halt it at once
        "CLAUDE_CODE_ENTRYPOINT": "sdk-py",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    if os.getuid() == 0:
        found["IS_SANDBOX"] = "1"  # else Claude Code refuses to work as root, also where root is nobody (user namespaces)
    if zone := os.environ.get("TZ"):
        found["TZ"] = zone
    if resume and options.resume_interrupted:
        found["CLAUDE_CODE_RESUME_INTERRUPTED_TURN"] = "1"
        if options.resume_prompt:  # instead of "Continue from where you left off."; a changed system prompt is not read again
            found["CLAUDE_CODE_RESUME_PROMPT"] = options.resume_prompt
    return found


def _write_instructions(state: Path, instructions: str) -> Path:
    path = state / ".nanoclaw" / "instructions.md"
    write_whole(path, [instructions.encode("utf-8", "replace")])
    return path
