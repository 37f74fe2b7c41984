"""The engine `claude`: one Claude Code process, driven through the Claude Agent SDK."""

from __future__ import annotations

import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import anyio
from anyio import to_thread
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from nanoclaw_runner.archive import before_compaction
from nanoclaw_runner.cli import ClaudeOptions, arguments, environment, find_claude
from nanoclaw_runner.engines import EngineFailed, Place, Reports
from nanoclaw_runner.home import settle
from nanoclaw_runner.records import record
from nanoclaw_runner.sdk import import_sdk
from nanoclaw_runner.transcript import Turn, find_transcript, read_turns

if TYPE_CHECKING:
    from claude_agent_sdk import AssistantMessage, ClaudeSDKClient, Message, ResultMessage, StreamEvent, SystemMessage

MAX_OUTSTANDING: Final = 64  # a result names no more uuids than that
KEPT_ERRORS: Final = 20  # lines
MAX_ERROR_LINE: Final = 2000  # bytes
FIRST_SIGN: Final = 120.0  # seconds from the first push to the first message of Claude Code
PULSE: Final = 60.0  # seconds between two questions whether Claude Code still reacts, while something is unanswered
REACTION: Final = 45.0  # seconds for the reply; it comes within milliseconds, also while a tool runs
GIVING_UP: Final = 5.0  # seconds between a broken input and giving up on a process that does not end

#: Arguments of Claude Code's tools that tell a person best what is done.
_TELLING: Final = ("command", "file_path", "notebook_path", "path", "pattern", "description", "query", "skill", "text")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prompt:
    uuid: str
    text: str


class ClaudeEngine:
    """Claude Code for one conversation. See `Engine`."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._options = record(ClaudeOptions, dict(place.options), "options")
        self._program, version = find_claude()
        self.label = f"claude {version}"
        self._orders: deque[_Prompt | None] = deque()  # None: interrupt
        self._ordered = anyio.Event()
        self._waiting: deque[_Prompt] = deque()
        self._taken: dict[str, None] = {}  # uuids that Claude Code has and no result covers yet, in their order
        self._riders: dict[str, list[str]] = {}  # by the uuid of a turn that is run again: pushes that are part of it
        self._past: list[Turn] = []
        self._pouring = anyio.Lock()
        self._pushed = anyio.Event()
        self._alive = anyio.Event()  # Claude Code said something
        self._turning = False  # between the beginning of a turn and its result
        self._tasks = 0  # of Claude Code's own, in the background
        self._errors: deque[str] = deque(maxlen=KEPT_ERRORS)
        self._errors_ended = anyio.Event()

    @property
    def background(self) -> bool:
        """See `Engine`. When a task in the background ends, Claude Code begins a turn by itself."""
        return self._turning or self._tasks > 0

    async def push(self, uuid: str, text: str) -> None:
        """See `Engine`."""
        self._orders.append(_Prompt(uuid=uuid, text=text))
        self._ordered.set()
        self._pushed.set()

    async def interrupt(self) -> None:
        """See `Engine`."""
        self._orders.append(None)
        self._ordered.set()

    async def run(self, reports: Reports) -> None:
        """See `Engine`. Claude Code starts before its SDK is imported, which then takes no time of its own.

        Raises:
            EngineFailed: Claude Code ended, never said anything, or does not react any more.
        """
        settle(self._place.state)
        transcript = find_transcript(self._place.state, self._options.conversation)
        size = transcript.stat().st_size if transcript else 0
        async with await self._spawn(resume=size > 0) as process, anyio.create_task_group() as group:
            group.start_soon(self._copy_errors, process, name="Claude Code's errors")
            group.start_soon(self._expect_sign, name="watchdog")
            await to_thread.run_sync(import_sdk)
            if transcript and size:
                read = partial(read_turns, transcript, size, resume_interrupted=self._options.resume_interrupted)
                self._past = await to_thread.run_sync(read)
            async with self._connect(process) as client:
                group.start_soon(self._feed, client, reports, name="prompts")
                group.start_soon(self._take_pulse, client, name="pulse")
                async for message in client.receive_messages():
                    self._alive.set()
                    await self._hear(message, client, reports)
            raise EngineFailed("Claude Code's output ended")

    async def _spawn(self, *, resume: bool) -> Process:
        words = arguments(self._options, self._place, resume=resume)
        surroundings = environment(self._options, self._place, resume=resume)
        try:
            return await anyio.open_process(
                [str(self._program), *words],
                cwd=self._place.workspace,
                env=surroundings,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except OSError as error:
            raise EngineFailed(f"Claude Code cannot be started: {error}") from error

    def _connect(self, process: Process) -> ClaudeSDKClient:
        from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient

        from nanoclaw_runner.transport import AdoptedProcess

        hooks = before_compaction(self._place.state)
        transport = AdoptedProcess(process, partial(self._obituary, process))
        return ClaudeSDKClient(ClaudeAgentOptions(hooks=hooks), transport=transport)  # type: ignore[arg-type]  # keys are Literal

    async def _expect_sign(self) -> None:
        """Give up on a process that runs and stays mute: it may wait for ever for something in a folder of the agent's.

        Only the first message is waited for: later, a long tool call is silent too.

        Raises:
            EngineFailed: it did.
        """
        await self._pushed.wait()
        with anyio.move_on_after(FIRST_SIGN):
            await self._alive.wait()
            return
        raise EngineFailed(f"Claude Code gave no sign of life within {FIRST_SIGN:g} s of its first message")

    async def _take_pulse(self, client: ClaudeSDKClient) -> None:
        """Give up on a process that stopped or hangs in the middle of a turn, which heartbeats would hide.

        Raises:
            EngineFailed: it did.
        """
        from claude_agent_sdk import CLIConnectionError

        while True:
            await self._pushed.wait()
            self._pushed = anyio.Event()
            while True:
                await anyio.sleep(PULSE)
                if not (self._taken or self._waiting or self._riders):
                    break
                with anyio.move_on_after(REACTION) as question, suppress(CLIConnectionError):  # the reading side knows
                    await client.get_mcp_status()
                if question.cancelled_caught:
                    raise EngineFailed(f"Claude Code did not react within {REACTION:g} s")

    # --- prompts ----------------------------------------------------------------------------------------------------------

    async def _feed(self, client: ClaudeSDKClient, reports: Reports) -> None:
        from claude_agent_sdk import CLIConnectionError

        try:
            while True:
                while self._orders:
                    await self._obey(self._orders.popleft(), client, reports)
                self._ordered = anyio.Event()
                await self._ordered.wait()
        except CLIConnectionError:
            await anyio.sleep(GIVING_UP)  # the process is ending: whoever reads its output knows why
            raise

    async def _obey(self, order: _Prompt | None, client: ClaudeSDKClient, reports: Reports) -> None:
        if order is None:
            await client.interrupt()
        elif not await self._is_settled(order, reports):
            self._waiting.append(order)
            await self._pour(client)

    async def _pour(self, client: ClaudeSDKClient) -> None:
        """Give Claude Code what waits, as far as one result could cover it."""
        async with self._pouring:
            while self._waiting and len(self._taken) < MAX_OUTSTANDING:
                prompt = self._waiting.popleft()
                self._taken[prompt.uuid] = None
                await client.query(_as_message(prompt))

    async def _is_settled(self, prompt: _Prompt, reports: Reports) -> bool:
        """Whether Claude Code has this push from an earlier life: it would skip it in silence, so the transcript answers."""
        turn = next((turn for turn in reversed(self._past) if turn.holds(prompt.uuid, prompt.text)), None)
        if turn is None:
            return False
        if turn.rerun:
            self._riders.setdefault(turn.uuid, []).append(prompt.uuid)
            return True
        if prompt.uuid in turn.told:
            return True
        covered = [prompt.uuid] if turn.told else [*turn.members, prompt.uuid]
        if turn.answer is not None:
            text = "" if turn.told else turn.answer  # several pushes of one turn share one answer
            await reports.answered(covered, text, conversation=self._options.conversation, usage={})
        else:
            kind, detail = _fate(turn)
            await reports.turn_failed(
                covered, kind, detail, status=turn.status, conversation=self._options.conversation, usage={}
            )
        turn.told.update(covered)
        return True

    # --- results ----------------------------------------------------------------------------------------------------------

    async def _hear(self, message: Message, client: ClaudeSDKClient, reports: Reports) -> None:
        from claude_agent_sdk import AssistantMessage, ResultMessage, StreamEvent, SystemMessage

        if isinstance(message, StreamEvent):
            await _follow(message, reports)
        elif isinstance(message, ResultMessage):
            self._turning = False
            await self._end(message, reports)
            await self._pour(client)
        elif isinstance(message, AssistantMessage):
            for note in _notes(message):
                await reports.progressed(note)
        elif isinstance(message, SystemMessage):
            await self._note(message, reports)

    async def _note(self, message: SystemMessage, reports: Reports) -> None:
        match message.subtype:
            case "api_retry":
                await reports.progressed(_retry_note(message.data))
            case "init":  # before each turn
                self._turning = True
                if not self._taken:  # Claude Code began it by itself
                    await reports.stirred()
            case "background_tasks_changed":
                self._tasks = len(message.data.get("tasks", ()))

    async def _end(self, result: ResultMessage, reports: Reports) -> None:
        covered = self._covered(result)
        text = result.result or ""
        if not covered and not text:
            return  # nobody asked and there is nothing to say
        usage = _usage(result)
        if not result.is_error:
            await reports.answered(covered, text, conversation=result.session_id, usage=usage)
            return
        kind, detail = _verdict(result)
        await reports.turn_failed(
            covered, kind, detail, status=result.api_error_status, conversation=result.session_id, usage=usage
        )

    def _covered(self, result: ResultMessage) -> list[str]:
        """The pushes that `result` ends.

        Without any uuid it is the end of a turn that Claude Code began by itself (a background task reported: `origin`
        says so) and covers nothing, or an error before the prompts were looked at, which covers all there are.
        """
        named = result.user_message_uuids or ([result.user_message_uuid] if result.user_message_uuid else [])
        if not named and result.origin is None:
            named = list(self._taken)
        covered = [uuid for name in named for uuid in (name, *self._riders.pop(name, ()))]
        for uuid in covered:
            self._taken.pop(uuid, None)
        return covered

    # --- the end ----------------------------------------------------------------------------------------------------------

    async def _copy_errors(self, process: Process) -> None:
        """Copy Claude Code's standard error to ours, and keep the last lines for the obituary."""
        assert process.stderr is not None  # noqa: S101  # opened with a pipe
        pieces = BufferedByteReceiveStream(process.stderr)
        try:
            while True:
                try:
                    line = await pieces.receive_until(b"\n", MAX_ERROR_LINE)
                except anyio.DelimiterNotFound:
                    line = await pieces.receive(MAX_ERROR_LINE)
                self._note_error(line)
        except (anyio.IncompleteRead, anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError):
            self._note_error(pieces.buffer)
            self._errors_ended.set()

    def _note_error(self, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        if text:
            self._errors.append(text)
            sys.stderr.write(f"claude: {text}\n")
            sys.stderr.flush()

    async def _obituary(self, process: Process) -> EngineFailed:
        code = await process.wait()
        with anyio.move_on_after(0.2):  # a command in the background may hold the pipe open
            await self._errors_ended.wait()
        last = f": {self._errors[-1]}" if self._errors else ""
        return EngineFailed(f"Claude Code ended with code {code}{last}")


async def _as_message(prompt: _Prompt) -> AsyncIterator[dict[str, Any]]:  # the SDK's own type for messages
    yield {
        "type": "user",
        "uuid": prompt.uuid,
        "message": {"role": "user", "content": prompt.text},
        "parent_tool_use_id": None,
    }


def _fate(turn: Turn) -> tuple[str, str]:
    """Kind and detail of a turn of an earlier life that has no answer and gets none."""
    if turn.interrupted:
        return "interrupted", "interrupted"
    if turn.error is not None:
        return "model", turn.error
    return "engine", "the worker ended during this turn, and it was not to be taken up again"


def _verdict(result: ResultMessage) -> tuple[str, str]:
    """Kind and detail of a result that is an error."""
    reason = result.terminal_reason or ""
    if reason.startswith("aborted"):
        return "interrupted", "interrupted"
    detail = result.result or next(iter(result.errors or ()), result.subtype)
    is_model = reason == "api_error" or result.api_error_status is not None
    return "model" if is_model else "engine", detail


def _usage(result: ResultMessage) -> dict[str, int]:
    counted: Mapping[str, Any] = result.usage or {}
    return {
        "input_tokens": counted.get("input_tokens") or 0,
        "output_tokens": counted.get("output_tokens") or 0,
        "cache_read_tokens": counted.get("cache_read_input_tokens") or 0,
        "cache_write_tokens": counted.get("cache_creation_input_tokens") or 0,
        "model_calls": result.num_turns,
    }


async def _follow(message: StreamEvent, reports: Reports) -> None:
    """Report what the agent writes. The last block of text is the answer; what its own agents write is none of it."""
    if message.parent_tool_use_id is not None:
        return
    match message.event:
        case {"type": "content_block_start", "content_block": {"type": "text", "text": str(text)}}:
            await reports.wrote(text, anew=True)
        case {"type": "content_block_delta", "delta": {"type": "text_delta", "text": str(text)}}:
            await reports.wrote(text)


def _notes(message: AssistantMessage) -> list[str]:
    from claude_agent_sdk import ToolUseBlock

    return [_tool_note(block.name, block.input) for block in message.content if isinstance(block, ToolUseBlock)]


def _tool_note(name: str, arguments: Mapping[str, Any]) -> str:
    """What a tool does, in one line.

    >>> _tool_note("Bash", {"command": "id -u\\nls", "description": "Who"})
    'Bash: id -u'
    """
    told = next((value for key in _TELLING if isinstance(value := arguments.get(key), str) and value.strip()), "")
    first_line = told.strip().partition("\n")[0]
    short = name.removeprefix("mcp__nanoclaw__")
    return f"{short}: {first_line}" if first_line else short


def _retry_note(frame: Mapping[str, Any]) -> str:
    reason = f"the model is busy ({frame['error_status']})" if frame.get("error_status") else "the model cannot be reached"
    return f"{reason}, try {frame.get('attempt')} of {frame.get('max_retries')}"
