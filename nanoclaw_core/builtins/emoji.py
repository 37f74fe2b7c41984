"""The emoji with which an agent reacts: any character that is one, or the name of a common one."""

from __future__ import annotations

import unicodedata
from typing import Final

from nanoclaw_core.errors import ActionRefused

NAMED: Final = {
    "thumbs_up": "👍",
    "thumbs_down": "👎",
    "heart": "❤️",
    "fire": "🔥",
    "clap": "👏",
    "tada": "🎉",
    "smile": "😊",
    "joy": "😂",
    "thinking": "🤔",
    "surprised": "😮",
    "sad": "😢",
    "pray": "🙏",
    "ok_hand": "👌",
    "eyes": "👀",
    "rocket": "🚀",
    "hundred": "💯",
    "check": "✅",
    "cross": "❌",
    "wave": "👋",
    "hourglass": "⏳",
}
_OTHER_NAMES: Final = {"+1": "thumbs_up", "-1": "thumbs_down", "like": "thumbs_up", "love": "heart", "100": "hundred"}
_JOINERS: Final = "\u200d\ufe0f\ufe0e\u20e3"
_LONGEST: Final = 16  # code points: a family with skin tones has ten


def emoji_of(text: str) -> str:
    """The emoji that `text` is or names.

    >>> emoji_of("thumbs_up"), emoji_of(":Tada:"), emoji_of("🦆"), emoji_of("👩🏽‍🚀")
    ('👍', '🎉', '🦆', '👩🏽‍🚀')

    Raises:
        ActionRefused: it is none.
    """
    plain = text.strip()
    name = plain.strip(":").lower().replace(" ", "_").replace("-", "_") if len(plain) > 2 else plain
    found = NAMED.get(_OTHER_NAMES.get(name, name))
    if found is None and not _is_emoji(plain):
        raise ActionRefused(f"{text!r:.40} is no emoji. Give one as a character, or one of these names: {', '.join(NAMED)}.")
    return found or plain


def _is_emoji(text: str) -> bool:
    """Whether it is symbols and what joins or tints them, and nothing that is read as text."""
    kinds = [unicodedata.category(character) for character in text]
    is_made_of_signs = all(kind in ("So", "Sk") or character in _JOINERS for kind, character in zip(kinds, text, strict=True))
    return "So" in kinds and is_made_of_signs and len(text) <= _LONGEST
