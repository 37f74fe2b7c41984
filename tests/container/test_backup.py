"""A backup with real containers: what an agent left in its folder is read by nobody but a container."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from nanoclaw_core.backup.making import Backup, Wanted
from nanoclaw_core.backup.records import Manifest
from nanoclaw_core.backup.restoring import restore
from nanoclaw_core.backup.workspaces import BACKUP_LABEL, Workspaces
from nanoclaw_core.errors import ContainerFailed
from nanoclaw_core.models import ContainerSpec, Limits
from nanoclaw_core.sandbox.docker import DockerRuntime
from nanoclaw_core.sandbox.image import WorkerImage
from nanoclaw_core.store.installation import known_id
from nanoclaw_core.supervise import SystemClock
from tests.container.house import container_of, docker, inspect, living_host

pytestmark = pytest.mark.container

#: What an agent may think of: each line is run in its container.
HOSTILE = (
    "mkfifo pipe",
    "ln -s /etc/shadow shadow",
    "ln -s /backup/1 neighbour",
    """printf odd > "$(printf 'new\\nline_\\377')" """,
    "truncate -s 1T holes",
    "printf secret > closed && chmod 000 closed",
    """python3 -c "import socket; socket.socket(socket.AF_UNIX).bind('socket')" """,
    "mkdir a; setsid sh -c 'while :; do echo growing >> grows; mv a b || mv b a; done' >/dev/null 2>&1 & echo begun",
    "printf remember > notes",
)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nc") as path:
        yield Path(path)


async def back_up(home: Path, file: Path) -> Manifest:
    runtime = DockerRuntime()
    workspaces = Workspaces(runtime=runtime, image=await WorkerImage(runtime).tag())
    with file.open("wb") as out:
        return await Backup(home=home, clock=SystemClock(), wanted=Wanted(workspaces=workspaces)).write(out)


async def test_hostile_files_harm_no_backup_and_the_rest_comes_back(folder: Path) -> None:
    async with living_host() as person:
        for line in HOSTILE:
            await person.ask(f"!bash {line}")
        made = await back_up(person.host.settings.home, folder / "backup")
        installation = await person.host.database.read(known_id)
        assert docker("ps", "-aq", "--filter", f"label={BACKUP_LABEL}={installation}") == ""
        assert inspect(container_of(person))["State"]["Running"]
    assert {name: reason for name, reason in made.left_out if "/state/" not in name} == {
        "groups/main/pipe": "a named pipe",
        "groups/main/socket": "a socket",
        "groups/main/closed": "its permissions forbid reading it",
    }
    await to_thread.run_sync(partial(restore, folder / "backup", folder / "home", SystemClock(), replace=False))
    main = folder / "home" / "groups" / "main"
    assert (main / "notes").read_text() == "remember"
    assert (main / "shadow").readlink() == Path("/etc/shadow")
    assert (main / "neighbour").readlink() == Path("/backup/1")
    assert (main / os.fsdecode(b"new\nline_\xff")).read_text() == "odd"
    assert (main / "holes").stat().st_size == 1 << 40
    assert set((main / "grows").read_text().splitlines()[:-1]) == {"growing"}
    assert sorted(path.name for path in main.iterdir() if path.name not in ("a", "b")) == sorted(
        ["notes", "shadow", "neighbour", os.fsdecode(b"new\nline_\xff"), "holes", "grows"]
    )


async def spec_of(*argv: str) -> ContainerSpec:
    return ContainerSpec(
        name=f"nanoclaw-test-{secrets.token_hex(4)}",
        image=await WorkerImage(DockerRuntime()).tag(),
        argv=argv,
        user="70007:70007",
        mounts=(),
        environment={},
        labels={"nanoclaw.test": "read"},
        limits=Limits(memory=128 << 20, cpus=1.0, pids=32, tmp=8 << 20),
    )


def left(spec: ContainerSpec) -> str:
    return docker("ps", "-aq", "--filter", f"name={spec.name}")


async def test_all_that_a_container_writes_is_read_and_it_is_gone() -> None:
    spec = await spec_of("python3", "-c", "import sys; sys.stdout.buffer.write(bytes(range(256)) * 40000)")
    async with DockerRuntime().read(spec) as pieces:
        found = inspect(spec.name)
        assert b"".join([piece async for piece in pieces]) == bytes(range(256)) * 40000
    walls = found["HostConfig"]
    assert (walls["NetworkMode"], walls["CapDrop"], walls["ReadonlyRootfs"]) == ("none", ["ALL"], True)
    assert walls["LogConfig"]["Type"] == "none"
    assert left(spec) == ""


async def test_a_container_that_fails_says_why_where_its_output_ends() -> None:
    spec = await spec_of("sh", "-c", "echo half; echo why it broke >&2; exit 3")
    heard = []

    async def listen() -> None:
        async with DockerRuntime().read(spec) as pieces:
            async for piece in pieces:
                heard.append(piece)  # noqa: PERF401  # what came before the error counts

    with pytest.raises(ContainerFailed, match="why it broke"):
        await listen()
    assert heard == [b"half\n"]
    assert left(spec) == ""


async def test_a_reader_that_leaves_early_leaves_no_container() -> None:
    spec = await spec_of("sh", "-c", "while :; do echo more; done")
    with anyio.fail_after(30):
        async with DockerRuntime().read(spec) as pieces:
            await anext(pieces)
    assert left(spec) == ""
