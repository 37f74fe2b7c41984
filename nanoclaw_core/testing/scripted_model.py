"""A server that speaks Anthropic's Messages API from a script, with every way to fail; without a script it is the demo model.

>>> async with ScriptedModel() as model:
...     model.script(Reply.error(529, "overloaded_error", "busy"), Reply.text("Now it works."))
...     ...  # send two requests to model.url
...     model.calls[0].json["messages"]
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from nanoclaw_core.builtins import demo

if TYPE_CHECKING:
    from aiohttp import web


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """One request as the model got it; `json` is None when the body was none. Header names are lower-case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    json: Any  # Any: JSON of a format that we do not own


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One scripted answer. `after` holds it back until that event is set, `pieces` parts of it: tests need no sleep."""

    answer: demo.Answer | None = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    stops_after: int | None = None
    hangs: bool = False
    after: anyio.Event | None = None
    pieces: tuple[str | anyio.Event, ...] = ()

    @classmethod
    def text(cls, text: str, *, after: anyio.Event | None = None) -> Reply:
        """Say `text` and end the turn."""
        return cls(answer=demo.say(text), after=after)

    @classmethod
    def stream(cls, *pieces: str | anyio.Event) -> Reply:
        """Say the texts among `pieces` one after the other, each event held until it is set, and end the turn."""
        return cls(answer=demo.say("".join(piece for piece in pieces if isinstance(piece, str))), pieces=pieces)

    @classmethod
    def tool(cls, name: str, tool_input: Mapping[str, Any], *, after: anyio.Event | None = None) -> Reply:
        """Call a tool of the request."""
        return cls(answer=demo.call(name, dict(tool_input)), after=after)

    @classmethod
    def error(cls, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None) -> Reply:
        """Refuse, such as `Reply.error(429, "rate_limit_error", "slow down", {"retry-after": "1"})`."""
        body = {"type": "error", "error": {"type": kind, "message": message}}
        return cls(
            status=status, body=json.dumps(body).encode(), headers={"content-type": "application/json", **(headers or {})}
        )

    @classmethod
    def models(cls, *names: str) -> Reply:
        """Answer a question for the list of models."""
        return cls(body=json.dumps({"data": [{"type": "model", "id": name} for name in names], "has_more": False}).encode())

    @classmethod
    def cut(cls, after_bytes: int, text: str = "This sentence will never be") -> Reply:
        """Break the connection after `after_bytes` bytes of the answer `text`."""
        return cls(answer=demo.say(text), stops_after=after_bytes)

    @classmethod
    def hang(
        cls, after_bytes: int | None = None, text: str = "This sentence will never be", *, until: anyio.Event | None = None
    ) -> Reply:
        """Send `after_bytes` bytes of an answer (None: not even its head), then nothing; `until` ends that with the rest."""
        return cls(answer=demo.say(text), stops_after=after_bytes, hangs=True, after=until)

    @classmethod
    def malformed(cls) -> Reply:
        """Server-sent events that are none."""
        body = b"event: message_start\ndata: {not json\n\n"
        return cls(body=body, headers={"content-type": "text/event-stream"})

    def content(self, request: Any) -> tuple[bytes, str]:
        """The whole body for `request`, and its type."""
        if self.body is not None:
            return self.body, self.headers.get("content-type", "application/json")
        answer = self.answer or demo.reply_to(request)
        if request.get("stream"):
            return b"".join(demo.events(request, answer)), "text/event-stream"
        return json.dumps(demo.message(request, answer)).encode(), "application/json"

    def parts(self, body: bytes) -> Iterator[bytes | anyio.Event]:
        """`body`, which is the answer's, with the events of `pieces` in their places."""
        if not self.pieces or not body.startswith(b"event: "):
            yield body
            return
        begin, start, _, *end = body.split(b"\n\n")
        yield begin + b"\n\n" + start + b"\n\n"
        for piece in self.pieces:
            yield piece if isinstance(piece, anyio.Event) else demo.text_delta(0, piece)
        yield b"\n\n".join(end)


class ScriptedModel:
    """Listens on 127.0.0.1 at a free port, or on the Unix socket `path`, while its context lasts."""

    def __init__(self, path: Path | None = None) -> None:
        self.calls: list[ModelCall] = []
        self.url = ""
        self.abandoned = 0  # requests that the client left before their end
        self._path = path
        self._replies: deque[Reply] = deque()
        self._lists: deque[Reply] = deque()
        self._changed = anyio.Event()
        self._runner: web.AppRunner | None = None

    def script(self, *replies: Reply) -> None:
        """Answer the next calls of /v1/messages with these, one each; after them come the demo model's answers."""
        self._replies.extend(replies)

    def script_models(self, *replies: Reply) -> None:
        """Answer the next calls of /v1/models with these; after them, there is one model, the demo."""
        self._lists.extend(replies)

    async def wait_for(self, calls: int) -> list[ModelCall]:
        """Return the calls as soon as there are that many."""
        while len(self.calls) < calls:
            await self._changed.wait()
        return self.calls

    async def wait_for_abandoned(self, requests: int = 1) -> None:
        """Return once clients have left that many requests."""
        while self.abandoned < requests:
            await self._changed.wait()

    async def __aenter__(self) -> Self:
        from aiohttp import web

        application = web.Application(client_max_size=2**28)
        application.router.add_post("/v1/messages", self._messages)
        application.router.add_post("/v1/messages/count_tokens", self._count_tokens)
        application.router.add_get("/v1/models", self._models)
        self._runner = web.AppRunner(application, handler_cancellation=True, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        if self._path is None:
            site = web.TCPSite(self._runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        else:
            await web.UnixSite(self._runner, str(self._path)).start()
            self.url = f"http+unix://{self._path}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._runner is not None
        with anyio.CancelScope(shield=True):
            await self._runner.cleanup()

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        call = await self._note(request)
        reply = self._replies.popleft() if self._replies else Reply()
        try:
            return await self._play(request, reply, *reply.content(call.json))
        except anyio.get_cancelled_exc_class():
            self.abandoned += 1
            self._tell()
            raise

    async def _play(self, request: web.Request, reply: Reply, body: bytes, content_type: str) -> web.StreamResponse:
        from aiohttp import web

        if reply.stops_after is None:
            await _wait(reply)
        response = web.StreamResponse(status=reply.status, headers={**reply.headers, "content-type": content_type})
        await response.prepare(request)
        if reply.stops_after is not None:
            await response.write(body[: reply.stops_after])
            if not reply.hangs:
                assert request.transport is not None
                request.transport.close()  # not aborted: what was written still arrives
                return response
            await _wait(reply)
            body = body[reply.stops_after :]
        for part in reply.parts(body):
            await (part.wait() if isinstance(part, anyio.Event) else response.write(part))
        return response

    async def _count_tokens(self, request: web.Request) -> web.StreamResponse:
        from aiohttp import web

        call = await self._note(request)
        return web.json_response({"input_tokens": demo.count_tokens(call.json)})

    async def _models(self, request: web.Request) -> web.StreamResponse:
        call = await self._note(request)
        reply = self._lists.popleft() if self._lists else Reply.models(demo.MODEL)
        return await self._play(request, reply, *reply.content(call.json))

    async def _note(self, request: web.Request) -> ModelCall:
        body = await request.read()
        call = ModelCall(
            method=request.method,
            path=request.path,
            query=request.query_string,
            headers={name.lower(): value for name, value in request.headers.items()},
            json=json.loads(body) if body else None,
        )
        self.calls.append(call)
        self._tell()
        return call

    def _tell(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


async def _wait(reply: Reply) -> None:
    if reply.after is not None:
        await reply.after.wait()
    elif reply.hangs:
        await anyio.sleep_forever()
