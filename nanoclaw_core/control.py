"""The control socket: where `nanoclaw chat`, `status`, `stop` and others reach the running host.

A Unix socket in the home, for its owner alone, with JSON-RPC 2.0, one object in a line of at most 20 MiB. Requests of a client:

    version, status, stop
    chat.open {agent?} -> {agent, chat, notices}        one chat for a connection; the same again replaces it
    chat.send {text, message_id} -> {accepted}          false: this message_id is known already
    chat.close
    chat.seen {number}                                  a notification: everything up to `number` has been shown
    pairing.begin, wiring.create, wiring.remove,
    mount.add, mount.remove, mount.check,
    budget.set, budget.remove                           see `operations`

Once a chat is open, the host notifies: chat.message {number, id, text}, chat.working {number, note},
chat.settled {number, message_ids, outcome}, chat.notice {number, text}. Messages and settlements come again (to this
client or to the next) until a client has said that it saw them; `id` tells repeated messages.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import anyio
import anyio.lowlevel
from anyio.abc import ByteStream, SocketAttribute, SocketListener, TaskStatus

from nanoclaw_core import __version__
from nanoclaw_core.errors import HomeUnusable, NanoClawError

if TYPE_CHECKING:
    from nanoclaw_core.builtins.terminal import TerminalChannel, Update, Viewer
    from nanoclaw_core.operations import Operation

LINE_LIMIT: Final = 20 * 1024 * 1024
#: Seconds until the next try, when the system would not give a connection out.
_ACCEPT_AGAIN: Final = 1.0

_PARSE_ERROR, _INVALID_REQUEST, _METHOD_NOT_FOUND, _INVALID_PARAMS, _FAILED = -32700, -32600, -32601, -32602, -32000

Json = dict[str, Any]  # the values are whatever JSON holds


def socket_path(home: Path) -> Path:
    return home / "control.sock"


class ControlledHost(Protocol):
    """What the control socket needs of a host."""

    @property
    def terminal(self) -> TerminalChannel: ...

    async def status(self) -> Json:
        """Everything that `nanoclaw status --json` prints."""

    async def terminal_chat(self, agent: str | None) -> tuple[str, str]:
        """The agent's name and its chat at the terminal; None is the main agent.

        Raises:
            UnknownName: there is no such agent.
        """

    def greeting(self) -> list[str]:
        """What a person who opens a chat should know, a line each."""

    @property
    def operations(self) -> Mapping[str, Operation]:
        """More methods, by name."""


class LineTooLong(Exception):
    """The other side does not speak the protocol."""


class _Invalid(Exception):
    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class ControlServer:
    """Serves the control socket of one host. `stop` is called, without waiting, when a client asks the host to end."""

    def __init__(self, host: ControlledHost, path: Path, stop: Callable[[], None]) -> None:
        self._host = host
        self._path = path
        self._stop = stop

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled. The caller owns the home: a socket that is there already is a dead host's.

        Raises:
            HomeUnusable: no socket can be made there.
        """
        listener = await SocketListener.from_socket(_bind(self._path))
        try:
            async with listener:
                task_status.started()
                await self._accept(listener)
        finally:
            self._path.unlink(missing_ok=True)

    async def _accept(self, listener: SocketListener) -> None:
        """Accept for ever: a host that has used up its files goes on as soon as there is one again."""
        from nanoclaw_core.supervise import log  # here, because clients need no log

        failed = False
        async with anyio.create_task_group() as tasks:
            while True:
                try:
                    stream = await listener.accept()
                except anyio.BrokenResourceError as error:
                    if not failed:
                        log.warning("control.cannot_accept", reason=str(error.__cause__))
                    failed = True
                    await anyio.sleep(_ACCEPT_AGAIN)
                else:
                    failed = False
                    tasks.start_soon(self._attend, stream, name="control connection")

    async def _attend(self, stream: ByteStream) -> None:
        from nanoclaw_core.supervise import survive  # here, because clients need no log

        async with stream:
            await survive("control connection", _Connection(LineStream(stream), self._host, self._stop).run())


def _bind(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # so that the socket is never open to others, not even for a moment
    try:
        path.unlink(missing_ok=True)
        listening.bind(str(path))
        listening.listen(64)
    except OSError as error:
        listening.close()
        raise HomeUnusable(path.parent, f"no socket can be made at {path.name} ({error})") from error
    finally:
        os.umask(before)
    return listening


class _Connection:
    """One client, its requests answered one after the other, and the chat it has open."""

    def __init__(self, lines: LineStream, host: ControlledHost, stop: Callable[[], None]) -> None:
        self._lines = lines
        self._host = host
        self._stop = stop
        self._chat: str | None = None
        self._viewer: Viewer | None = None
        self._methods: dict[str, Callable[[Json], Awaitable[Json]]] = {
            "version": self._version,
            "status": self._status,
            "stop": self._stop_host,
            "chat.open": self._open,
            "chat.send": self._send,
            "chat.close": self._close,
            "chat.seen": self._seen,
            **host.operations,
        }

    async def run(self) -> None:
        async with anyio.create_task_group() as self._tasks:
            try:
                while (line := await self._lines.read()) is not None and await self._answer(line):
                    pass
            except LineTooLong as error:
                await self._reply({"id": None, "error": _error(_INVALID_REQUEST, str(error))})
            except ConnectionError:
                pass  # the client left
            self._tasks.cancel_scope.cancel()

    async def _answer(self, line: bytes) -> bool:
        """Answer one request; False ends the connection: what comes on it is not the protocol."""
        try:
            request = _parse_request(line)
        except _Invalid as error:
            await self._reply({"id": None, "error": _error(error.code, str(error))})
            return False
        try:
            reply: Json = {"result": await self._call(request["method"], request.get("params", {}))}
        except _Invalid as error:
            reply = {"error": _error(error.code, str(error))}
        except NanoClawError as error:
            reply = {"error": _error(_FAILED, str(error), exit_code=error.exit_code)}
        if "id" in request:
            await self._reply({"id": request["id"], **reply})
        if request["method"] == "stop":
            self._stop()  # after the reply: it ends this connection too
        return True

    async def _call(self, method: str, params: Json) -> Json:
        if method not in self._methods:
            raise _Invalid(_METHOD_NOT_FOUND, f"there is no method {method!r}; there are {', '.join(self._methods)}")
        return await self._methods[method](params)

    async def _reply(self, message: Json) -> None:
        await self._lines.write(encode(message))

    async def _version(self, _params: Json) -> Json:
        return {"version": __version__, "pid": os.getpid()}

    async def _status(self, _params: Json) -> Json:
        return await self._host.status()

    async def _stop_host(self, _params: Json) -> Json:
        # This copy of the connection is closed by the end of the process alone: so the client sees when the host is gone.
        os.dup(self._lines.socket.fileno())
        return {"pid": os.getpid()}

    async def _open(self, params: Json) -> Json:
        agent, chat = await self._host.terminal_chat(_text(params, "agent") if params.get("agent") is not None else None)
        await self._close({})
        self._chat, self._viewer = chat, await self._tasks.start(self._show, chat)
        return {"agent": agent, "chat": chat, "notices": self._host.greeting()}

    async def _send(self, params: Json) -> Json:
        if self._chat is None:
            raise _Invalid(_INVALID_REQUEST, "no chat is open")
        accepted = await self._host.terminal.say(self._chat, _text(params, "text"), _text(params, "message_id"))
        return {"accepted": accepted}

    async def _close(self, _params: Json) -> Json:
        if self._viewer is not None:
            self._viewer.detach()
        self._chat = self._viewer = None
        return {}

    async def _seen(self, params: Json) -> Json:
        if self._viewer is not None and isinstance(params.get("number"), int):
            self._viewer.confirm(params["number"])
        return {}

    async def _show(self, chat: str, *, task_status: TaskStatus[Viewer]) -> None:
        """Write the chat's updates to the client; when the channel gives this client up, the connection ends."""
        with self._host.terminal.attach(chat) as viewer:
            task_status.started(viewer)
            try:
                async for number, update in viewer:
                    await self._reply(_notification(number, update))
            except ConnectionError:
                pass  # the client left
            if viewer is self._viewer:
                self._tasks.cancel_scope.cancel()


def _parse_request(line: bytes) -> Json:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise _Invalid(_PARSE_ERROR, f"this is not JSON: {error}") from error
    if not isinstance(request, dict) or not isinstance(request.get("method"), str):
        raise _Invalid(_INVALID_REQUEST, "a request is an object with a method")
    if not isinstance(request.get("params", {}), dict):
        raise _Invalid(_INVALID_REQUEST, "params must be an object")
    return request


def _text(params: Json, name: str) -> str:
    value = params.get(name)
    if not isinstance(value, str):
        raise _Invalid(_INVALID_PARAMS, f"{name} must be a text")
    return value


def _error(code: int, message: str, exit_code: int = 1) -> Json:
    return {"code": code, "message": message, "data": {"exit_code": exit_code}}


def _notification(number: int, update: Update) -> Json:
    kind = {"Said": "message", "Working": "working", "Settled": "settled", "Notice": "notice"}[type(update).__name__]
    return {"method": f"chat.{kind}", "params": {"number": number, **asdict(update)}}


class LineStream:
    """JSON objects over a Unix socket, one in a line; several tasks may write.

    anyio's own reading from Unix sockets logs an error when it is cancelled in the moment in which data arrives; its waiting
    does not.
    """

    def __init__(self, stream: ByteStream) -> None:
        self.socket: socket.socket = stream.extra(SocketAttribute.raw_socket)  # noqa: S610 (anyio's extra, not Django's)
        self._buffer = bytearray()
        self._writing = anyio.Lock()

    async def read(self) -> bytes | None:
        """The next line, or None when the other side has left.

        Raises:
            LineTooLong: it is no use to read on.
        """
        await anyio.lowlevel.checkpoint()  # a client that floods must not keep the event loop for itself
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            if searched > LINE_LIMIT:
                raise LineTooLong(f"a line is longer than {LINE_LIMIT:,} bytes")
            await anyio.wait_readable(self.socket)
            try:
                chunk = self.socket.recv(1 << 18)
            except OSError:
                return None
            if not chunk:
                return None
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    async def write(self, line: bytes) -> None:
        """Raises ConnectionError when the other side has left."""
        async with self._writing:
            rest = memoryview(line)
            while rest:
                try:
                    rest = rest[self.socket.send(rest) :]
                except BlockingIOError:
                    await anyio.wait_writable(self.socket)


def encode(message: Json) -> bytes:
    """One line of the protocol. Lone surrogates become '?': texts were cleaned before."""
    return json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
