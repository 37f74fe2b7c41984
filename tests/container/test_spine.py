"""The true path: a message at the terminal is answered by Claude Code out of a hardened container."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from nanoclaw_core.models import ContainerSpec
from nanoclaw_core.sandbox.docker import DockerRuntime
from nanoclaw_core.testing import Reply, ScriptedModel
from tests.container.house import container_of, docker, inspect, living_host, until

pytestmark = pytest.mark.container

KEY = "sk-ant-a-key-that-must-never-leave-the-host"


def claude(model: ScriptedModel) -> dict[str, str]:
    """Settings under which the `anthropic` provider asks the scripted model."""
    return {"ANTHROPIC_API_KEY": KEY, "ANTHROPIC_BASE_URL": model.url}


def test_a_piped_line_is_answered_with_what_bash_saw_inside(nanoclaw_home: Path) -> None:
    environment = {**os.environ, "NANOCLAW_HOME": str(nanoclaw_home)}
    nanoclaw = [sys.executable, "-m", "nanoclaw_core.cli"]
    question = "!bash id -u; ls /sys/class/net; echo $((6*7))\n"
    try:
        done = subprocess.run([*nanoclaw, "chat"], input=question, env=environment, capture_output=True, text=True, timeout=120)
    finally:
        subprocess.run([*nanoclaw, "stop"], env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    uid, interfaces, answer = done.stdout.split()
    assert int(uid) > 0
    assert (interfaces, answer) == ("lo", "42")


async def test_the_container_has_every_hardening() -> None:
    async with living_host() as person:
        assert await person.ask("hello") == ["You said: hello"]
        found = await to_thread.run_sync(inspect, container_of(person))
    host = found["HostConfig"]
    assert host["NetworkMode"] == "none"
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert not host["Privileged"]
    assert "no-new-privileges:true" in host["SecurityOpt"]
    assert host["ReadonlyRootfs"]
    assert host["Memory"] == host["MemorySwap"] > 0
    assert host["NanoCpus"] > 0
    assert host["PidsLimit"] > 0
    assert host["IpcMode"] == "private"
    assert int(found["Config"]["User"].split(":")[0]) > 0
    writable = {mount["Destination"] for mount in found["Mounts"] if mount["RW"]}
    assert writable == {"/workspace", "/home/agent"}


async def test_send_message_arrives_before_the_answer() -> None:
    async with living_host() as person:
        first, answer = await person.ask('!tool send_message {"text": "I am on it"}')
    assert first == "I am on it"
    assert "Message sent to this chat" in answer


async def test_progress_is_shown_while_the_agent_works() -> None:
    async with living_host() as person:
        await person.ask("!bash echo hi")
        assert any(note.startswith("Bash: echo hi") for note in person.notes)


async def test_a_container_killed_in_mid_turn_costs_neither_the_answer_nor_a_second_one() -> None:
    """The first run waits for ever; the one after the crash finds the mark and goes on."""
    command = "if [ -e mark ]; then echo after; else touch mark; python3 -c 'import time; time.sleep(600)'; fi"
    async with living_host() as person:
        message_id = await person.say(f"!bash {command}")
        mark = person.host.settings.home / "groups" / "main" / "mark"
        await until(lambda: to_thread.run_sync(mark.exists))
        await to_thread.run_sync(docker, "kill", container_of(person))
        assert await person.hear(message_id) == ["after"]
        assert await person.ask("still there?") == ["You said: still there?"]


async def test_a_conversation_goes_on_in_the_next_worker(nanoclaw_scripted_model: ScriptedModel) -> None:
    async with living_host(claude(nanoclaw_scripted_model)) as person:
        nanoclaw_scripted_model.script(Reply.text("Noted."))
        await person.ask("my number is 1234")
        await to_thread.run_sync(docker, "kill", container_of(person))
        nanoclaw_scripted_model.script(Reply.text("Yes."))
        assert await person.ask("do you remember it?") == ["Yes."]
        assert "my number is 1234" in str(nanoclaw_scripted_model.calls[-1].json)


async def test_a_message_that_comes_while_the_agent_works_joins_the_turn(nanoclaw_scripted_model: ScriptedModel) -> None:
    release = anyio.Event()
    async with living_host(claude(nanoclaw_scripted_model)) as person:
        nanoclaw_scripted_model.script(Reply.tool("Bash", {"command": "echo one"}, after=release), Reply.text("both"))
        first = await person.say("first")
        await nanoclaw_scripted_model.wait_for(1)
        second = await person.say("second")
        mailbox = await person.mailbox()

        async def both_are_pushed() -> bool:
            return len(await mailbox.outstanding()) == 2

        await until(both_are_pushed)
        release.set()
        answers = await person.hear(first)
        if not await mailbox.is_idle():  # each was settled by a sign of its own
            answers += await person.hear(second)
        assert answers == ["both"]


async def test_a_provider_that_refuses_is_explained_in_the_chat(nanoclaw_scripted_model: ScriptedModel) -> None:
    async with living_host(claude(nanoclaw_scripted_model)) as person:
        nanoclaw_scripted_model.script(Reply.error(401, "authentication_error", "invalid x-api-key"))
        (notice,) = await person.ask("hello")
        assert "refused the credential" in notice
        (answer,) = await person.ask("and now?")
    assert "You said: and now?" in answer
    assert "You said: hello" in answer  # Claude Code asks about both


class Witness(DockerRuntime):
    """Remembers the secret of the link, which is kept nowhere else."""

    secret = ""

    async def start(self, spec: ContainerSpec, first_line: bytes) -> str:
        self.secret = json.loads(first_line)["secret"]
        return await super().start(spec, first_line)


async def test_nothing_in_a_worker_knows_the_key_or_the_secret_of_its_link(nanoclaw_scripted_model: ScriptedModel) -> None:
    look = (
        "env; for pid in /proc/[0-9]*; do tr '\\0' '\\n' < $pid/environ; tr '\\0' ' ' < $pid/cmdline; "
        "timeout 1 cat $pid/fd/0; grep -q runner $pid/cmdline && head -c 1 $pid/mem; done 2>&1; echo end"
    )
    runtime = Witness()
    async with living_host(claude(nanoclaw_scripted_model), runtime=runtime) as person:
        nanoclaw_scripted_model.script(Reply.tool("Bash", {"command": look}), Reply.text("done"))
        await person.ask("look around")
        name = container_of(person)
        seen = str(nanoclaw_scripted_model.calls[-1].json["messages"])
        described = await to_thread.run_sync(docker, "inspect", name)
        output = await to_thread.run_sync(docker, "logs", name)
        image = (await to_thread.run_sync(inspect, name))["Config"]["Image"]
        layers = await to_thread.run_sync(docker, "history", "--no-trunc", image)
        stored = await to_thread.run_sync(every_byte_below, person.host.settings.home)
    assert "ANTHROPIC_API_KEY=nanoclaw-placeholder" in seen
    assert "nanoclaw_runner" in seen
    assert "end" in seen
    assert len(runtime.secret) > 30
    for place in (seen, described, output, layers, stored.decode("utf-8", "replace")):
        assert KEY not in place
        assert runtime.secret not in place
    assert nanoclaw_scripted_model.calls[-1].headers["x-api-key"] == KEY


def every_byte_below(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


async def test_the_socket_answers_declared_paths_only_and_its_link_wants_the_secret() -> None:
    curl = "curl -s --unix-socket /nanoclaw/sockets/gateway.sock"
    ask = f"{curl} http://gateway/etc/passwd; echo; {curl} -o /dev/null -w '%{{http_code}}' http://gateway/link"
    async with living_host() as person:
        (answer,) = await person.ask(f"!bash {ask}")
    refusal, status = answer.strip().split("\n")
    assert '"not_found_error"' in refusal
    assert status == "401"


async def test_what_is_read_only_stays_so() -> None:
    targets = "/nanoclaw/sockets/x /nanoclaw/inbox/x /etc/x /opt/nanoclaw/x /usr/local/bin/x"
    async with living_host() as person:
        (answer,) = await person.ask(f"!bash for f in {targets}; do touch $f 2>/dev/null && echo wrote $f; done; echo end")
    assert answer.strip() == "end"
