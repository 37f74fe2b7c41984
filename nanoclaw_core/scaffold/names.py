"""What a new plugin may be called, and what follows from its name."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from nanoclaw_core.errors import PackageNotMade

#: So that every line of the templates with a name in it stays short enough.
_LONGEST: Final = 30
_RULE: Final = f"a letter, then letters and digits, all lower-case, in words joined by single '-', at most {_LONGEST} in all"
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_PREFIX: Final = "nanoclaw-"

#: `nanoclaw-core` is NanoClaw, and `nanoclaw_runner` the package in the workers' image.
_RESERVED: Final = frozenset({"core", "runner"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginName:
    """The name of a plugin, such as 'carrier-pigeon'."""

    text: str

    @property
    def distribution(self) -> str:
        """'nanoclaw-carrier-pigeon'"""
        return _PREFIX + self.text

    @property
    def module(self) -> str:
        """'nanoclaw_carrier_pigeon'"""
        return self.distribution.replace("-", "_")

    @property
    def action(self) -> str:
        """'carrier_pigeon', as agents call their tools."""
        return self.text.replace("-", "_")

    @property
    def class_name(self) -> str:
        """'CarrierPigeon'"""
        return "".join(word.capitalize() for word in self.text.split("-"))

    @property
    def variable(self) -> str:
        """'CARRIER_PIGEON', with which its environment variables begin."""
        return self.action.upper()


def named(text: str, taken: Collection[str]) -> PluginName:
    """The name `text`, which none of `taken`, what NanoClaw itself offers, has.

    Raises:
        PackageNotMade: with a name that can be used.
    """
    if text in _RESERVED or text in taken:
        raise PackageNotMade(text, f"NanoClaw itself has this name. Choose another, such as {_shortened('my-' + text)!r}")
    if not _NAME.fullmatch(text) or len(text) > _LONGEST or text.startswith(_PREFIX):
        suggestion = _suggested(text)
        if suggestion in _RESERVED or suggestion in taken:
            suggestion = _shortened("my-" + suggestion)
        reason = f"a name is {_RULE}; {_PREFIX!r} is put before it. Choose another, such as {suggestion!r}"
        raise PackageNotMade(text, reason)
    return PluginName(text=text)


def _suggested(text: str) -> str:
    """The valid name that is nearest to `text`."""
    letters = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = [word for word in re.split(r"[^a-z0-9]+", letters) if word]
    while words and (words[0] == "nanoclaw" or not words[0][0].isalpha()):
        words = [word for word in (words[0].lstrip("0123456789"), *words[1:]) if word and word != "nanoclaw"]
    return _shortened("-".join(words)) or "carrier-pigeon"


def _shortened(text: str) -> str:
    return text[:_LONGEST].rstrip("-")
