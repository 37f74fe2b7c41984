"""The SDK works on the stand-ins for `mcp` and `jsonschema`, as far as the runner uses it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from miniature import Home

EXERCISE = """
import json, sys
from pathlib import Path
import anyio
from nanoclaw_runner.sdk import STAND_INS, import_sdk

import_sdk()
assert Path(sys.modules["mcp"].__file__).is_relative_to(STAND_INS)
assert Path(sys.modules["jsonschema"].__file__).is_relative_to(STAND_INS)
from claude_agent_sdk import ClaudeAgentOptions, ClaudeSDKClient, ResultMessage, Transport

RESULT = {"type": "result", "subtype": "success", "duration_ms": 1, "duration_api_ms": 1, "is_error": False, "num_turns": 1,
          "session_id": "s", "result": "hello", "user_message_uuids": ["u1"]}

class Echo(Transport):
    def __init__(self):
        self.send, self.receive = anyio.create_memory_object_stream(10)
    async def connect(self): pass
    async def end_input(self): pass
    async def close(self): self.send.close()
    def is_ready(self): return True
    async def write(self, data):
        message = json.loads(data)
        if message["type"] == "control_request":
            answer = {"subtype": "success", "request_id": message["request_id"], "response": {}}
            await self.send.send({"type": "control_response", "response": answer})
        else:
            await self.send.send(RESULT)
    async def read_messages(self):
        async for message in self.receive:
            yield message

async def one():
    yield {"type": "user", "uuid": "u1", "message": {"role": "user", "content": "hi"}}

async def main():
    async with ClaudeSDKClient(ClaudeAgentOptions(), transport=Echo()) as client:
        await client.query(one())
        await client.interrupt()
        async for message in client.receive_response():
            assert isinstance(message, ResultMessage) and message.user_message_uuids == ["u1"]
    print("works")

anyio.run(main)
"""


def run_python(code: str, *folders: Path) -> subprocess.CompletedProcess[bytes]:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(map(str, [*folders, Home.runner]))}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment, timeout=60, check=False)


def test_a_client_works_on_the_stand_ins() -> None:
    done = run_python(EXERCISE)
    assert done.stdout == b"works\n", done.stderr.decode()


def test_the_real_modules_are_taken_when_the_stand_ins_do_not_do(tmp_path: Path) -> None:
    (tmp_path / "mcp").mkdir()
    (tmp_path / "mcp" / "__init__.py").touch()  # a stand-in that lacks what a later SDK wants
    code = (
        "import sys; from pathlib import Path; import nanoclaw_runner.sdk as sdk;"
        f"sdk.STAND_INS = Path({str(tmp_path)!r}); sdk.import_sdk(); print(sys.modules['mcp'].__file__)"
    )
    done = run_python(code)
    assert b"site-packages" in done.stdout, done.stderr.decode()
