"""Known secrets, and texts in which *** stands for them."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final
from urllib.parse import quote

HIDDEN: Final = "***"
#: A shorter value would hide half of what is said, and is no secret that could be kept.
SHORTEST: Final = 6
_MOST_PASSING: Final = 256
#: Credentials that are known by where they stand; quotes may be escaped, as in JSON within JSON.
_HEADER: Final = re.compile(
    r"""(?ix) (\b(?:proxy-)?authorization | \b(?:x-)?api-key | \bset-cookie | \bcookie) (\\*["']? \s* [:=]+ \s* \\*["']?)
    ((?:bearer|basic|token) \s+)? [^\s"'\\,;(){}\[\]*]+"""
)
_BEARER: Final = re.compile(r"(?i)\b(bearer\s+)[A-Za-z0-9._~+/=-]{16,}")
_IN_URL: Final = re.compile(r"(://[^/\s:@\"']*:)[^/\s@\"']+@")


class Mask:
    """Hides secrets in texts, however they are spelt there: as they are, as in JSON, in Python or in a URL."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._lasting: set[str] = set()
        self._passing: deque[tuple[str, ...]] = deque(maxlen=_MOST_PASSING)
        self._known: re.Pattern[str] | None = None
        self.add(secrets)

    def add(self, secrets: Iterable[str]) -> None:
        """Hide these from now on."""
        self._lasting.update(secrets)
        lines = {line.strip() for secret in self._lasting for line in secret.splitlines()}  # whoever shows one may show a line
        texts = lines | {secret.strip() for secret in self._lasting}
        longest_first = sorted({form for text in texts for form in _forms(text)}, key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def add_passing(self, secret: str) -> None:
        """Hide one that soon means nothing any more: it is forgotten when 256 others have come."""
        self._passing.append(tuple({*_forms(secret.strip())}))  # no pattern of all: Python would keep hundreds of those

    def __call__(self, text: str) -> str:
        """`text` without any of them, and without credentials that are known by their place, in headers and addresses.

        >>> Mask(["sk-test-123"])("refused sk-test-123; sent Authorization: Bearer abc")
        'refused ***; sent Authorization: Bearer ***'
        """
        if self._known:
            text = self._known.sub(HIDDEN, text)
        for form in chain.from_iterable(self._passing):
            text = text.replace(form, HIDDEN)
        text = _HEADER.sub(lambda found: f"{found[1]}{found[2]}{found[3] or ''}{HIDDEN}", text)
        return _IN_URL.sub(rf"\1{HIDDEN}@", _BEARER.sub(rf"\1{HIDDEN}", text))


def _forms(secret: str) -> Iterator[str]:
    if len(secret) >= SHORTEST:
        yield from (secret, json.dumps(secret)[1:-1], json.dumps(json.dumps(secret)[1:-1])[1:-1])
        yield from (repr(secret)[1:-1], quote(secret, safe=""))
