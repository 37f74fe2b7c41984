"""A host in miniature for the runner's tests: one Unix socket with the link, a scripted model and an MCP server behind it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
from aiohttp import WSMsgType, web
from anyio.abc import Process
from nanoclaw_runner.frames import MAX_FRAME, Hello, Push, RunnerFrame, TurnEnd, decode_runner, encode

RUNNER = Path(__file__).parent
SECRET = "s3cret"


class FakeHost:
    """Answers one worker. Frames arrive in `frames`; they are acknowledged at once while `acks` is set."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.acks = True
        self.frames: list[RunnerFrame] = []
        self.pushes: list[Push] = []  # sent again with every connection, as the host does
        self.prompts: list[dict[str, Any]] = []  # bodies of model requests
        self.second_half: anyio.Event | None = None  # when set, answers come in two halves, the second one then
        self.close_with: int | None = None  # close the next connection after its hello
        self.calls: list[dict[str, Any]] = []  # of tools
        self.uploads: dict[str, bytes] = {}
        self.upload_began = anyio.Event()
        self.holds_uploads = False  # an upload is answered only while this is not set
        self.refusal: tuple[int, str] | None = None  # what uploads are answered with
        self._changed = anyio.Condition()
        self._leaving = anyio.Event()
        self._sockets: list[web.WebSocketResponse] = []

    @asynccontextmanager
    async def up(self) -> AsyncIterator[FakeHost]:
        """Listen; leaving breaks every connection, as a host's death does."""
        self._leaving = anyio.Event()
        app = web.Application(client_max_size=2**26)
        app.router.add_get("/link", self._link)
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/mcp", self._mcp)
        app.router.add_put("/files/{upload}", self._upload)
        runner = web.AppRunner(app, shutdown_timeout=0.0)
        await runner.setup()
        self.path.unlink(missing_ok=True)
        await web.UnixSite(runner, str(self.path)).start()
        self.path.chmod(0o666)
        try:
            yield self
        finally:
            self._leaving.set()
            with anyio.CancelScope(shield=True):
                for socket in self._sockets:
                    await socket.close()
                await runner.cleanup()

    async def push(self, uuid: str, text: str, *, stream: bool = False) -> None:
        """Push to the worker, now or as soon as it connects."""
        self.pushes.append(Push(uuid=uuid, text=text, stream=stream))
        await self.say(encode(self.pushes[-1]))

    async def say(self, line: str) -> None:
        """Send a line to whoever is connected."""
        for socket in self._sockets[-1:]:
            await socket.send_str(line)

    async def hang_up(self) -> None:
        """Close the connection."""
        for socket in list(self._sockets):
            await socket.close()

    async def say_when_connected(self, line: str) -> None:
        """The same, waiting for a connection."""
        with anyio.fail_after(30):
            async with self._changed:
                while not self._sockets:
                    await self._changed.wait()
        await self.say(line)

    async def until(self, kind: type[RunnerFrame], number: int = 1, within: float = 20.0) -> Any:
        """Return the `number`th frame of this kind, waiting for it."""
        with anyio.fail_after(within):
            async with self._changed:
                while len(found := self.of(kind)) < number:
                    await self._changed.wait()
        return found[number - 1]

    def of(self, kind: type[RunnerFrame]) -> list[Any]:
        """The frames of this kind so far."""
        return [frame for frame in self.frames if isinstance(frame, kind)]

    async def _link(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {SECRET}":
            return web.json_response({"type": "error"}, status=401)
        socket = web.WebSocketResponse(max_msg_size=MAX_FRAME)
        await socket.prepare(request)
        try:
            async for message in socket:
                if message.type is not WSMsgType.TEXT:
                    break
                frame = decode_runner(message.data)
                async with self._changed:
                    self.frames.append(frame)
                    self._changed.notify_all()
                if isinstance(frame, Hello):
                    if self.close_with is not None:
                        code, self.close_with = self.close_with, None
                        await socket.close(code=code)
                        break
                    await socket.send_str('{"type": "welcome", "protocol": 1}')
                    async with self._changed:
                        self._sockets.append(socket)
                        self._changed.notify_all()
                    for push in self.pushes:
                        await socket.send_str(encode(push))
                elif hasattr(frame, "id") and self.acks:
                    covered = frame.covered if isinstance(frame, TurnEnd) else ()
                    self.pushes = [push for push in self.pushes if push.uuid not in covered]
                    await socket.send_str(json.dumps({"type": "ack", "id": frame.id}))
        finally:
            if socket in self._sockets:
                self._sockets.remove(socket)
        return socket

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.prompts.append(body)
        said = json.dumps([message for message in body["messages"] if message["role"] == "user"][-1])
        content, reason = _script(body)
        if "!busy" in said and len(self.prompts) == 1:
            return web.json_response({"type": "error"}, status=529)
        if isinstance(content, int):
            refusal = {"type": "error", "error": {"type": "api_error", "message": "scripted refusal"}}
            return web.json_response(refusal, status=content, headers={"x-should-retry": "false"})
        if "!hang" in said:
            await self._leaving.wait()
        message = {
            "id": f"msg_{len(self.prompts)}",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [content],
            "stop_reason": reason,
            "stop_sequence": None,
            "usage": {
                "input_tokens": 10,
                "output_tokens": 5,
                "cache_creation_input_tokens": 3,
                "cache_read_input_tokens": 2,
            },
        }
        if not body.get("stream"):
            return web.json_response(message)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for event in _events(message, in_halves=self.second_half is not None):
            if event is None:
                assert self.second_half is not None  # noqa: S101  # see above
                await self.second_half.wait()
                continue
            await response.write(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
        return response

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        if self.refusal:
            status, message = self.refusal
            return web.json_response({"type": "error", "error": {"message": message}}, status=status)
        content = await request.read()
        self.upload_began.set()
        if self.holds_uploads:
            await self._leaving.wait()
        self.uploads[request.match_info["upload"]] = content
        return web.json_response({}, status=201)

    async def _mcp(self, request: web.Request) -> web.StreamResponse:
        call = await request.json()
        if "id" not in call:
            return web.Response(status=202)
        if call["method"] == "tools/call":
            self.calls.append(call)
        tool = {"name": "send_message", "description": "Send", "inputSchema": {"type": "object", "properties": {}}}
        results: dict[str, Any] = {
            "initialize": {
                "protocolVersion": call.get("params", {}).get("protocolVersion"),
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "fake", "version": "1"},
            },
            "tools/list": {"tools": [tool]},
            "tools/call": {"content": [{"type": "text", "text": "sent: " + json.dumps(call.get("params"))}]},
        }
        if call["method"] not in results:
            error = {"code": -32601, "message": "unknown"}
            return web.json_response({"jsonrpc": "2.0", "id": call["id"], "error": error})
        return web.json_response({"jsonrpc": "2.0", "id": call["id"], "result": results[call["method"]]})


def _script(body: dict[str, Any]) -> tuple[Any, str]:
    """Echo; `!bash COMMAND`, `!background COMMAND` and `!tool NAME` call tools; `!status N` refuses."""
    content = [message for message in body["messages"] if message["role"] == "user"][-1]["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    said = "\n".join(block["text"] for block in blocks if block["type"] == "text" and "<system-reminder>" not in block["text"])
    results = [json.dumps(block["content"]) for block in blocks if block["type"] == "tool_result"]
    if results:
        return {"type": "text", "text": f"result: {' '.join(results)}"}, "end_turn"
    if found := re.search(r"!status (\d+)", said):
        return int(found[1]), ""
    if found := re.search(r"!bash ([^\n]*)", said):
        return {
            "type": "tool_use",
            "id": f"toolu_{os.urandom(6).hex()}",
            "name": "Bash",
            "input": {"command": found[1]},
        }, "tool_use"
    if found := re.search(r"!background ([^\n]*)", said):
        command = {"command": found[1], "run_in_background": True}
        return {"type": "tool_use", "id": f"toolu_{os.urandom(6).hex()}", "name": "Bash", "input": command}, "tool_use"
    if found := re.search(r"!tool (\S+)", said):
        return {"type": "tool_use", "id": f"toolu_{os.urandom(6).hex()}", "name": found[1], "input": {}}, "tool_use"
    return {"type": "text", "text": f"echo: {said}"}, "end_turn"


def _events(message: dict[str, Any], *, in_halves: bool) -> Iterator[dict[str, Any] | None]:
    """The events of a stream; None is the place for a pause, in the middle of a text."""
    (block,) = message["content"]
    deltas: list[dict[str, Any] | None]
    start: dict[str, Any]
    if block["type"] == "text":
        text, middle = block["text"], len(block["text"]) // 2 if in_halves else 0
        halves = [{"type": "text_delta", "text": half} for half in (text[:middle], text[middle:])]
        start, deltas = {"type": "text", "text": ""}, [halves[0], None, halves[1]] if in_halves else [halves[1]]
    else:
        start = {**block, "input": {}}
        deltas = [{"type": "input_json_delta", "partial_json": json.dumps(block["input"])}]
    yield {"type": "message_start", "message": {**message, "content": [], "stop_reason": None}}
    yield {"type": "content_block_start", "index": 0, "content_block": start}
    for delta in deltas:
        yield delta and {"type": "content_block_delta", "index": 0, "delta": delta}
    yield {"type": "content_block_stop", "index": 0}
    end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": end, "usage": {"output_tokens": 5}}
    yield {"type": "message_stop"}


class Home:
    """The folders of one worker, and its processes."""

    runner = RUNNER

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / "g.sock"
        self.workspace = folder / "workspace"
        self.state = folder / "state"
        self.conversation = "0b0e1d2c-0000-4000-8000-000000000000"
        for path in (self.workspace, self.state):
            path.mkdir()

    def document(self, **changes: Any) -> bytes:
        """A launch document."""
        options = {
            "conversation": self.conversation,
            "instructions": "You are Andy.",
            "model": None,
            "resume_interrupted": True,
        }
        document = {
            "protocol": 1,
            "worker": "w1",
            "secret": SECRET,
            "socket": str(self.socket),
            "workspace": str(self.workspace),
            "state": str(self.state),
            "engine": "claude",
            "options": options,
        }
        return json.dumps({**document, **changes}).encode() + b"\n"

    @asynccontextmanager
    async def worker(self, **changes: Any) -> AsyncIterator[Process]:
        """Run a worker as a process of its own; it is killed with all its children at the end.

        `errors`, when given, is a file that gets its standard error.
        """
        errors = changes.pop("errors", subprocess.DEVNULL)
        process = await anyio.open_process(
            [sys.executable, "-m", "nanoclaw_runner"],
            cwd=self.workspace,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(RUNNER)},
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        async with process:
            assert process.stdin is not None  # noqa: S101  # opened with a pipe
            await process.stdin.send(self.document(**changes))
            await process.stdin.aclose()
            try:
                yield process
            finally:
                kill(process)


def kill(process: Process) -> None:
    """SIGKILL to the worker and everything that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, 9)
