"""Names of files that somebody else chose, made fit for every file system and for every eye."""

from __future__ import annotations

import mimetypes
import re
import unicodedata
from typing import Final

MOST_BYTES: Final = 120
_FORBIDDEN: Final = re.compile(r'[<>:"|?*]')
_RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)  # on Windows, with any ending
_LONGEST_ENDING: Final = 20
_TYPES: Final = mimetypes.MimeTypes()  # those that Python knows: the same on every machine


def clean_name(name: str) -> str:
    """A bare file name out of anything: no path, nothing invisible, not hidden, not reserved, at most 120 bytes long.

    >>> [clean_name(name) for name in ("../../etc/.passwd", "C:\\\\tmp\\\\aux.txt", "in\\u202evoice?\\n.pdf", "..")]
    ['passwd', '_aux.txt', 'invoice_.pdf', 'file']
    """
    return bare_name(name) or "file"


def bare_name(name: str) -> str:
    """The same; '' where nothing is left."""
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name))[-1]
    seen = "".join(" " if character.isspace() else character for character in last if not _is_invisible(character))
    plain = _FORBIDDEN.sub("_", seen).strip(" .")
    return _short(f"_{plain}" if _RESERVED.match(plain) else plain)


def media_type(name: str) -> str:
    """What a file's ending says that it is; '' where it says nothing.

    >>> media_type("report.PDF"), media_type("Makefile")
    ('application/pdf', '')
    """
    return _TYPES.guess_type(name)[0] or ""


def _is_invisible(character: str) -> bool:
    """Controls, marks that turn the direction of reading, halves of characters, and what nobody has assigned."""
    return unicodedata.category(character).startswith("C")


def _short(name: str) -> str:
    """Cut before the ending, which says what the file is."""
    stem, dot, ending = name.rpartition(".")
    if not stem or len(ending.encode()) > _LONGEST_ENDING:
        stem, dot, ending = name, "", ""
    room = MOST_BYTES - len(f"{dot}{ending}".encode())
    return stem.encode()[:room].decode(errors="ignore").rstrip(" .") + dot + ending
