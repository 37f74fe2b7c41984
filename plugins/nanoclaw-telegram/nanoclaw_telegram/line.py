"""Requests to the Bot API, and what became of each: done, not done, or nobody knows.

Doubt is rare: the connection broke, or nothing came in time, after the request had left. An error that Telegram's server
states, 5xx included, is its word that it did not do it.
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
import httpx
import telegram
from telegram.error import BadRequest, ChatMigrated, Forbidden, InvalidToken, NetworkError, TelegramError
from telegram.request import HTTPXRequest

from nanoclaw_core import ChatMoved, OutcomeUnknown, Refused, TryLater

#: Seconds that one getUpdates waits for news, and for how much longer its connection may be silent.
POLL: Final = 50
_MARGIN: Final = 10
_CLOSING: Final = 5.0

#: What a bot is told of. Reactions come only to those who ask for them.
ALLOWED: Final = (
    "message",
    "edited_message",
    "channel_post",
    "edited_channel_post",
    "message_reaction",
    "callback_query",
    "my_chat_member",
)

#: Nothing, or only a part that says nothing, had left when these were raised.
_NEVER_SENT: Final = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
    httpx.WriteError,
    httpx.WriteTimeout,
)

#: What the library understands by itself.
_TOLD_APART: Final = (400, 401, 403, 404, 409)


class NotDone(NetworkError):
    """It was certainly not done, and may be another time; `after` is the pause that Telegram asked for, in seconds."""

    def __init__(self, reason: str, after: float | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Line(HTTPXRequest):
    """The library's HTTP, telling apart what it takes for one."""

    def __init__(self, connections: int, tls: ssl.SSLContext) -> None:
        super().__init__(
            httpx_kwargs={"verify": tls},
            connection_pool_size=connections,
            connect_timeout=10,
            read_timeout=40,
            write_timeout=20,
            pool_timeout=10,
            media_write_timeout=40,
        )

    async def do_request(self, *arguments: Any, **options: Any) -> tuple[int, bytes]:  # Any: the library's own types
        try:
            code, payload = await super().do_request(*arguments, **options)
        except NetworkError as error:
            if isinstance(error.__cause__, _NEVER_SENT):
                raise NotDone(f"the Bot API cannot be reached ({type(error.__cause__).__name__})") from error
            raise
        _judge(code, _answer(payload))
        return code, payload


class Bot(telegram.Bot):
    """The library's bot. Its own `get_updates` reads all updates or none, and logs those that it cannot read."""

    async def updates(self, offset: int | None, wait: int = POLL) -> list[Any]:  # Any: JSON that nobody has checked
        """The updates from `offset` on, as they came; those before are confirmed."""
        data = {"offset": offset, "timeout": wait, "allowed_updates": ALLOWED}
        found = await self._post("getUpdates", data, read_timeout=wait + _MARGIN)
        if not isinstance(found, list):
            raise NetworkError("what the Bot API says makes no sense")
        return found


def open_bot(token: str, url: str, tls: ssl.SSLContext) -> Bot:
    """See `Access.open`."""
    for name in ("httpx", "telegram"):  # they log addresses with the token in them, and what is said in chats
        library = logging.getLogger(name)
        library.setLevel(max(library.getEffectiveLevel(), logging.WARNING))
    calls, polls = Line(16, tls), Line(1, tls)
    return Bot(token, f"{url}/bot", f"{url}/file/bot", request=calls, get_updates_request=polls)


async def close_bot(bot: Bot) -> None:
    """End the connections, also in a task that is cancelled."""
    with anyio.move_on_after(_CLOSING, shield=True):
        for request in bot._request:  # noqa: SLF001  # the library closes only what it has opened with a getMe
            await request.shutdown()


@contextmanager
def in_our_words(*, repeatable: bool = False) -> Iterator[None]:
    """Raise what `Channel.send` may raise in place of the library's errors.

    With `repeatable`, doing it twice shows the same as doing it once, so that doubt is a reason to try again.
    """
    try:
        yield
    except NotDone as error:
        raise TryLater(error.message, error.after) from error
    except ChatMigrated as error:
        raise ChatMoved(str(error.new_chat_id)) from error
    except InvalidToken as error:
        raise TryLater("Telegram does not take the bot's token") from error
    except (Forbidden, BadRequest) as error:  # before NetworkError, of which BadRequest is one
        raise Refused(error.message) from error
    except TelegramError as error:
        reason = f"the connection broke before Telegram answered ({error.message})"
        raise (TryLater if repeatable else OutcomeUnknown)(reason) from error


def _answer(payload: bytes) -> dict[str, Any] | None:  # Any: JSON
    """What a Bot API server says; None when these are not its words."""
    try:
        answer = json.loads(payload)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) and isinstance(answer.get("ok"), bool) else None


def _judge(code: int, answer: dict[str, Any] | None) -> None:  # the same
    """Raise where the library's own judgement would be too coarse."""
    if code == 429:
        raise NotDone("Telegram asks for a pause", _pause(answer))
    if answer is None:
        raise _nonsense(code)
    description = str(answer.get("description") or f"HTTP {code}")
    if code >= 500:
        raise NotDone(f"Telegram could not do it ({description})")
    if code < 300 and "result" not in answer:
        raise _nonsense(code) if answer["ok"] else BadRequest(description)
    if code >= 300 and (code not in _TOLD_APART or "method not found" in description):
        raise BadRequest(description)


def _nonsense(code: int) -> NetworkError:
    """What to raise when something else answers in the place of a Bot API server."""
    if code == 413:
        return BadRequest("it is too large")
    if code < 300 or code == 504:
        return NetworkError(f"these are not the words of a Bot API server (HTTP {code})")
    return NotDone(f"no Bot API server answers (HTTP {code})")


def _pause(answer: dict[str, Any] | None) -> float | None:  # the same
    parameters = (answer or {}).get("parameters")
    after = parameters.get("retry_after") if isinstance(parameters, dict) else None
    return float(after) if isinstance(after, int | float) else None
