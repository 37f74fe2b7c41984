"""Pairing: whoever sends the code of a channel to it in a private chat becomes an owner, and that chat the main agent's.

A code is good for ten minutes and for one person. Ten wrong guesses, whoever makes them in whatever chats of the channel, end
it; so does sending it in a group, where others have read it. The code of another channel is not touched by any of that. The
message that is the code is stored nowhere; the database keeps the SHA-256 of the code, which is 50 random bits.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
import unicodedata
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import anyio
import structlog
from anyio.abc import TaskStatus

from nanoclaw_core.journal import cleaned, is_wired, store_cursor
from nanoclaw_core.models import Address, EngageMode, Event, InboundKind, InboundMessage
from nanoclaw_core.ports import Clock
from nanoclaw_core.store import agents, chats, people
from nanoclaw_core.store.database import Connection, Database
from nanoclaw_core.store.pairings import Pairing, PairingEnd, all_pairings, open_pairing, save_pairing
from nanoclaw_core.supervise import survive

log = structlog.get_logger()

GOOD_FOR: Final = 600.0
MOST_GUESSES: Final = 10
#: Without 0, 1, I and O, which look alike: 32 signs, five bits each.
_ALPHABET: Final = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"
_LENGTH: Final = 10
_LONGEST: Final = 64  # characters of a message that could be a code, with everything that people put around it
_COMMAND: Final = re.compile(r"/start(?:@\w+)?\s+", re.IGNORECASE)
_BETWEEN: Final = re.compile(r"[\s\-\u2010-\u2015\u2212_`'\"]")
_CODE: Final = re.compile(rf"(?=.*[2-9])(?=.*[A-Z])[{_ALPHABET}]{{{_LENGTH}}}")
#: Also what was mistyped is meant as one, and answered.
_ATTEMPT: Final = re.compile(rf"(?=.*[0-9])(?=.*[A-Z])[0-9A-Z]{{{_LENGTH - 2},{_LENGTH + 2}}}")
_WRITTEN: Final = (InboundKind.MESSAGE, InboundKind.EDIT)
_ANSWERS_IN_A_CHAT: Final = 3
_CHATS_ANSWERED: Final = 1000
_ANSWERS_WAITING: Final = 64

_PAIRED = "You are paired: this chat is {agent}'s now, and {agent} hears everything that you write here."
_AGAIN = "`nanoclaw channel pair {channel}` makes another code."
_OLD = {
    None: "This code has expired. ",
    PairingEnd.PAIRED: "This code was used already. ",
    PairingEnd.GUESSED: "This code is void: there were too many wrong ones. ",
    PairingEnd.SEEN: "This code is void: it was sent where others could read it. ",
}
_WRONG = "This is not the pairing code, or not any more."
_GROUP = "A pairing code is not for a group: send it to me in a private chat."
_GROUP_SEEN = f"{_GROUP} This one is void now, because everybody here has seen it. {_AGAIN}"
_NEWS = {
    PairingEnd.GUESSED: "The pairing code that {channel} got at {time} is void: {guesses} wrong ones were tried. " + _AGAIN,
    PairingEnd.SEEN: "The pairing code that {channel} got at {time} is void: it was sent in a group. " + _AGAIN,
}


def new_code() -> str:
    """A fresh code as it is shown: two groups of five, with a digit and a letter at least, so that no word is one.

    What that rules out costs less than a tenth of a bit of the 50.
    """
    while not _CODE.fullmatch(code := "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))):
        pass
    return f"{code[:5]}-{code[5:]}"


def code_in(text: str) -> str | None:
    """The code that a message is meant to be, whatever its case, its hyphen and spaces; None where it cannot be one.

    >>> [code_in(text) for text in ("k7mpq 3txyz", "/start K7MPQ-3TXYZ", "K7MPQ–3TXYZ", "absolutely", "K7MPQ3TXYZ please")]
    ['K7MPQ3TXYZ', 'K7MPQ3TXYZ', 'K7MPQ3TXYZ', None, None]
    """
    if len(text) > _LONGEST:
        return None
    bare = _BETWEEN.sub("", _COMMAND.sub("", unicodedata.normalize("NFKC", text).strip(), count=1)).upper()
    return bare if _ATTEMPT.fullmatch(bare) else None


def begin_pairing(connection: Connection, channel: str, now: float) -> tuple[str, Pairing]:
    """Make a code for a channel; an earlier one is good for nothing any more."""
    code = new_code()
    hashed = _hash(channel, code.replace("-", ""))
    return code, open_pairing(connection, channel=channel, code_hash=hashed, now=now, expires_at=now + GOOD_FOR)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Verdict:
    """What a message was to a pairing: `is_code`, so that nobody else may see it; what to answer; how the pairing is now."""

    pairing: Pairing
    is_code: bool = True
    answer: str = ""


class Pairings:
    """The codes of a host's channels. `say` answers in a chat; `tell_owner` gets the text, and what it is about.

    What is known of them is kept in memory, too, so that a flood of messages that are no code costs nothing.
    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        say: Callable[[Address, str], Awaitable[None]],
        tell_owner: Callable[[str, Address], Awaitable[None]],
        tell: Callable[[Event], None],
    ) -> None:
        self._database = database
        self._clock = clock
        self._say = say
        self._tell_owner = tell_owner
        self._tell = tell
        self._known: dict[str, Pairing] = {}
        self._answered: Counter[Address] = Counter()
        self._unsaid: deque[Callable[[], Awaitable[None]]] = deque()
        self._asked = anyio.Event()

    async def load(self) -> None:
        """Learn what was made before this host began."""
        self._known = await self._database.read(all_pairings)

    async def begin(self, channel: str) -> str:
        """A code for `channel`, as it is shown; an earlier one is void."""
        begin = partial(begin_pairing, channel=channel, now=self._clock.time())
        code, self._known[channel] = await self._database.write(begin)
        self._answered.clear()
        return code

    async def run(self, task_status: TaskStatus[None]) -> None:
        """Say what there is to say, until cancelled: a channel that hands in a message must not wait for its own answers."""
        task_status.started()
        while True:
            while self._unsaid:
                await survive("pairing", self._unsaid[0]())
                self._unsaid.popleft()
            self._asked = anyio.Event()
            await self._asked.wait()

    async def take(self, message: InboundMessage, cursor: str | None) -> bool:
        """Whether the message was a pairing code: then all there is to do is done, and `cursor` stored in the same transaction.

        A wrong guess is only counted, and a message like any other.
        """
        address, pairing = message.address, self._known.get(message.address.channel)
        if pairing is None or message.kind not in _WRITTEN or (code := code_in(message.text)) is None:
            return False
        if message.sender.is_own or not message.sender.handle:
            return False
        hashed, now = _hash(address.channel, code), self._clock.time()
        if not hmac.compare_digest(hashed, pairing.code_hash) and not pairing.is_open(now):
            return False
        judge = partial(_judge, message=cleaned(message), cursor=cursor, hashed=hashed, now=now)
        verdict = await self._database.write(judge)
        self._known[address.channel] = verdict.pairing
        self._report(message, pairing, verdict)
        return verdict.is_code

    def _report(self, message: InboundMessage, before: Pairing, verdict: _Verdict) -> None:
        address, after = message.address, verdict.pairing
        if verdict.answer and self._may_answer(address):
            self._speak(partial(self._say, address, verdict.answer))
        if before.end is after.end:
            return
        log.info("pairing.ended", channel=after.channel, end=after.end, guesses=after.guesses)
        if after.end is PairingEnd.PAIRED:
            self._tell(Event(name="channel.paired", at=self._clock.time(), data={"channel": after.channel}))
        elif after.end is not None:
            made = time.strftime("%H:%M UTC", time.gmtime(after.expires_at - GOOD_FOR))
            news = _NEWS[after.end].format(channel=after.channel, time=made, guesses=after.guesses)
            self._speak(partial(self._tell_owner, news, address))

    def _may_answer(self, address: Address) -> bool:
        chat = replace(address, thread=None)
        if chat not in self._answered and len(self._answered) >= _CHATS_ANSWERED:
            return False
        self._answered[chat] += 1
        return self._answered[chat] <= _ANSWERS_IN_A_CHAT

    def _speak(self, words: Callable[[], Awaitable[None]]) -> None:
        if len(self._unsaid) < _ANSWERS_WAITING:  # nobody is that eager to hear more
            self._unsaid.append(words)
            self._asked.set()


def _judge(connection: Connection, message: InboundMessage, cursor: str | None, hashed: str, now: float) -> _Verdict:
    """One transaction: what the message is to its channel's pairing as it stands now, with everything that follows from it."""
    pairing = all_pairings(connection)[message.address.channel]
    if not hmac.compare_digest(hashed, pairing.code_hash):
        return _guessed(connection, pairing, message, now)
    store_cursor(connection, message.address, cursor)
    if pairing.end is PairingEnd.PAIRED and pairing.used_by == _key(message):  # the platform repeats it
        return _Verdict(pairing=pairing, answer=_welcome(connection))
    if not pairing.is_open(now):
        return _Verdict(pairing=pairing, answer=_OLD[pairing.end] + _AGAIN.format(channel=pairing.channel))
    if message.is_group:
        after, answer = replace(pairing, end=PairingEnd.SEEN), _GROUP_SEEN.format(channel=pairing.channel)
    else:
        after, answer = replace(pairing, end=PairingEnd.PAIRED, used_by=_key(message)), _welcome(connection)
        _pair(connection, message, now)
    save_pairing(connection, after)
    return _Verdict(pairing=after, answer=answer)


def _guessed(connection: Connection, pairing: Pairing, message: InboundMessage, now: float) -> _Verdict:
    """A wrong guess counts wherever it is made; in a chat that an agent hears it gets no answer from us."""
    if not pairing.is_open(now):
        return _Verdict(pairing=pairing, is_code=False)
    guesses = pairing.guesses + 1
    after = replace(pairing, guesses=guesses, end=PairingEnd.GUESSED if guesses >= MOST_GUESSES else None)
    save_pairing(connection, after)
    is_ours = is_wired(connection, message.address)
    return _Verdict(pairing=after, is_code=False, answer="" if is_ours else _GROUP if message.is_group else _WRONG)


def _pair(connection: Connection, message: InboundMessage, now: float) -> None:
    """Make the sender an owner, and the chat one of the main agent's, which hears everything there."""
    address, name = message.address, message.sender.name
    user = message.sender.user_id(address.channel)
    people.upsert_user(connection, user, name, now)
    people.grant(connection, user, people.OWNER, now)
    main = agents.main_agent_group(connection)
    assert main is not None  # noqa: S101  # made at the first start
    where = {"channel": address.channel, "account": address.account, "chat": address.chat}
    chat = chats.ensure_messaging_group(connection, **where, name=message.chat_name or name, is_group=False, now=now)
    ends = {"messaging_group_id": chat.id, "agent_group_id": main.id}
    chats.wire(connection, **ends, engage_mode=EngageMode.PATTERN, pattern=".", now=now)


def _welcome(connection: Connection) -> str:
    main = agents.main_agent_group(connection)
    return _PAIRED.format(agent=main.name if main else "your assistant")


def _key(message: InboundMessage) -> str:
    """The hash of what names a message on its platform: ids alone, of a chat that may be nobody's."""
    address = message.address
    return hashlib.sha256(repr((address.account, address.chat, message.message_id)).encode()).hexdigest()


def _hash(channel: str, code: str) -> str:
    return hashlib.sha256(f"{channel} {code}".encode()).hexdigest()
