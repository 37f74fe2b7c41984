"""A Unix socket in front of Docker's own that a test can cut and mend."""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

DOCKER_SOCKET = "/var/run/docker.sock"


class CuttableSocket:
    """Relays every connection to `target` while it is whole.

    After `cut()` all connections are broken and nobody listens at `path`; after `mend()` somebody does again. Half-closed
    connections stay half-closed on the other side.
    """

    def __init__(self, target: str = DOCKER_SOCKET) -> None:
        self._target = target
        self._folder = tempfile.TemporaryDirectory(prefix="nc")
        self._server: asyncio.Server | None = None
        self._ends: set[asyncio.StreamWriter] = set()
        self.path = Path(self._folder.name) / "cut.sock"

    @property
    def address(self) -> str:
        """The relay as a Docker host URL."""
        return f"unix://{self.path}"

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()
        self._folder.cleanup()

    async def cut(self) -> None:
        """Break everything, as a daemon that dies does."""
        if self._server is None:
            return
        self._server.close()
        self.path.unlink(missing_ok=True)
        for end in self._ends:
            end.transport.abort()
        await self._server.wait_closed()
        self._server = None

    async def mend(self) -> None:
        """Listen again at the same path."""
        if self._server is None:
            self._server = await asyncio.start_unix_server(self._relay, self.path)

    async def _relay(self, near_reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        far_reader, far = await asyncio.open_unix_connection(self._target)
        self._ends |= {near, far}
        try:
            async with asyncio.TaskGroup() as both_ways:
                both_ways.create_task(_copy(near_reader, far))
                both_ways.create_task(_copy(far_reader, near))
        finally:
            self._ends -= {near, far}
            for end in (near, far):
                end.close()
                with suppress(OSError):
                    await end.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
        writer.write_eof()
