"""The real worker image, as the real runtime starts it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from nanoclaw_core.models import AgentGroup, ContainerSpec, ContainerState, Limits, WorkerIdentity
from nanoclaw_core.sandbox.docker import DockerRuntime
from nanoclaw_core.sandbox.image import WorkerImage, found_ca_bundle
from nanoclaw_core.sandbox.spec import WorkerPlace, prepare_folder, worker_spec, worker_user

pytestmark = pytest.mark.container

Run = Callable[..., Awaitable[tuple[ContainerState, str]]]
"""Runs a worker's container with another command; returns how it ended and what it wrote."""


@pytest.fixture(scope="session")
def worker_image() -> str:
    image = WorkerImage(DockerRuntime(), ca_bundle=found_ca_bundle(os.environ))
    return anyio.run(image.ensure, print)


@pytest.fixture
def spec(worker_image: str, tmp_path: Path) -> ContainerSpec:
    user = worker_user("test-installation")
    uid, gid = map(int, user.split(":"))
    for name in ("workspace", "state"):
        prepare_folder(tmp_path / name, uid, gid)
    for name in ("sockets", "inbox"):
        (tmp_path / name).mkdir()
    for parent in (tmp_path, tmp_path.parent):
        parent.chmod(0o755)
    group = AgentGroup(id="g", name="Image Test", folder="main")
    return worker_spec(
        WorkerPlace(
            identity=WorkerIdentity(worker_id=os.urandom(4).hex(), session_id="s", agent_group=group, secret_hash=""),
            installation_id=f"test-{os.urandom(4).hex()}",
            image=worker_image,
            user=user,
            sockets=tmp_path / "sockets",
            inbox=tmp_path / "inbox",
            workspace=tmp_path / "workspace",
            state=tmp_path / "state",
            limits=Limits(memory=1 << 30, cpus=1, pids=128, tmp=64 << 20),
        )
    )


@pytest.fixture
async def run(spec: ContainerSpec) -> AsyncIterator[Run]:
    runtime = DockerRuntime()

    async def run(*argv: str, first_line: str = "\n") -> tuple[ContainerState, str]:
        other = ContainerSpec(
            name=spec.name, image=spec.image, argv=argv, user=spec.user, mounts=spec.mounts,
            environment=spec.environment, labels=spec.labels, limits=spec.limits,
        )  # fmt: skip
        with anyio.fail_after(60):
            async for ended in runtime.watch(spec.labels):
                if ended:
                    return ended, (await runtime.output(ended.id, 10_000)).decode()
                await runtime.start(other, first_line.encode())
        raise AssertionError("the watch ended")

    yield run
    for container in await runtime.containers(spec.labels):
        await runtime.remove(container.id)


async def test_its_own_command_is_the_runner_which_refuses_a_bad_launch_document(run: Run) -> None:
    ended, output = await run(first_line="{}\n")
    assert (ended.exit_code, "launch document" in output) == (2, True)


async def test_a_file_in_the_workspace_is_not_imported_by_the_runner(run: Run, tmp_path: Path) -> None:
    (tmp_path / "workspace/json.py").write_text("raise SystemExit(99)")
    ended, _ = await run(first_line="{}\n")
    assert ended.exit_code == 2


async def test_the_agents_python_does_not_meet_the_runners_packages(run: Run) -> None:
    ended, output = await run("python3", "-c", "import claude_agent_sdk")
    assert (ended.exit_code, "ModuleNotFoundError" in output) == (1, True)


async def test_the_tools_of_the_trade_are_there(run: Run) -> None:
    ended, output = await run("sh", "-c", "command -v git curl rg python3 && claude --version")
    assert (ended.exit_code, "Claude Code" in output) == (0, True)


async def test_there_is_one_copy_of_claude_code(run: Run) -> None:
    _, output = await run("sh", "-c", "find / -xdev -type f -size +100M 2>/dev/null")
    assert [Path(line).name for line in output.split()] == ["claude"]


async def test_certificates_of_the_build_are_not_in_the_image(run: Run) -> None:
    _, output = await run("sh", "-c", "find / -xdev -name 'ca-bundle.pem*' 2>/dev/null; ls -d /build 2>&1")
    assert "ca-bundle" not in output
    assert "No such file" in output


async def test_compiled_code_is_used_whatever_time_its_source_has(run: Run) -> None:
    flags = "import nanoclaw_runner as r; print(open(r.__cached__, 'rb').read(8)[4])"
    _, output = await run("/opt/nanoclaw/bin/python3", "-I", "-B", "-c", flags)
    assert output == "1\n"  # PEP 552: hash-based, not checked


async def test_the_folders_of_the_protocol_are_what_can_be_written(run: Run) -> None:
    tries = (
        "for d in /workspace /home/agent /tmp / /nanoclaw/sockets /nanoclaw/inbox; do touch $d/x 2>/dev/null && echo $d; done"
    )
    _, output = await run("sh", "-c", tries)
    assert output.split() == ["/workspace", "/home/agent", "/tmp"]  # noqa: S108
