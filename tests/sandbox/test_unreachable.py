"""A container runtime that does not answer is told in plain words."""

from __future__ import annotations

import asyncio
import re
import tempfile
from pathlib import Path

import anyio
import pytest

from nanoclaw_core.builtins import docker_runtime
from nanoclaw_core.errors import RuntimeUnavailable
from nanoclaw_core.sandbox.docker import DockerRuntime
from nanoclaw_core.sandbox.words import unreachable


@pytest.mark.parametrize(
    ("program", "address", "says"),
    [
        ("/usr/bin/docker", "", "it is installed, but not started. Start it: "),
        (None, "", "it is not installed. Install it: "),
        (None, "unix:///wrong.sock", "nothing is at DOCKER_HOST=unix:///wrong.sock. Correct DOCKER_HOST, or unset it."),
    ],
    ids=["not started", "not installed", "wrong place"],
)
async def test_a_missing_socket_has_three_reasons(
    program: str | None, address: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: program)
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(RuntimeUnavailable, match=re.escape(says)):
        await DockerRuntime(f"unix://{tmp_path}/none.sock").check()


async def test_a_socket_on_which_nobody_listens_is_named_as_the_reason() -> None:
    with tempfile.TemporaryDirectory(prefix="nc") as folder:
        listener = await anyio.create_unix_listener(f"{folder}/d.sock")
        await listener.aclose()
        with pytest.raises(RuntimeUnavailable, match="nobody listens on its socket"):
            await DockerRuntime(f"unix://{folder}/d.sock").check()


async def test_a_hung_engine_is_given_up_after_the_timeout() -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    with tempfile.TemporaryDirectory(prefix="nc") as folder:
        async with await asyncio.start_unix_server(hang, f"{folder}/d.sock"):
            with pytest.raises(RuntimeUnavailable, match="no answer within"):
                await DockerRuntime(f"unix://{folder}/d.sock", timeout=0.05).check()


async def test_watching_an_engine_that_is_away_fails_at_once(tmp_path: Path) -> None:
    with pytest.raises(RuntimeUnavailable):
        await anext(DockerRuntime(f"unix://{tmp_path}/none.sock").watch({}))


def test_a_forbidden_socket_comes_with_the_command_that_helps() -> None:
    error = unreachable(PermissionError(13, "Permission denied"), 30)
    assert "usermod -aG docker" in str(error)


def test_another_reason_is_passed_on_as_it_is() -> None:
    assert "TLS handshake broke" in str(unreachable(OSError("TLS handshake broke"), 30))


def test_docker_is_offered_without_importing_its_library() -> None:
    (offer,) = docker_runtime.nanoclaw_runtimes()
    assert offer.name == "docker"
    assert not hasattr(docker_runtime, "docker")
