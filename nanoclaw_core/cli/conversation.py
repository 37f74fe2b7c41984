"""One chat with an agent over the control socket, which survives that the host is restarted."""

from __future__ import annotations

import math
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Final, Protocol

import anyio
from anyio.abc import TaskStatus

from nanoclaw_core.cli.connection import ControlClient, RequestFailed, connect
from nanoclaw_core.control import Json
from nanoclaw_core.errors import HostNotRunning, MessageTooLong
from nanoclaw_core.models import clean_text

ANSWERED: Final = "answered"

_RESTART: Final = 30.0  # seconds that a host may be away
_RETRY: Final = 0.2


class Screen(Protocol):
    """Where a conversation is shown. Texts are the host's and the agent's: not yet safe for a terminal."""

    def said(self, text: str) -> None:
        """The agent's answer, or a part of it."""

    def working(self, note: str) -> None:
        """What goes on; an empty note ends it."""

    def notice(self, text: str) -> None:
        """NanoClaw itself says something."""


class Conversation:
    """Sends messages, shows what comes, and knows which messages have no outcome yet."""

    def __init__(self, home: Path, agent: str | None, screen: Screen) -> None:
        self.agent = agent or ""
        self._home = home
        self._wanted = agent
        self._screen = screen
        self._client: ControlClient | None = None
        self._unsettled: dict[str, str] = {}
        self._outcomes: dict[str, str] = {}
        self._shown: set[str] = set()
        self._changed = anyio.Event()

    @property
    def is_waiting(self) -> bool:
        """Whether an answer is still to come."""
        return bool(self._unsettled)

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Keep the chat open until cancelled; started once it is open.

        Raises:
            HostNotRunning: there is no host, or it was away for 30 s. RequestFailed: there is no such agent.
        """
        is_open = False
        with anyio.CancelScope() as patience:
            while True:
                try:
                    async with connect(self._home) as client:
                        await self._open(client, is_again=is_open)
                        patience.deadline = math.inf
                        if not is_open:
                            is_open = True
                            task_status.started()
                        await self._show(client)
                except HostNotRunning:
                    if not is_open:
                        raise
                self._client = None
                if patience.deadline == math.inf:
                    patience.deadline = anyio.current_time() + _RESTART
                    self._screen.notice("The host went away; waiting for it to come back.")
                await anyio.sleep(_RETRY)
        raise HostNotRunning(self._home)

    async def send(self, text: str) -> str:
        """Hand a message in and return its id. While the host is away it waits here, and is handed in when it is back."""
        message_id = uuid.uuid4().hex
        self._unsettled[message_id] = clean_text(text)
        if self._client is not None:
            with suppress(HostNotRunning):  # `run` notices too, and hands it in again
                await self._hand_in(self._client, message_id)
        return message_id

    async def outcome(self, message_id: str) -> str:
        """Wait until everything that answers the message was shown."""
        while message_id in self._unsettled:
            await self._changed.wait()
        return self._outcomes.pop(message_id)

    async def _open(self, client: ControlClient, *, is_again: bool) -> None:
        opened = await client.call("chat.open", agent=self._wanted)
        self.agent = opened["agent"]
        for notice in ["The host is back."] if is_again else opened["notices"]:
            self._screen.notice(notice)
        self._client = client
        for message_id in tuple(self._unsettled):  # known ones are accepted once only
            await self._hand_in(client, message_id)

    async def _hand_in(self, client: ControlClient, message_id: str) -> None:
        try:
            await client.call("chat.send", text=self._unsettled[message_id], message_id=message_id)
        except (RequestFailed, MessageTooLong) as error:
            self._screen.notice(str(error))
            self._settle([message_id], "refused")

    async def _show(self, client: ControlClient) -> None:
        async for method, params in client.notifications:
            self._take(method, params)
            if method in ("chat.message", "chat.settled"):
                await client.tell("chat.seen", number=params["number"])

    def _take(self, method: str, params: Json) -> None:
        match method:
            case "chat.message" if params["id"] not in self._shown:
                self._shown.add(params["id"])
                self._screen.said(params["text"])
            case "chat.working":
                self._screen.working(params["note"])
            case "chat.settled":
                self._settle(params["message_ids"], params["outcome"])
            case "chat.notice":
                self._screen.notice(params["text"])

    def _settle(self, message_ids: list[str], outcome: str) -> None:
        for message_id in message_ids:
            if self._unsettled.pop(message_id, None) is not None:
                self._outcomes[message_id] = outcome
        if not self._unsettled:
            self._screen.working("")
        self._changed.set()
        self._changed = anyio.Event()
