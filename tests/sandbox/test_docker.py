"""The Docker runtime against the real engine."""

from __future__ import annotations

import json
import re
import tarfile
import tempfile
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio import to_thread
from docker import APIClient

from nanoclaw_core.errors import ContainerFailed, ImageBuildFailed, RuntimeUnavailable
from nanoclaw_core.models import ContainerSpec, ContainerState, Limits, Mount
from nanoclaw_core.sandbox.docker import DockerRuntime
from nanoclaw_core.sandbox.orphans import sweep
from nanoclaw_core.sandbox.spec import INSTALLATION_LABEL, WORKER_LABEL
from tests.peers.docker_relay import CuttableSocket
from tests.sandbox.conftest import Start, dockerfile_context

pytestmark = pytest.mark.container


async def docker(*argv: str) -> str:
    """What the `docker` command prints: an opinion besides our own."""
    return (await anyio.run_process(["docker", *argv])).stdout.decode()


async def inspect(container_id: str) -> Any:  # JSON
    return json.loads(await docker("inspect", container_id))[0]


async def end_of(runtime: DockerRuntime, labels: Mapping[str, str]) -> ContainerState:
    """The first container with `labels` that has ended."""
    async with aclosing(runtime.watch(labels)) as ends:
        async for state in ends:
            for ended in [state] if state else await runtime.containers(labels):
                if not ended.running:
                    return ended
    raise AssertionError("the watch ended")


@pytest.fixture(autouse=True)
async def in_time() -> AsyncIterator[None]:
    with anyio.fail_after(60):
        yield


async def test_check_names_the_engine_and_its_version(runtime: DockerRuntime) -> None:
    assert re.fullmatch(r"Docker \d+\.\S+ \(API 1\.\d+\)", await runtime.check())


async def test_a_container_has_every_promised_wall(start: Start) -> None:
    found = await inspect(await start("sleep", "60"))
    host = found["HostConfig"]
    assert {
        "network": host["NetworkMode"],
        "capabilities": (host["CapDrop"], host["CapAdd"], host["Privileged"]),
        "privileges": host["SecurityOpt"],
        "root": host["ReadonlyRootfs"],
        "init": bool(host["Init"]),
        "memory": (host["Memory"], host["MemorySwap"]),
        "cpus": host["NanoCpus"],
        "pids": host["PidsLimit"],
        "ipc": host["IpcMode"],
        "tmp": host["Tmpfs"],
        "log": host["LogConfig"],
        "oom": host["OomScoreAdj"],
        "user": found["Config"]["User"],
    } == {
        "network": "none",
        "capabilities": (["ALL"], None, False),
        "privileges": ["no-new-privileges:true"],
        "root": True,
        "init": False,
        "memory": (64 << 20, 64 << 20),
        "cpus": 500_000_000,
        "pids": 32,
        "ipc": "private",
        "tmp": {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={8 << 20}"},  # noqa: S108
        "log": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "2"}},
        "oom": 500,
        "user": "70007:70007",
    }


async def test_the_walls_stand_inside(start: Start, runtime: DockerRuntime, labels: dict[str, str]) -> None:
    look = "id -u; ls /sys/class/net; grep CapBnd /proc/self/status; touch /x 2>&1; echo ok > /tmp/x && cat /tmp/x"
    container_id = await start("sh", "-c", look)
    await end_of(runtime, labels)
    seen = (await runtime.output(container_id, 4096)).decode()
    assert seen.splitlines() == [
        "70007",
        "lo",
        "CapBnd:\t0000000000000000",
        "touch: cannot touch '/x': Read-only file system",
        "ok",
    ]


async def test_a_mount_is_read_only_unless_the_spec_says_otherwise(
    start: Start, runtime: DockerRuntime, labels: dict[str, str]
) -> None:
    with tempfile.TemporaryDirectory(prefix="nc") as folder:
        Path(folder).chmod(0o777)  # noqa: ASYNC240
        mounts = (
            Mount(source=Path(folder), target="/shown"),
            Mount(source=Path(folder), target="/given", read_only=False),
        )
        await start("sh", "-c", "touch /shown/a; touch /given/b", mounts=mounts)
        await end_of(runtime, labels)
        assert [path.name for path in Path(folder).iterdir()] == ["b"]  # noqa: ASYNC240


async def test_the_first_line_arrives_and_then_the_input_ends(
    start: Start, runtime: DockerRuntime, labels: dict[str, str]
) -> None:
    container_id = await start("sh", "-c", "cat; echo '[end of input]'", first_line=b'{"secret": "s3"}\n')
    await end_of(runtime, labels)
    assert await runtime.output(container_id, 4096) == b'{"secret": "s3"}\n[end of input]\n'


async def test_a_first_line_of_a_megabyte_arrives_whole(start: Start, runtime: DockerRuntime, labels: dict[str, str]) -> None:
    container_id = await start("sh", "-c", "wc -c", first_line=b"x" * 1_000_000 + b"\n")
    await end_of(runtime, labels)
    assert await runtime.output(container_id, 4096) == b"1000001\n"


async def test_who_looks_at_the_input_later_finds_nothing(start: Start, runtime: DockerRuntime, labels: dict[str, str]) -> None:
    later = "import sys; sys.stdin.readline(); sys.stdin.close(); print(open('/proc/1/fd/0', 'rb').read())"
    container_id = await start("python3", "-c", later, first_line=b"secret\n")
    await end_of(runtime, labels)
    assert await runtime.output(container_id, 4096) == b"b''\n"


async def test_the_first_line_is_in_no_record_of_the_engine(start: Start) -> None:
    container_id = await start("sleep", "60", first_line=b"s3cr3t-first-line\n")
    assert "s3cr3t" not in json.dumps(await inspect(container_id))


async def test_proxies_of_the_users_docker_configuration_stay_out(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxies = {"proxies": {"default": {"httpProxy": "http://user:password@proxy:3128"}}}
    (tmp_path / "config.json").write_text(json.dumps(proxies))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    found = await inspect(await start("sleep", "60"))
    assert not [variable for variable in found["Config"]["Env"] if "proxy" in variable.lower()]


async def test_a_death_is_told_with_its_exit_code(start: Start, runtime: DockerRuntime, labels: dict[str, str]) -> None:
    async with aclosing(runtime.watch(labels)) as ends:
        assert await anext(ends) is None
        container_id = await start("sh", "-c", "exit 7")
        ended = await anext(ends)
    assert ended is not None
    assert (ended.id, ended.running, ended.exit_code, ended.out_of_memory) == (container_id, False, 7, False)
    assert ended.labels.items() >= labels.items()


async def test_a_death_by_hunger_for_memory_is_told_as_such(
    start: Start, runtime: DockerRuntime, labels: dict[str, str]
) -> None:
    async with aclosing(runtime.watch(labels)) as ends:
        await anext(ends)
        await start("python3", "-c", "bytearray(500_000_000)")
        ended = await anext(ends)
    assert ended is not None
    assert (ended.exit_code, ended.out_of_memory) == (137, True)


async def test_a_container_removed_at_its_death_is_told_as_well(
    start: Start, runtime: DockerRuntime, labels: dict[str, str]
) -> None:
    async with aclosing(runtime.watch(labels)) as ends:
        await anext(ends)
        container_id = await start("sleep", "60")
        await runtime.remove(container_id)
        ended = await anext(ends)
    assert ended is not None
    assert (ended.id, ended.running) == (container_id, False)
    assert ended.labels.items() >= labels.items()


async def test_a_cancelled_watch_ends_at_once(runtime: DockerRuntime, labels: dict[str, str]) -> None:
    with anyio.move_on_after(5) as scope:
        async for _ in runtime.watch(labels):
            scope.cancel()
    assert scope.cancelled_caught


async def test_a_watch_ends_with_an_error_when_the_connection_breaks(labels: dict[str, str]) -> None:
    async with CuttableSocket() as relay:
        ends = DockerRuntime(relay.address).watch(labels)
        await anext(ends)
        await relay.cut()
        with pytest.raises(RuntimeUnavailable, match="events ended"):
            await anext(ends)


async def test_after_the_engine_is_back_everything_goes_on(labels: dict[str, str]) -> None:
    async with CuttableSocket() as relay:
        runtime = DockerRuntime(relay.address)
        await runtime.check()
        await relay.cut()
        with pytest.raises(RuntimeUnavailable, match="does not answer"):
            await runtime.containers(labels)
        await relay.mend()
        assert await runtime.containers(labels) == []


async def test_a_flood_of_output_is_bounded(start: Start, runtime: DockerRuntime, labels: dict[str, str]) -> None:
    container_id = await start("sh", "-c", "yes 'flood' | head -c 6000000; echo last")
    await end_of(runtime, labels)
    output = await runtime.output(container_id, 10_000_000)
    assert len(output) < 2_000_000
    assert output.endswith(b"last\n")


async def test_no_more_of_the_output_comes_than_was_asked_for(
    start: Start, runtime: DockerRuntime, labels: dict[str, str]
) -> None:
    container_id = await start("sh", "-c", "echo first; echo last")
    await end_of(runtime, labels)
    assert await runtime.output(container_id, 5) == b"last\n"


async def test_a_container_that_does_not_listen_is_killed_after_the_grace(start: Start, runtime: DockerRuntime) -> None:
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    container_id = await start("python3", "-c", deaf)
    while not await runtime.output(container_id, 10):
        await anyio.lowlevel.checkpoint()
    await runtime.stop(container_id, 0.1)
    assert (await inspect(container_id))["State"]["ExitCode"] == 137


async def used_cores(container_id: str) -> int:
    """Nanoseconds of a core that it has used."""

    def ask() -> int:
        with closing(APIClient()) as client:
            return int(client.stats(container_id, stream=False, one_shot=True)["cpu_stats"]["cpu_usage"]["total_usage"])

    return await to_thread.run_sync(ask)


async def state_of(runtime: DockerRuntime, labels: Mapping[str, str]) -> ContainerState:
    (state,) = await runtime.containers(labels)
    return state


async def test_a_paused_container_uses_no_core_until_it_is_resumed(
    start: Start, runtime: DockerRuntime, labels: dict[str, str]
) -> None:
    container_id = await start("sh", "-c", "while :; do :; done")
    for _ in range(2):  # the second time changes nothing
        await runtime.pause(container_id)
    state = await state_of(runtime, labels)
    assert (state.running, state.paused) == (True, True)
    assert await used_cores(container_id) == await used_cores(container_id)
    for _ in range(2):
        await runtime.resume(container_id)
    assert (await state_of(runtime, labels)).paused is False
    before = await used_cores(container_id)
    while await used_cores(container_id) == before:
        await anyio.lowlevel.checkpoint()


async def test_a_paused_container_is_stopped_in_order(start: Start, runtime: DockerRuntime) -> None:
    polite = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    container_id = await start("sh", "-c", polite)
    while not await runtime.output(container_id, 10):
        await anyio.lowlevel.checkpoint()
    await runtime.pause(container_id)
    await runtime.stop(container_id, 20)
    assert await runtime.output(container_id, 4) == b"bye\n"


async def test_a_paused_container_can_be_removed(start: Start, runtime: DockerRuntime, labels: dict[str, str]) -> None:
    container_id = await start("sleep", "60")
    await runtime.pause(container_id)
    await runtime.remove(container_id)
    assert await runtime.containers(labels) == []


async def test_the_death_of_a_paused_container_is_told(start: Start, runtime: DockerRuntime, labels: dict[str, str]) -> None:
    async with aclosing(runtime.watch(labels)) as ends:
        await anext(ends)
        container_id = await start("sleep", "60")
        await runtime.pause(container_id)
        await docker("kill", container_id)
        ended = await anext(ends)
    assert ended is not None
    assert (ended.id, ended.running, ended.paused) == (container_id, False, False)


async def test_memory_is_what_a_container_holds_without_copies_of_files(start: Start, runtime: DockerRuntime) -> None:
    hold = (
        "import os, time; held = bytearray(b'x') * 20_000_000; file = open('/given/file', 'wb');"
        " file.write(b'y' * 30_000_000); os.fsync(file); print('ready', flush=True); time.sleep(60)"
    )
    with tempfile.TemporaryDirectory(prefix="nc") as folder:
        Path(folder).chmod(0o777)  # noqa: ASYNC240
        given = Mount(source=Path(folder), target="/given", read_only=False)
        container_id = await start("python3", "-c", hold, mounts=(given,))
        while not await runtime.output(container_id, 10):
            await anyio.lowlevel.checkpoint()
        await runtime.pause(container_id)
        assert 20_000_000 < await runtime.memory(container_id) < 45_000_000


async def test_a_container_that_is_gone_can_be_paused_resumed_and_measured(start: Start, runtime: DockerRuntime) -> None:
    container_id = await start("sleep", "60")
    await runtime.stop(container_id, 0)
    for _ in ("ended", "removed"):
        await runtime.pause(container_id)
        await runtime.resume(container_id)
        assert await runtime.memory(container_id) == 0
        await runtime.remove(container_id)


async def test_a_container_that_is_gone_can_be_stopped_removed_and_read(start: Start, runtime: DockerRuntime) -> None:
    container_id = await start("sleep", "60")
    await runtime.stop(container_id, 0)
    await runtime.stop(container_id, 0)
    await runtime.remove(container_id)
    await runtime.remove(container_id)
    await runtime.stop(container_id, 0)
    assert await runtime.output(container_id, 10) == b""


async def test_a_container_that_cannot_start_is_an_error_and_leaves_nothing(
    start: Start, runtime: DockerRuntime, labels: dict[str, str]
) -> None:
    runtime_only = Mount(source=Path("/"), target="/usr/bin/tini")  # a folder where the entry point should be
    with pytest.raises(ContainerFailed, match="nanoclaw-test-"):
        await start("true", mounts=(runtime_only,))
    assert await runtime.containers(labels) == []


async def test_a_missing_mount_source_is_an_error_and_is_not_made(start: Start, tmp_path: Path) -> None:
    with pytest.raises(ContainerFailed, match="missing"):
        await start("true", mounts=(Mount(source=tmp_path / "missing", target="/x"),))
    assert not (tmp_path / "missing").exists()


async def test_a_missing_image_is_named(runtime: DockerRuntime) -> None:
    limits = Limits(memory=64 << 20, cpus=1, pids=32, tmp=1 << 20)
    spec = ContainerSpec(
        name="nanoclaw-test-nothing", image="nanoclaw-worker:gone", argv=(), user="1:1", mounts=(), environment={}, labels={},
        limits=limits,
    )  # fmt: skip
    with pytest.raises(ContainerFailed, match=r"nanoclaw-worker:gone is not there"):
        await runtime.start(spec, b"")


async def test_a_sweep_ends_our_orphans_and_leaves_everybody_elses(
    start: Start, runtime: DockerRuntime, tmp_path: Path
) -> None:
    ours, theirs = uuid.uuid4().hex, uuid.uuid4().hex
    known = await start("sleep", "60", more_labels={INSTALLATION_LABEL: ours, WORKER_LABEL: "w1"})
    orphan = await start("sleep", "60", more_labels={INSTALLATION_LABEL: ours, WORKER_LABEL: "w2"})
    other = await start("sleep", "60", more_labels={INSTALLATION_LABEL: theirs, WORKER_LABEL: "w3"})
    assert [state.id for state in await sweep(runtime, ours, {"w1"}, tmp_path, grace=0)] == [orphan]
    left = [state.id for name in (ours, theirs) for state in await runtime.containers({INSTALLATION_LABEL: name})]
    assert left == [known, other]


async def test_a_build_reports_its_lines(runtime: DockerRuntime, small_image: str) -> None:
    lines: list[str] = []
    await runtime.build_image(
        dockerfile_context("nanoclaw-test:said", f"FROM {small_image}\nRUN echo s{uuid.uuid4().hex}"), lines.append
    )
    await docker("rmi", "nanoclaw-test:said")
    assert lines[0].startswith("Step 1/2")
    assert any(re.fullmatch("s[0-9a-f]{32}", line) for line in lines)


async def test_a_failing_build_says_the_last_thing_that_the_command_said(runtime: DockerRuntime, small_image: str) -> None:
    dockerfile = f"FROM {small_image}\nRUN echo starting; echo 'E: no such package: unicorn' >&2; exit 100"
    with pytest.raises(ImageBuildFailed, match=r"nanoclaw-test:bad.*E: no such package: unicorn\."):
        await runtime.build_image(dockerfile_context("nanoclaw-test:bad", dockerfile), print)


async def test_a_silent_failure_of_a_build_says_which_command_it_was(runtime: DockerRuntime, small_image: str) -> None:
    with pytest.raises(ImageBuildFailed, match=r"exit 3.* returned a non-zero code: 3"):
        await runtime.build_image(dockerfile_context("nanoclaw-test:bad", f"FROM {small_image}\nRUN exit 3"), print)


async def test_a_dockerfile_that_makes_no_sense_fails_with_the_reason(runtime: DockerRuntime) -> None:
    with pytest.raises(ImageBuildFailed, match="unknown instruction"):
        await runtime.build_image(dockerfile_context("nanoclaw-test:bad", "NONSENSE"), print)


async def test_a_build_cut_in_the_middle_is_no_success(small_image: str) -> None:
    async with CuttableSocket() as relay, anyio.create_task_group() as tasks:
        begun = anyio.Event()

        async def build() -> None:
            dockerfile = f"FROM {small_image}\nRUN echo begun {uuid.uuid4().hex}; sleep 60"
            context = dockerfile_context("nanoclaw-test:cut", dockerfile)
            with pytest.raises(RuntimeUnavailable):
                await DockerRuntime(relay.address).build_image(context, lambda line: begun.set() if "begun" in line else None)

        tasks.start_soon(build)
        await begun.wait()
        await relay.cut()


async def test_an_archive_becomes_an_image(runtime: DockerRuntime, tmp_path: Path) -> None:
    archive = tmp_path / "root.tar"
    with tarfile.open(archive, "w") as tar:
        tar.addfile(tarfile.TarInfo("etc"))
    tag = f"nanoclaw-test:{uuid.uuid4().hex[:8]}"
    await runtime.import_image(tag, str(archive))
    assert await runtime.has_image(tag)
    await docker("rmi", tag)
    assert not await runtime.has_image(tag)
