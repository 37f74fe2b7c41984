"""A host with nothing behind it but the real control socket, the real terminal channel, and a function that answers."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from nanoclaw_core.builtins.terminal import Notice, TerminalChannel
from nanoclaw_core.control import ControlServer, socket_path
from nanoclaw_core.errors import MessageTooLong, TryLater, UnknownName
from nanoclaw_core.models import Address, InboundMessage, OutboundMessage, Progress
from nanoclaw_core.operations import Operation

Answer = Callable[["FakeHost", InboundMessage], Coroutine[Any, Any, None]]


async def echo(host: FakeHost, message: InboundMessage) -> None:
    """`!fail` fails, `!slow` shows progress for three seconds first, anything else is said again."""
    if message.text == "!fail":
        await host.say("The model refused: 401.", key=message.message_id, chat=message.address.chat)
        await host.settle(message, "model")
        return
    if message.text.startswith("!slow"):
        for second in range(3):
            await host.terminal.typing(message.address, Progress(note=f"Bash: sleep {second}"))
            await anyio.sleep(1)
    if message.text == "!build":
        host.terminal.announce(Notice(text="The worker image is being built."))
    await host.say(f"You said **{message.text}**", key=message.message_id, chat=message.address.chat)
    await host.settle(message, "answered")


class FakeHost:
    """Stores messages in a list, refuses those over 12 MB, and answers each in a task of its own."""

    def __init__(self, answer: Answer = echo) -> None:
        self.terminal = TerminalChannel(self._wake, "ada")
        self.received: list[InboundMessage] = []
        self.woken: list[str] = []
        self.stops = 0
        self.operations: dict[str, Operation] = {}
        self._answer = answer
        self._awake = anyio.Event()

    async def status(self) -> dict[str, Any]:
        return {
            "version": "0.1.0",
            "pid": 4711,
            "uptime": 3725.0,
            "home": "/home/ada/.local/share/nanoclaw",
            "provider": {"name": "demo", "demo": True},
            "runtime": "running",
            "image": {"name": "nanoclaw-worker:0123456789ab", "state": "building"},
            "channels": [{"name": "terminal", "state": "running", "reason": "", "since": 0.0, "restarts": 0}],
            "agents": [{"name": "Andy", "folder": "main", "main": True}],
            "sessions": [{"session": "s1", "agent": "Andy", "worker": "w5f3a", "container": "nanoclaw-w5f3a", "state": "busy"}],
            "waiting": 2,
            "plugins": [{"name": "terminal", "state": "builtin"}, {"name": "dice", "state": "broken"}],
        }

    async def terminal_chat(self, agent: str | None) -> tuple[str, str]:
        if agent not in (None, "Andy", "Bea"):
            raise UnknownName("agent", agent or "", ["Andy", "Bea"])
        return agent or "Andy", f"chat-{agent or 'Andy'}"

    def greeting(self) -> list[str]:
        return ["No credential is set: talking to the demo provider. Set ANTHROPIC_API_KEY to talk to Claude."]

    async def say(self, text: str, key: str, chat: str) -> None:
        """Deliver as the core does: again when somebody comes."""
        await self._insist(
            lambda: self.terminal.send(OutboundMessage(to=Address(channel="terminal", chat=chat), text=text, key=key))
        )

    async def settle(self, message: InboundMessage, outcome: str) -> None:
        await self._insist(lambda: self.terminal.settled(message.address, (message.message_id,), outcome))

    async def _insist(self, deliver: Callable[[], Awaitable[object]]) -> None:
        while True:
            awake = self._awake
            try:
                await deliver()
            except TryLater:
                await awake.wait()
            else:
                return

    def _wake(self, chat: str) -> None:
        self.woken.append(chat)
        self._awake.set()
        self._awake = anyio.Event()

    @asynccontextmanager
    async def serving(self, home: Path, stop: Callable[[], None] | None = None) -> AsyncIterator[FakeHost]:
        async with anyio.create_task_group() as tasks:

            async def receive(message: InboundMessage, cursor: str | None = None) -> bool:
                if len(message.text.encode()) > 12_000_000:
                    raise MessageTooLong(len(message.text.encode()), 12_000_000)
                if message.message_id in {known.message_id for known in self.received}:
                    return False
                self.received.append(message)
                tasks.start_soon(self._answer, self, message)
                return True

            await tasks.start(lambda task_status: self.terminal.run(receive, task_status=task_status))
            await tasks.start(ControlServer(self, socket_path(home), stop or self._count_stop).serve)
            yield self
            tasks.cancel_scope.cancel()

    def _count_stop(self) -> None:
        self.stops += 1


async def _main(home: Path) -> None:
    with anyio.CancelScope() as scope:
        async with FakeHost().serving(home, scope.cancel):
            print("ready", flush=True)  # noqa: T201
            await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(_main, Path(sys.argv[1]))
