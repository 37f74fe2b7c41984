"""A Telegram Bot API server on loopback: the platform's end of every test of the Telegram channel.

After https://core.telegram.org/bots/api. Its clients are real ones; what it knows of chats and messages is in `telegram_chats`.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from types import TracebackType
from typing import Any, Self
from weakref import WeakSet

import anyio
from aiohttp import BodyPartReader, web

from tests.peers.telegram_chats import ADA, HOME, Chats, Json, Rejected, Upload

TOKEN = "123456789:AAF-the_token_of_a_test-bot_0123456"

#: Seconds after which a test gives up on something that should take milliseconds.
PATIENCE = 10

#: What a bot gets that did not ask for particular kinds of updates.
_UNASKED = frozenset({"chat_member", "message_reaction", "message_reaction_count"})

#: Parameters that are JSON within a form.
_NESTED = (
    "allowed_updates",
    "caption_entities",
    "entities",
    "link_preview_options",
    "media",
    "reaction",
    "reply_markup",
    "reply_parameters",
)

_TERMINATED = "Conflict: terminated by other getUpdates request; make sure that only one bot instance is running"
_WEBHOOK = "Conflict: can't use getUpdates method while webhook is active; use deleteWebhook to delete the webhook first"


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request of the bot: a method, its parameters, and the files that came with them."""

    method: str
    data: Json
    files: dict[str, Upload] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A scripted answer. With `effect`, the method does its work all the same, and only the answer is lost."""

    effect: bool = False


@dataclass(frozen=True, kw_only=True)
class Refusal(Failure):
    """An answer as the API gives it when it refuses; 429 may come without `retry_after`."""

    code: int
    description: str = "scripted"
    retry_after: float | None = None

    def response(self) -> web.Response:
        parameters = None if self.retry_after is None else {"retry_after": self.retry_after}
        return _refused(self.code, self.description, parameters)


@dataclass(frozen=True, kw_only=True)
class Drop(Failure):
    """The connection breaks."""


@dataclass(frozen=True, kw_only=True)
class Silence(Failure):
    """No answer, as long as the client waits for one."""


@dataclass(frozen=True, kw_only=True)
class Garbage(Failure):
    """What a proxy or captive portal says in Telegram's place."""

    body: bytes = b"<html>Welcome to our hotel</html>"
    status: int = 200


class TelegramPeer:
    """`async with TelegramPeer() as peer` serves until the block ends; `peer.url` is where the bot finds it.

    Updates wait until a later getUpdates confirms them by its offset. `calls` lists every request except getUpdates, whose
    parameters are in `polls`. A second getUpdates ends the first one with 409, as Telegram does.
    """

    def __init__(self, token: str = TOKEN) -> None:
        self.token = token
        self.url = ""
        self.calls: list[Call] = []
        self.polls: list[Json] = []
        self.updates: list[Json] = []
        self.chats = Chats()
        self.webhook = ""
        self._allowed: list[str] | None = None
        self._scripts: dict[str, deque[Failure]] = defaultdict(deque)
        self._connections: WeakSet[asyncio.Transport] = WeakSet()
        self._held: dict[str, anyio.Event] = {}
        self._update_ids = count(1000)
        self._poll: anyio.Event | None = None  # set to end the one that waits
        self._changed = anyio.Event()

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=80 * 2**20)
        app.router.add_route("*", "/bot{token}/{method}", self._answer)
        app.router.add_get("/file/bot{token}/{path:.*}", self._file)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._runner.cleanup()

    # --- the test's side --------------------------------------------------------------------------------------------------

    def script(self, method: str, *failures: Failure) -> None:
        """Let the next calls of `method` fail so, one each. `file` is the method of a download."""
        self._scripts[method].extend(failures)

    def hold(self, method: str) -> anyio.Event:
        """Let calls of `method` wait until the event is set."""
        return self._held.setdefault(method, anyio.Event())

    def push(self, **payload: Any) -> Json:
        """Something happened: queue an update, such as `push(message=…)`, unless the bot did not ask for this kind."""
        update = {"update_id": next(self._update_ids), **payload}
        kinds = payload.keys() & {"message", "edited_message", "callback_query", *_UNASKED}
        unwanted = kinds & _UNASKED if self._allowed is None else kinds - set(self._allowed)
        if not unwanted:
            self.updates.append(update)
            self._note()
        return update

    def say(self, text: str | None = None, *, chat: Json = HOME, sender: Json = ADA, **fields: Any) -> Json:
        """A person writes in `chat`; returns the message. `message_id` repeats an earlier message's."""
        message = self.chats.add(chat, sender=sender, **({} if text is None else {"text": text}), **fields)
        self.push(message=message)
        return message

    def edit(self, message: Json, **fields: Any) -> Json:
        """The author changes a message."""
        edited = self.chats.change(message, **fields)
        self.push(edited_message=edited)
        return edited

    def react(self, message: Json, *emojis: str, sender: Json = ADA) -> Json:
        """A person's reactions to a message become these."""
        key = (message["chat"]["id"], message["message_id"])
        kinds = [{"type": "emoji", "emoji": emoji} for emoji in emojis]
        before, self.chats.people_reactions[key] = self.chats.people_reactions.get(key, []), kinds
        place = {"chat": message["chat"], "message_id": message["message_id"], "user": sender, "date": message["date"]}
        return self.push(message_reaction={**place, "old_reaction": before, "new_reaction": kinds})

    def press(self, message: Json, data: str, *, sender: Json = ADA) -> str:
        """A person presses the button with `data`; returns the id of the query, whose answer is in `chats.answers`."""
        query_id = self.chats.ask()
        query = {"id": query_id, "from": sender, "message": message, "chat_instance": "1", "data": data}
        self.push(callback_query=query)
        return query_id

    def upgrade(self, chat: Json) -> Json:
        """A group becomes a supergroup, with another id; both chats hear of it. Returns the new one."""
        new = self.chats.upgrade(chat)
        self.say(chat=chat, migrate_to_chat_id=new["id"])
        self.say(chat=new, migrate_from_chat_id=chat["id"])
        return new

    def revoke(self, token: str = "123456789:AAF-the_next_token_of_this_bot-0123") -> None:
        """The owner gets a new token from BotFather: the old one is worth nothing from this moment on."""
        self.token = token
        self._end_poll()

    def cut(self) -> None:
        """Break every connection; new ones are accepted."""
        for transport in list(self._connections):
            transport.abort()

    def called(self, method: str) -> list[Json]:
        """The parameters of every call of `method`, in order."""
        return [call.data for call in self.calls if call.method == method]

    async def wait_for(self, condition: Callable[[], object], patience: float = PATIENCE) -> None:
        """Wait until `condition()` holds; it is looked at whenever something happens here."""
        with anyio.fail_after(patience):
            while not condition():
                await self._changed.wait()

    async def sent(self, count: int, method: str = "sendMessage") -> list[Json]:
        """Wait until `method` was called `count` times; return the parameters of all."""
        await self.wait_for(lambda: len(self.called(method)) >= count)
        return self.called(method)

    async def confirmed(self) -> None:
        """Wait until the bot has confirmed every update, and asks for the next."""
        await self.wait_for(lambda: not self.updates and self._poll is not None)

    @property
    def is_idle(self) -> bool:
        """Whether nobody waits for updates."""
        return self._poll is None

    # --- the bot's side ---------------------------------------------------------------------------------------------------

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if isinstance(request.transport, asyncio.Transport):
            self._connections.add(request.transport)
        method = request.match_info["method"]
        call = await _call(request, method)
        if refused := self._stranger(request):
            return refused
        if method != "getUpdates":
            self.calls.append(call)
            self._note()
        if method in self._held:
            await self._held[method].wait()
        failure = self._scripts[method].popleft() if self._scripts[method] else None
        try:
            if failure is None or failure.effect:
                answer = web.json_response({"ok": True, "result": await self._do(call)})
            if failure is not None:
                return await _failed(failure, request)
        except Rejected as rejected:
            return self._stranger(request) or _refused(rejected.code, str(rejected), rejected.parameters)
        finally:
            self._note()
        return answer

    async def _do(self, call: Call) -> Any:  # whatever the method returns, as JSON
        match call.method:
            case "getUpdates":
                return await self._updates(call.data)
            case "getWebhookInfo":
                return {"url": self.webhook, "has_custom_certificate": False, "pending_update_count": len(self.updates)}
            case "deleteWebhook":
                self.webhook = ""
                return True
            case _:
                return self.chats.do(call.method, call.data, call.files)

    async def _updates(self, data: Json) -> list[Json]:
        self.polls.append(data)
        if self.webhook:
            raise Rejected(409, _WEBHOOK)
        offset = int(data.get("offset") or 0)
        if offset < 0:  # from the end of the queue: everything before is forgotten
            self.updates = self.updates[offset:]
        else:
            self.updates = [update for update in self.updates if update.get("update_id", offset) >= offset]
        if "allowed_updates" in data:
            self._allowed = data["allowed_updates"] or None
        self._end_poll()
        mine = self._poll = anyio.Event()
        self._note()
        try:
            with anyio.move_on_after(float(data.get("timeout") or 0)):
                while not self.updates and not mine.is_set():
                    await self._changed.wait()
        finally:
            if self._poll is mine:
                self._poll = None
                self._note()
        if mine.is_set():
            raise Rejected(409, _TERMINATED)
        return self.updates[: int(data.get("limit") or 100)]

    async def _file(self, request: web.Request) -> web.StreamResponse:
        if self._scripts["file"]:
            return await _failed(self._scripts["file"].popleft(), request)
        content = self.chats.paths.get(request.match_info["path"])
        if content is None or self._stranger(request):
            return _refused(404, "Not Found")
        return web.Response(body=content)

    def _stranger(self, request: web.Request) -> web.Response | None:
        token = request.match_info["token"]
        if token == self.token:
            return None
        # What does not look like a token at all is no address of the API.
        return _refused(401, "Unauthorized") if token.partition(":")[0].isdigit() else _refused(404, "Not Found")

    def _end_poll(self) -> None:
        if self._poll is not None:
            self._poll.set()
            self._poll = None
            self._note()

    def _note(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


def _refused(code: int, description: str, parameters: Json | None = None) -> web.Response:
    body: Json = {"ok": False, "error_code": code, "description": description}
    if parameters:
        body["parameters"] = parameters
    return web.json_response(body, status=code)


async def _failed(failure: Failure, request: web.Request) -> web.StreamResponse:
    match failure:
        case Refusal():
            return failure.response()
        case Garbage():
            return web.Response(body=failure.body, status=failure.status, content_type="text/html")
        case Silence():
            await anyio.sleep_forever()
        case _ if isinstance(request.transport, asyncio.Transport):
            request.transport.abort()
    return web.Response()


async def _call(request: web.Request, method: str) -> Call:
    """Read a request in any of the three shapes that the API takes."""
    data: Json = dict(request.query)
    files: dict[str, Upload] = {}
    if request.content_type.startswith("multipart/"):
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            if part.filename is not None:
                files[part.name or ""] = Upload(name=part.filename, content=bytes(await part.read()))
            else:
                data[part.name or ""] = await part.text()
    elif request.content_type == "application/json":
        data |= await request.json()
    else:
        data |= dict(await request.post())
    for name in _NESTED:
        if isinstance(data.get(name), str):
            data[name] = json.loads(data[name])
    return Call(method=method, data=data, files=files)
