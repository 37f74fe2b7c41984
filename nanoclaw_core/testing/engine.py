"""A tiny engine that keeps the rules of Claude Code: for tests that need speed, not skill.

It runs inside the real runner (entry point `plain` of the group `nanoclaw.engines`), calls the model through the gateway,
runs the tools `Bash` and `mcp__nanoclaw__*`, folds follow-ups into a turn, and goes on with a turn that a crash cut. It
follows the runner's `Engine` protocol by shape alone and imports nothing of it.
"""

from __future__ import annotations

import json
import subprocess
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import anyio
from anyio.abc import SocketStream, TaskGroup

from nanoclaw_core.testing.event_stream import StreamedMessage

TRIES: Final = 10
_PREFIX: Final = "mcp__nanoclaw__"
_BASH: Final = {
    "name": "Bash",
    "description": "Run a command",
    "input_schema": {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]},
}

Json = dict[str, Any]  # the Messages API's and MCP's objects


class Place(Protocol):
    """What the runner hands to an engine."""

    @property
    def workspace(self) -> Path: ...
    @property
    def state(self) -> Path: ...
    @property
    def gateway(self) -> str: ...
    @property
    def options(self) -> Mapping[str, Any]: ...


class Reports(Protocol):
    """What an engine tells the runner."""

    async def answered(self, covered: Sequence[str], text: str, *, conversation: str, usage: Mapping[str, int]) -> None: ...
    async def turn_failed(
        self,
        covered: Sequence[str],
        kind: str,
        detail: str,
        *,
        status: int | None = None,
        conversation: str,
        usage: Mapping[str, int],
    ) -> None: ...
    async def progressed(self, note: str) -> None: ...
    async def wrote(self, piece: str, *, anew: bool = False) -> None: ...


class _ModelRefused(Exception):
    def __init__(self, status: int | None, text: str) -> None:
        super().__init__(f"API Error: {status} {text}" if status else f"API Error: {text}")
        self.status = status


class PlainEngine:
    """One conversation, kept as JSON in the state folder."""

    label = "plain 1"

    def __init__(self, place: Place) -> None:
        self._place = place
        self._conversation = str(place.options["conversation"])
        self._streams = bool(place.options.get("stream"))
        self._resumes = bool(place.options.get("resume_interrupted", True))
        self._file = place.state / f".plain-{self._conversation}.json"
        self._messages: list[Json] = []
        self._open: list[str] = []  # uuids of the turn that runs, or was cut
        self._answers: dict[str, str] = {}  # by uuid
        self._waiting: deque[tuple[str, str]] = deque()
        self._wake = anyio.Event()
        self._turn: anyio.CancelScope | None = None
        self._tools: list[Json] | None = None
        self._usage: dict[str, int] = {}
        self._commands: TaskGroup  # in the background, until they end or the engine does
        self._running = 0

    @property
    def background(self) -> bool:
        """Whether a command that Bash was to run in the background has not ended."""
        return self._running > 0

    async def push(self, uuid: str, text: str) -> None:
        """Queue it for the running turn, or the next."""
        self._waiting.append((uuid, text))
        self._wake.set()

    async def interrupt(self) -> None:
        """Cancel the running turn."""
        if self._turn is not None:
            self._turn.cancel()

    async def run(self, reports: Reports) -> None:
        """Answer one turn after the other."""
        async with anyio.create_task_group() as self._commands:
            await self._answer_all(reports)

    async def _answer_all(self, reports: Reports) -> None:
        self._load()
        if self._open and self._resumes:
            if reminder := self._place.options.get("resume_prompt"):
                self._say("user", [{"type": "text", "text": reminder}])
            await self._run_turn(reports)
        elif self._open:
            await self._fail(reports, "engine", "the worker ended during this turn, and it was not to be taken up again")
        while True:
            if await self._take_waiting(reports):
                await self._run_turn(reports)
            else:
                await self._wake.wait()
                self._wake = anyio.Event()

    async def _take_waiting(self, reports: Reports) -> bool:
        """Move what waits into the conversation; what an earlier life answered is answered from its record."""
        blocks: list[Json] = []
        while self._waiting:
            uuid, text = self._waiting.popleft()
            if uuid in self._answers:
                await reports.answered([uuid], self._answers[uuid], conversation=self._conversation, usage={})
            elif uuid not in self._open:
                self._open.append(uuid)
                blocks.append({"type": "text", "text": text})
        if blocks:
            self._say("user", blocks)
        return bool(blocks)

    async def _run_turn(self, reports: Reports) -> None:
        self._usage = {"input_tokens": 0, "output_tokens": 0, "model_calls": 0}
        with anyio.CancelScope() as self._turn:
            try:
                text = await self._converse(reports)
            except _ModelRefused as refusal:
                await self._fail(reports, "model", str(refusal), refusal.status)
            else:
                await self._answer(reports, text)
        if self._turn.cancelled_caught:
            await self._fail(reports, "interrupted", "interrupted")
        self._turn = None

    async def _converse(self, reports: Reports) -> str:
        """Call the model and its tools until it answers."""
        while True:
            reply = await self._ask_model(reports)
            self._say("assistant", reply["content"])
            calls = [block for block in reply["content"] if block["type"] == "tool_use"]
            if not calls:
                return "".join(block["text"] for block in reply["content"] if block["type"] == "text")
            self._say("user", [await self._call_tool(call, reports) for call in calls])
            await self._take_waiting(reports)

    async def _answer(self, reports: Reports, text: str) -> None:
        covered, self._open = self._open, []
        self._answers.update(dict.fromkeys(covered, text))
        self._save()
        await reports.answered(covered, text, conversation=self._conversation, usage=self._usage)

    async def _fail(self, reports: Reports, kind: str, detail: str, status: int | None = None) -> None:
        covered, self._open = self._open, []
        self._save()
        await reports.turn_failed(covered, kind, detail, status=status, conversation=self._conversation, usage=self._usage)

    # --- model and tools --------------------------------------------------------------------------------------------------

    async def _ask_model(self, reports: Reports) -> Json:
        request = {
            "model": self._place.options.get("model") or "claude-plain",
            "max_tokens": 4096,
            "system": self._place.options.get("instructions") or "",
            "messages": _alternating(self._messages),
            "tools": [_BASH, *await self._host_tools()],
            "stream": self._streams,
        }
        status, reply = await self._post("/v1/messages", request, reports)
        self._usage["model_calls"] += 1
        if status != 200:
            raise _ModelRefused(status, str(reply.get("error", {}).get("message", "no reason given")))
        counted = reply.get("usage") or {}
        for name in ("input_tokens", "output_tokens"):
            self._usage[name] += counted.get(name, 0)
        return reply

    async def _host_tools(self) -> list[Json]:
        if self._tools is None:
            _, answer = await self._post("/mcp", {"jsonrpc": "2.0", "id": 0, "method": "tools/list"})
            listed = answer.get("result", {}).get("tools", [])
            self._tools = [
                {
                    "name": _PREFIX + tool["name"],
                    "description": tool.get("description", ""),
                    "input_schema": tool["inputSchema"],
                }
                for tool in listed
            ]
        return self._tools

    async def _call_tool(self, call: Json, reports: Reports) -> Json:
        name, arguments = call["name"], call["input"]
        if name == "Bash" and arguments.get("run_in_background"):
            self._running += 1
            self._commands.start_soon(self._run_in_background, arguments["command"])
            text, failed = "Command running in background", False
        elif name == "Bash":
            await reports.progressed(f"Bash: {arguments['command']}")
            done = await anyio.run_process(
                ["sh", "-c", arguments["command"]], cwd=self._place.workspace, stderr=subprocess.STDOUT, check=False
            )
            text, failed = done.stdout.decode(errors="replace").rstrip("\n"), done.returncode != 0
        elif name.startswith(_PREFIX):
            await reports.progressed(name.removeprefix(_PREFIX))
            text, failed = await self._call_host(call["id"], name.removeprefix(_PREFIX), arguments)
        else:
            text, failed = f"There is no tool named {name}.", True
        return {"type": "tool_result", "tool_use_id": call["id"], "content": text, "is_error": failed}

    async def _run_in_background(self, command: str) -> None:
        await anyio.run_process(["sh", "-c", command], cwd=self._place.workspace, check=False)
        self._running -= 1

    async def _call_host(self, call_id: str, name: str, arguments: Json) -> tuple[str, bool]:
        params = {"name": name, "arguments": arguments, "_meta": {"claudecode/toolUseId": call_id}}
        _, answer = await self._post("/mcp", {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params})
        if "result" not in answer:
            return str(answer.get("error", {}).get("message", "the host did not answer")), True
        result = answer["result"]
        return "\n".join(block.get("text", "") for block in result.get("content", [])), bool(result.get("isError"))

    async def _post(self, path: str, body: Json, reports: Reports | None = None) -> tuple[int, Json]:
        """Send JSON and read JSON. A connection that breaks is tried again: the host may be restarting."""
        for _ in range(TRIES):
            try:
                return await _exchange(self._place.gateway, path, json.dumps(body).encode(), reports)
            except (OSError, anyio.BrokenResourceError, ValueError):
                await anyio.sleep(0.05)
        raise _ModelRefused(None, "Connection dropped")

    # --- the record -------------------------------------------------------------------------------------------------------

    def _say(self, role: str, content: list[Json]) -> None:
        self._messages.append({"role": role, "content": content})
        self._save()

    def _load(self) -> None:
        if self._file.exists():
            kept = json.loads(self._file.read_bytes())
            self._messages, self._open, self._answers = kept["messages"], kept["open"], kept["answers"]
            if self._messages and self._messages[-1]["role"] == "assistant" and self._open:
                self._messages.pop()  # its tool call was cut: the model is asked again

    def _save(self) -> None:
        fresh = self._file.with_suffix(".new")
        fresh.write_text(json.dumps({"messages": self._messages, "open": self._open, "answers": self._answers}))
        fresh.replace(self._file)


def _alternating(messages: list[Json]) -> list[Json]:
    """The Messages API wants the roles to take turns."""
    joined: list[Json] = []
    for message in messages:
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1] = {"role": message["role"], "content": joined[-1]["content"] + message["content"]}
        else:
            joined.append(message)
    return joined


async def _exchange(gateway: str, path: str, body: bytes, reports: Reports | None) -> tuple[int, Json]:
    """One HTTP/1.0 exchange: the end of the answer is the end of the connection. Streamed text is reported as it comes."""
    host, _, port = gateway.removeprefix("http://").partition(":")
    head = (
        f"POST {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nAccept: application/json\r\n"
        f"Anthropic-Version: 2023-06-01\r\nX-Api-Key: nanoclaw-placeholder\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(head.encode() + body)
        top, rest = await _head(stream)
        if b"text/event-stream" not in top:
            rest = b"".join([rest, *[chunk async for chunk in stream]])
            return int(top.split()[1]), json.loads(rest or b"{}")
        message = StreamedMessage()
        while True:
            for piece, anew in message.take(rest):
                if reports is not None:
                    await reports.wrote(piece, anew=anew)
            try:
                rest = await stream.receive()
            except anyio.EndOfStream:
                return int(top.split()[1]), message.whole()


async def _head(stream: SocketStream) -> tuple[bytes, bytes]:
    """The head of the answer, and what came with it."""
    received = b""
    async for chunk in stream:
        received += chunk
        if b"\r\n\r\n" in received:
            top, _, rest = received.partition(b"\r\n\r\n")
            return top, rest
    raise ConnectionResetError("the host closed the connection")
