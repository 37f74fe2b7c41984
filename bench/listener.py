"""The least that a host could be: a bare Python that answers a line on a Unix socket: `python -m bench.listener SOCKET`."""

from __future__ import annotations

import asyncio
import sys


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    await writer.drain()
    writer.close()


async def _listen(path: str) -> None:
    async with await asyncio.start_unix_server(_answer, path) as server:
        print(path, flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_listen(sys.argv[1]))
