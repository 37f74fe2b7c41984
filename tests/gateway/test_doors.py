"""Each worker has a socket of its own, which alone says who it is."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from nanoclaw_core.builtins.demo import Demo
from nanoclaw_core.errors import HomeUnusable
from nanoclaw_core.gateway.server import Gateway


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def open_files() -> int:
    return len(list(Path("/dev/fd").iterdir()))


async def test_a_worker_can_connect_but_nobody_reaches_it_without_its_mount(rig: Any) -> None:
    assert [mode(path) for path in (rig.socket, rig.socket.parent, rig.socket.parents[1])] == [0o666, 0o755, 0o700]


async def test_the_umask_changes_nothing(short_folder: Path, heard: Any, calls: Any, identity: Any) -> None:
    before = os.umask(0o077)
    try:
        async with Gateway(short_folder / "w", heard, Demo(), [], calls) as gateway:
            folder = await gateway.open(identity("w1"))
            assert (mode(folder), mode(folder / "gateway.sock")) == (0o755, 0o666)
    finally:
        os.umask(before)


async def test_only_declared_paths_exist_and_refusals_are_json(rig: Any) -> None:
    for path in ("/", "/v1/files", "/v1/messages/batches", "/v1/models", "/link/../v1/files", "/mcp/"):
        status, headers, body = await rig.ask(path, {})
        assert (status, body["type"], body["error"]["type"]) == (404, "error", "not_found_error"), path
        assert headers["x-should-retry"] == "false"


async def test_a_wrong_method_is_refused_in_json(rig: Any) -> None:
    async with rig.client.get("http://gateway/v1/messages") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")
        assert (await answer.json())["type"] == "error"


async def test_a_stale_socket_is_replaced_in_the_same_folder(short_folder: Path, heard: Any, calls: Any, identity: Any) -> None:
    """A container has the folder mounted, so a new folder of that name would be another one."""
    folder = short_folder / "w" / "w1"
    folder.mkdir(parents=True)
    inode = folder.stat().st_ino
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(folder / "gateway.sock"))
    async with Gateway(short_folder / "w", heard, Demo(), [], calls) as gateway:
        assert (await gateway.open(identity("w1"))).stat().st_ino == inode
        connector = aiohttp.UnixConnector(str(folder / "gateway.sock"))
        async with aiohttp.ClientSession(connector=connector) as client, client.get("http://gateway/") as answer:
            assert answer.status == 404
    assert folder.stat().st_ino == inode  # it outlives the host, as the container may


async def test_closing_breaks_connections_and_removes_the_folder(rig: Any) -> None:
    async with rig.link() as link:
        await rig.heard.wait_for("connected")
        await rig.gateway.close("w1")
        assert (await link.receive_json())["type"] == "welcome"
        assert (await link.receive()).type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
    await rig.heard.wait_for("disconnected")
    assert not rig.socket.parent.exists()
    await rig.gateway.close("w1")
    await rig.gateway.close("never-seen")


async def test_a_path_too_long_for_a_socket_is_refused_with_its_length(
    short_folder: Path, heard: Any, calls: Any, identity: Any
) -> None:
    async with Gateway(short_folder / ("d" * 80), heard, Demo(), [], calls) as gateway:
        with pytest.raises(HomeUnusable, match=r"has \d+ bytes"):
            await gateway.open(identity("w" * 40))


async def test_a_root_that_cannot_be_made_is_named(short_folder: Path, heard: Any, calls: Any) -> None:
    (short_folder / "file").write_text("")
    with pytest.raises(HomeUnusable, match="file"):
        async with Gateway(short_folder / "file" / "w", heard, Demo(), [], calls):
            pass


async def test_a_hundred_workers_leak_nothing(short_folder: Path, heard: Any, calls: Any, identity: Any) -> None:
    async with Gateway(short_folder / "w", heard, Demo(), [], calls) as gateway:
        before = open_files()
        for number in range(100):
            folder = await gateway.open(identity(f"w{number}"))
            connector = aiohttp.UnixConnector(str(folder / "gateway.sock"))
            async with aiohttp.ClientSession(connector=connector) as client, client.get("http://gateway/") as answer:
                await answer.read()
                await gateway.close(f"w{number}")
        assert list((short_folder / "w").iterdir()) == []
        await anyio.wait_all_tasks_blocked()
        assert open_files() == before


async def test_a_host_that_ends_waits_for_no_worker(make_rig: Any) -> None:
    with anyio.fail_after(30):
        async with make_rig() as rig:
            async with rig.link() as link:
                await link.receive_json()
                await rig.heard.wait_for("connected")
                await rig.gateway.__aexit__(None, None, None)
            await rig.heard.wait_for("disconnected")
            assert rig.socket.parent.is_dir()
