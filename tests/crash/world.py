"""The world around the host: the platform, the ledger of counted actions and the model, all in the driver, which nobody kills.

Everything that happens passes a *moment*; a trap that is laid for a moment springs there, and may hold what happens until the
blow has fallen.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio
from aiohttp import web
from anyio.abc import SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream

from nanoclaw_core.builtins import demo
from nanoclaw_core.testing import ScriptedModel
from tests.crash import mind
from tests.crash.outside import MOST_BYTES, Json

_BROKEN: Final = (OSError, anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.IncompleteRead)


@dataclass(frozen=True, kw_only=True)
class Chat:
    """A chat and the one agent that hears it; the names of chats are unique."""

    channel: str
    name: str
    agent: str


@dataclass(kw_only=True)
class Message:
    """What a person wrote, and all that is known of it outside."""

    number: int
    chat: Chat
    steps: tuple[str, ...]
    taken: bool = False
    outcomes: list[str] = field(default_factory=list)

    @property
    def id(self) -> str:
        return f"m{self.number}"

    @property
    def text(self) -> str:
        return mind.text_of(self.number, self.steps)


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What the platform took."""

    channel: str
    chat: str
    key: str
    text: str


@dataclass(kw_only=True)
class Trap:
    """Laid for one moment. Where it `holds`, what happens stops there until `released` is set."""

    moment: str
    holds: bool
    sprung: anyio.Event = field(default_factory=anyio.Event)
    released: anyio.Event = field(default_factory=anyio.Event)
    chat: str | None = None  # where it sprang


class World:
    """See the module. `life` counts the hosts: what a dead one had begun and not finished never happened."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "world.sock"
        self.model = Model(self)
        self.messages: dict[int, Message] = {}
        self.sent: list[Sent] = []
        self.counted: defaultdict[int, list[str]] = defaultdict(list)
        self.timeline: list[str] = []
        self.life = 0
        self.trap: Trap | None = None
        self._seen_before = 0
        self._keys: set[str] = set()
        self._listening: dict[str, SocketStream] = {}
        self._chats: dict[str, str] = {}  # by session
        self._began = time.monotonic()
        self._changed = anyio.Event()

    # --- what the driver does ---------------------------------------------------------------------------------------------

    def begin_point(self) -> None:
        self.timeline.clear()
        self._seen_before = len(self.sent)

    def fresh(self) -> list[Sent]:
        """What people saw since the point began."""
        return self.sent[self._seen_before :]

    def lay(self, moment: str, *, holds: bool) -> Trap:
        self.trap = Trap(moment=moment, holds=holds)
        return self.trap

    def write(self, line: str) -> None:
        """Into the timeline of this point."""
        self.timeline.append(f"{time.monotonic() - self._began:8.3f} {line}")

    def name_session(self, session: str, chat: str) -> None:
        self._chats[session] = chat

    async def say(self, message: Message) -> None:
        """A person writes; what no host has taken is handed to the next one again, as platforms do."""
        self.messages[message.number] = message
        self.write(f"said {message.text} in {message.chat.channel}:{message.chat.name}")
        await self._hand_in(message)

    async def until(self, holds: Callable[[], object]) -> None:
        """Wait for something that happens here."""
        while not holds():
            await self._changed.wait()

    def texts(self, message: Message, word: str) -> int:
        """How many messages with `word` and the message's number people saw in its chat."""
        here = (sent.text.split(", ") for sent in self.sent if sent.chat == message.chat.name)
        return sum(words.count(f"{word} {message.number}") for words in here)

    # --- moments ----------------------------------------------------------------------------------------------------------

    async def reach(self, moment: str, chat: str | None = None) -> bool:
        """Pass a moment; False when the host for which it happened has died meanwhile."""
        life = self.life
        self.write(f"{moment} {chat or ''}")
        trap = self.trap
        if trap and trap.moment == moment and not trap.sprung.is_set():
            trap.chat = chat
            trap.sprung.set()
            if trap.holds:
                await trap.released.wait()
        return life == self.life

    # --- the other end of the plugin --------------------------------------------------------------------------------------

    async def serve(self, *, task_status: anyio.abc.TaskStatus[None]) -> None:
        async with await anyio.create_unix_listener(self.socket) as listener:
            task_status.started()
            await listener.serve(self._attend)

    async def _attend(self, stream: SocketStream) -> None:
        lines = BufferedByteReceiveStream(stream)
        with suppress(*_BROKEN):
            async with stream:
                question: Json = json.loads(await lines.receive_until(b"\n", MOST_BYTES))
                match question.pop("what"):
                    case "listen":
                        await self._listen(question["channel"], stream)
                    case "events":
                        await self._hear_events(lines)
                    case what:
                        answer = await getattr(self, f"_{what}")(**question)
                        if answer is not None:
                            await stream.send(json.dumps(answer).encode() + b"\n")
                            self._change()

    async def _listen(self, channel: str, stream: SocketStream) -> None:
        self._listening[channel] = stream
        for message in list(self.messages.values()):
            if message.chat.channel == channel and not message.taken:
                await self._hand_in(message)
        with suppress(*_BROKEN):
            await stream.receive()
        if self._listening.get(channel) is stream:
            del self._listening[channel]

    async def _hand_in(self, message: Message) -> None:
        if stream := self._listening.get(message.chat.channel):
            line = json.dumps({"id": message.id, "chat": message.chat.name, "text": message.text}).encode() + b"\n"
            with suppress(*_BROKEN):
                await stream.send(line)
            await self.reach("handed in", message.chat.name)

    async def _hear_events(self, lines: BufferedByteReceiveStream) -> None:
        while True:
            event = json.loads(await lines.receive_until(b"\n", MOST_BYTES))
            await self.reach(event["event"], self._chats.get(event["session"] or ""))

    async def _took(self, message_id: str) -> Json | None:
        message = self._message(message_id)
        message.taken = True
        await self.reach("accepted", message.chat.name)
        return {}

    async def _send(self, channel: str, chat: str, key: str, text: str) -> Json | None:
        if not await self.reach("sending", chat):
            return None
        if channel != "sure" or key not in self._keys:
            self._keys.add(key)
            self.sent.append(Sent(channel=channel, chat=chat, key=key, text=text))
            self.write(f"people see {text!r:.100}")
        self._change()
        await self.reach("sent", chat)
        return {"id": key}

    async def _settled(self, ids: list[str], outcome: str) -> Json | None:
        for message_id in ids:
            self._message(message_id).outcomes.append(outcome)
        self._change()
        return {}

    async def _count(self, number: int, key: str) -> Json | None:
        chat = self.messages[number].chat.name
        if not await self.reach("action called", chat):
            return None
        if key not in self.counted[number]:  # as services do that know idempotency keys
            self.counted[number].append(key)
        if await self.reach("action counted", chat):
            self.write(f"answers the call of {number}")
        return {"place": sum(map(len, self.counted.values()))}

    def _message(self, message_id: str) -> Message:
        return self.messages[int(message_id.removeprefix("m"))]

    def _change(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class Model(ScriptedModel):
    """The scripted model with the mind of the crash test, in front of the world's traps."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world = world

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        thought = mind.think(asked)
        body = self._body(asked, thought.answer)
        kind = "text/event-stream" if asked.get("stream") else "application/json"
        response = web.StreamResponse(headers={"content-type": kind})
        message = self.world.messages.get(thought.number or 0)
        with suppress(ConnectionError):
            if message is None:  # Claude Code asks on its own behalf
                await self._speak(request, response, body)
            else:
                await self._speak_past_traps(request, response, body, message.chat.name, thought.step)
        return response

    async def _speak(self, request: web.Request, response: web.StreamResponse, body: bytes) -> None:
        await response.prepare(request)
        await response.write(body)

    async def _speak_past_traps(
        self, request: web.Request, response: web.StreamResponse, body: bytes, chat: str, step: str
    ) -> None:
        await self.world.reach("model asked", chat)
        middle = len(body) // 2
        await self._speak(request, response, body[:middle])
        await self.world.reach("model streams", chat)
        await response.write(body[middle:])
        await response.write_eof()
        if step:
            await self.world.reach(f"{step} ordered", chat)

    def _body(self, asked: Any, answer: demo.Answer) -> bytes:
        if asked.get("stream"):
            return b"".join(demo.events(asked, answer))
        return json.dumps(demo.message(asked, answer)).encode()
