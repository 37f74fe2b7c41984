"""The real Claude Code talks to the gateway and to the demo model through it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import ByteReceiveStream, ByteSendStream, SocketAttribute, SocketStream

from nanoclaw_core.builtins.messaging import nanoclaw_actions

NOBODY = 65534 if os.geteuid() == 0 else os.geteuid()  # Claude Code refuses to skip permissions as root


def claude_code() -> Path:
    """The binary that the SDK brings, if that user may run it."""
    spec = find_spec("claude_agent_sdk")
    if spec is None or spec.origin is None:
        pytest.skip("claude-agent-sdk is not installed")
    binary = Path(spec.origin).parent / "_bundled" / "claude"
    try:
        subprocess.run([binary, "--version"], check=True, capture_output=True, user=NOBODY, cwd="/", env={"HOME": "/"})
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"Claude Code cannot be run here: {error}")
    return binary


@asynccontextmanager
async def relay(socket: Path) -> AsyncIterator[int]:
    """What the runner does inside a container: a port of 127.0.0.1 that leads to the socket."""

    async def pipe(source: ByteReceiveStream, target: ByteSendStream) -> None:
        try:
            async for data in source:
                await target.send(data)
            await target.aclose()
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass

    async def carry(client: SocketStream) -> None:
        async with client, await anyio.connect_unix(str(socket)) as gateway, anyio.create_task_group() as pipes:
            pipes.start_soon(pipe, client, gateway)
            pipes.start_soon(pipe, gateway, client)

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, carry)
        yield int(listener.extra(SocketAttribute.local_port))  # noqa: S610  # this is no Django
        tasks.cancel_scope.cancel()


def home_in(folder: Path) -> Path:
    """A home folder that Claude Code can reach and write."""
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    return home


async def ask_claude(port: int, home: Path, prompt: str) -> dict[str, Any]:
    """Run one turn and return Claude Code's result."""
    url = f"http://127.0.0.1:{port}"
    servers = {"mcpServers": {"nanoclaw": {"type": "http", "url": f"{url}/mcp"}}}
    environment = {
        "HOME": str(home),
        "PATH": os.defpath,
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "placeholder",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "NO_PROXY": "127.0.0.1",
    }
    options = ["--output-format", "json", "--permission-mode", "bypassPermissions", "--mcp-config", json.dumps(servers)]
    with anyio.fail_after(30):
        process = await anyio.run_process(
            [str(claude_code()), "-p", prompt, *options], cwd=home, env=environment, user=NOBODY, group=NOBODY, check=False
        )
    print(process.stderr.decode(), file=sys.stderr)  # noqa: T201  # shown when the test fails
    result: dict[str, Any] = json.loads(process.stdout)
    return result


PROMPT = '<context timezone="UTC" />\n<messages>\n{}\n</messages>'


async def test_claude_code_gets_every_message_of_a_turn_answered(make_rig: Any, short_folder: Path) -> None:
    """Plain words, the Bash tool, and the host's own action, called over MCP, all in one turn."""
    home = home_in(short_folder)
    texts = ["1 &lt; 2", "!bash echo $((6*7))", "!tool send_message {&quot;text&quot;: &quot;yo&quot;}"]
    prompt = PROMPT.format("\n".join(f'<message id="{n}" sender="Ada">{text}</message>' for n, text in enumerate(texts)))
    async with make_rig(actions=list(nanoclaw_actions())) as rig, relay(rig.socket) as port:
        result = await ask_claude(port, home, prompt)
    assert result["result"] == "You said: 1 < 2\n\n42\n\nMessage sent to terminal (id s1)."
    ((text, to, key),) = rig.calls.sent
    assert (text, to) == ("yo", None)
    assert key.startswith("toolu_demo_2_")
