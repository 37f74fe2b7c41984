"""Does an agent answer this message?"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from nanoclaw_core.errors import InvalidPattern
from nanoclaw_core.models import EngageMode, InboundMessage, Wiring

EVERYTHING = "."


def engages(wiring: Wiring, message: InboundMessage) -> bool:
    """Whether `wiring` makes its agent answer `message`; see `Wiring` for the rules.

    Raises:
        InvalidPattern: the pattern was stored before patterns were checked, or edited by hand.
    """
    text = unicodedata.normalize("NFC", message.text)
    if wiring.engage_mode is EngageMode.MENTION:
        return message.is_mention or trigger_word(wiring.pattern).search(text) is not None
    return wiring.pattern == EVERYTHING or _pattern(wiring.pattern).search(text) is not None


@lru_cache(maxsize=256)
def trigger_word(word: str) -> re.Pattern[str]:
    """A pattern that finds `word` where no letter, digit or underscore of any script touches it.

    >>> [bool(trigger_word("@Andy").search(text)) for text in ("hi @andy!", "@Andyx", "ann@Andy.example")]
    [True, False, False]
    >>> [bool(trigger_word(word).search(word + " hello")) for word in ("@José", "@🤖")]
    [True, True]
    """
    composed = unicodedata.normalize("NFC", word.strip())
    # Only a word character can be continued: after '@🤖' anything may follow at once.
    end = r"(?!\w)" if re.search(r"\w\Z", composed) else ""
    return re.compile(r"(?<!\w)" + re.escape(composed) + end, re.IGNORECASE)


@lru_cache(maxsize=256)
def _pattern(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise InvalidPattern(pattern, str(error)) from error
