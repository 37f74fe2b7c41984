"""A plugin that holds up the event loop of a real host is found, and named by every command that looks."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.packages.parcels import Environment, make_wheel

SLOW = """
import time
from nanoclaw_core import Capabilities, ChannelFactory, hookimpl

class Slow:
    capabilities = Capabilities(max_length=100)

    async def run(self, receive, *, task_status):
        import anyio
        task_status.started()
        fetch()
        await anyio.sleep_forever()

def fetch():
    time.sleep(1.5)  # as a library that knows nothing of event loops

@hookimpl
def nanoclaw_channels():
    return [ChannelFactory(name="slow", summary="", create=lambda context: Slow())]
"""


@pytest.fixture
def host(environment: Environment) -> subprocess.Popen[str]:
    """A host with the plugin, once it is ready."""
    make_wheel(environment.index, "nanoclaw-slow", "1.0", plugin="slow", code=SLOW)
    environment.pip("install", "nanoclaw-slow")
    environment.nanoclaw("plugin", "enable", "slow")
    argv = [str(environment.python), "-m", "nanoclaw_core.cli", "serve"]
    variables = {**environment.variables, "DOCKER_HOST": f"unix://{environment.home}/no-docker.sock"}
    return subprocess.Popen(argv, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_plugin_that_blocks_the_event_loop_is_named(environment: Environment, host: subprocess.Popen[str]) -> None:
    with host:
        try:
            assert host.stdout is not None
            assert "is ready" in host.stdout.readline()
            status = environment.nanoclaw("status")
            checked = json.loads(environment.nanoclaw("doctor", "--json", code=1))
        finally:
            host.terminate()
            _, log = host.communicate(timeout=30)
    assert "by the plugin slow (nanoclaw_slow.fetch, line 1" in status
    (line,) = (line for line in checked["checks"] if line["name"] == "event loop")
    assert (line["status"], "by plugins: slow (1 times)" in line["reason"]) == ("warn", True)
    assert "`nanoclaw plugin disable slow`" in line["fix"]
    events = [json.loads(line) for line in log.splitlines()]
    assert [event["plugin"] for event in events if event["event"] == "loop.blocked"] == ["slow"]
    changes = [event["change"] for event in events if event["event"] == "plugins.changed_outside"]
    assert changes == ["nanoclaw-slow 1.0 was installed with pip"]
