"""The loop that asks for updates: each is stored by the host, with the place behind it, before Telegram may forget it.

The library's own `Updater` confirms updates while they wait in a queue of this process; what it held would be lost in a crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any, Final, NoReturn

import structlog
from telegram.error import Conflict, InvalidToken, TelegramError

from nanoclaw_core import (
    ChannelContext,
    ChannelRevoked,
    Clock,
    DeliveryError,
    InboundMessage,
    MessageTooLong,
    NanoClawError,
    OutboundMessage,
    Receive,
)
from nanoclaw_telegram.ids import CHANNEL, Place
from nanoclaw_telegram.line import POLL, Bot, NotDone
from nanoclaw_telegram.outgoing import Outgoing
from nanoclaw_telegram.questions import Questions
from nanoclaw_telegram.updates import MALFORMED, Found, Moved, Press, Reachable, Reader, together

log = structlog.get_logger()

#: The pictures of an album are updates of their own, which come within a moment: seconds to wait for the rest of one.
ALBUM_PAUSE: Final = 0.5

_REVOKED: Final = "Telegram does not take the bot's token any more"
_SHARED: Final = (
    "Another program asks Telegram for the messages of this bot, and takes them away from this one. Stop it (another "
    "NanoClaw with the same token?), or give each a bot of its own: `nanoclaw channel setup telegram`."
)
WEBHOOK: Final = (
    "Telegram sends its messages to a web address (a webhook), so that nobody can ask for them. Another program has set that. "
    "Take a bot of your own for NanoClaw: `nanoclaw channel setup telegram`."
)

Update = Mapping[str, Any]  # Any: JSON that nobody has checked


class Polling:
    """Takes the updates of one connection, from `place` on."""

    def __init__(
        self,
        bot: Bot,
        receive: Receive,
        place: Place,
        reader: Reader,
        outgoing: Outgoing,
        questions: Questions,
        *,
        context: ChannelContext,
        clock: Clock,
    ) -> None:
        self._bot = bot
        self._receive = receive
        self._place = place
        self._reader = reader
        self._outgoing = outgoing
        self._questions = questions
        self._context = context
        self._clock = clock

    async def run(self) -> NoReturn:
        """Take updates until cancelled, or until Telegram cannot be asked."""
        was_waited_for = False
        while True:
            updates = await self._ask(wait=0 if was_waited_for else POLL)
            if updates and _album(updates[-1]) and not was_waited_for:
                was_waited_for = True
                await self._clock.sleep(ALBUM_PAUSE)
                continue  # from the same place: nothing is confirmed by this
            was_waited_for = False
            for _, group in groupby(enumerate(updates), key=lambda numbered: _album(numbered[1]) or numbered[0]):
                await self._take([update for _, update in group])

    async def _ask(self, wait: int) -> list[Update]:
        """Ask once more at once when the connection broke, as it does when a laptop slept; then leave it to the supervisor."""
        try:
            found = await self._asked(wait)
        except (Conflict, InvalidToken, NotDone):
            raise
        except TelegramError:
            found = await self._asked(0)
        updates: list[Update] = [
            update for update in found if isinstance(update, dict) and isinstance(update.get("update_id"), int)
        ]
        if found and not updates:
            raise NanoClawError("What Telegram sends makes no sense; it is asked again after a pause.")
        return updates

    async def _asked(self, wait: int) -> list[Any]:  # Any: JSON
        try:
            return await self._bot.updates(self._place.offset, wait)
        except NotDone as error:
            if error.after is not None:
                await self._clock.sleep(error.after)
            raise

    # --- what was found ---------------------------------------------------------------------------------------------------

    async def _take(self, updates: Sequence[Update]) -> None:
        """Tell the host of one update, or of the parts of one album, and go on to the place behind it."""
        last: int = updates[-1]["update_id"]
        found = [thing for update in updates if (thing := await self._read(update)) is not None]
        messages = [thing for thing in found if isinstance(thing, InboundMessage)]
        if messages:
            await self._tell(together(messages), self._place.cursor(last))
        for thing in found:
            match thing:
                case Moved():
                    await self._context.moved(thing.old, thing.new)
                case Reachable():
                    self._context.wake(thing.chat)
                case Press():
                    await self._press(thing, self._place.cursor(last))
        self._place.offset = last + 1

    async def _read(self, update: Update) -> Found:
        """None also for an update that cannot be read: it must not hold up those behind it."""
        try:
            return self._reader.read(update)
        except MALFORMED as error:
            kinds = sorted(update.keys() - {"update_id"})
            log.warning("telegram.update_skipped", update=update["update_id"], kinds=kinds, error=type(error).__name__)
        pressed = update.get("callback_query")
        if isinstance(pressed, dict) and isinstance(pressed.get("id"), str):
            await self._questions.acknowledge(pressed["id"], "This could not be understood.")
        return None

    async def _tell(self, message: InboundMessage, cursor: str) -> None:
        try:
            await self._receive(message, cursor)
        except MessageTooLong as error:
            answer = OutboundMessage(to=message.address, text=str(error), key=message.message_id, reply_to=message.message_id)
            try:
                await self._outgoing.send(answer)
            except DeliveryError as failure:
                log.warning("telegram.refusal_unsent", reason=str(failure))

    async def _press(self, press: Press, cursor: str) -> None:
        self._questions.note(press)  # before the host can show the answer
        answer = press.answer and replace(press.answer, sent_at=self._clock.time())  # Telegram does not say when
        is_first = answer is not None and await self._receive(answer, cursor)
        await self._questions.pressed(press, is_first=is_first)


def _album(update: Update) -> tuple[Any, Any] | None:  # the same
    """What the parts of one album have in common; None for anything else."""
    message = update.get("message") or update.get("channel_post")
    if not isinstance(message, dict) or not isinstance(message.get("chat"), dict) or not message.get("media_group_id"):
        return None
    return message["chat"].get("id"), message["media_group_id"]


@contextmanager
def explained() -> Iterator[None]:
    """Raise what ends an attempt to run the channel in words that say what to do."""
    try:
        yield
    except InvalidToken as error:
        raise ChannelRevoked(CHANNEL, _REVOKED) from error
    except Conflict as error:
        raise NanoClawError(WEBHOOK if "webhook" in error.message else _SHARED) from error
    except TelegramError as error:
        raise NanoClawError(f"Telegram cannot be asked for messages: {error.message}. It keeps them for a day.") from error
