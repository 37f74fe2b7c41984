"""The command line's end of the control socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio

from nanoclaw_core.control import LINE_LIMIT, Json, LineStream, encode, socket_path
from nanoclaw_core.errors import HomeUnusable, HostNotRunning, MessageTooLong, NanoClawError


class RequestFailed(NanoClawError):
    """The host refused a request; text and exit code are the host's."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ControlClient:
    """A connection to the host: `call` asks, `notifications` yields (method, params) until the host is gone."""

    def __init__(self, lines: LineStream, home: Path) -> None:
        self._lines = lines
        self._home = home
        self._asked = 0
        self._replies: dict[int, Json] = {}
        self._waiting: dict[int, anyio.Event] = {}
        self._is_gone = False
        self._into, self.notifications = anyio.create_memory_object_stream[tuple[str, Json]](1_000_000)

    async def call(self, method: str, **params: object) -> Json:
        """Ask the host and return its answer.

        Raises:
            RequestFailed: the host refused. HostNotRunning: it went away. MessageTooLong: nothing was sent.
        """
        self._asked += 1
        number, arrived = self._asked, anyio.Event()
        self._waiting[number] = arrived
        try:
            await self._write({"id": number, "method": method, "params": params})
            await arrived.wait()
        finally:
            del self._waiting[number]
        if number not in self._replies:
            raise HostNotRunning(self._home)
        reply = self._replies.pop(number)
        if "error" in reply:
            raise RequestFailed(reply["error"]["message"], reply["error"]["data"]["exit_code"])
        result: Json = reply["result"]
        return result

    async def tell(self, method: str, **params: object) -> None:
        """Notify the host, which does not answer.

        Raises:
            HostNotRunning: it went away.
        """
        await self._write({"method": method, "params": params})

    async def gone(self) -> None:
        """Wait until the host has closed the connection, dropping what it still says."""
        async for _ in self.notifications:
            pass

    async def _write(self, message: Json) -> None:
        line = encode(message)
        if len(line) > LINE_LIMIT:
            raise MessageTooLong(len(line), LINE_LIMIT)
        if self._is_gone:
            raise HostNotRunning(self._home)
        try:
            await self._lines.write(line)
        except OSError as error:
            raise HostNotRunning(self._home) from error

    async def read(self) -> None:
        """Hand out what arrives until the host closes the connection."""
        with self._into:
            try:
                while (line := await self._lines.read()) is not None:
                    self._take(json.loads(line))
            finally:
                self._is_gone = True
                for arrived in self._waiting.values():
                    arrived.set()

    def _take(self, message: Json) -> None:
        if "method" in message:
            self._into.send_nowait((message["method"], message["params"]))
        elif message.get("id") in self._waiting:
            self._replies[message["id"]] = message
            self._waiting[message["id"]].set()


@asynccontextmanager
async def connect(home: Path) -> AsyncIterator[ControlClient]:
    """Connect to the host that runs on `home`.

    Raises:
        HostNotRunning: nobody listens there. HomeUnusable: the socket cannot be reached at all.
    """
    try:
        stream = await anyio.connect_unix(socket_path(home))
    except (FileNotFoundError, ConnectionError) as error:
        raise HostNotRunning(home) from error
    except OSError as error:
        raise HomeUnusable(home, f"its control socket cannot be reached ({error})") from error
    client = ControlClient(LineStream(stream), home)
    with lone_error():
        async with stream, client.notifications, anyio.create_task_group() as tasks:
            tasks.start_soon(client.read)
            yield client
            tasks.cancel_scope.cancel()


@contextmanager
def lone_error() -> Iterator[None]:
    """Raise the one error out of a task group's group of one, so that callers can catch it by name."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from error.__cause__
